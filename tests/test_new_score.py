"""A new line in `METRICS` is a score everywhere: tables of training and evaluation, the report, and `--monitor`."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

from conftest import write_pairs
from sam_adapter.config.choices import monitors_in_words
from sam_adapter.config.registry import METRICS
from sam_adapter.config.scores import with_kinds

KINDS = ("box", "points", "none")
PROGRAM = """
import json, sys, types
from sam_adapter.config import registry

toy = types.ModuleType("sam_adapter.toy")
toy.missed = lambda counts: 1 + counts.fn / (counts.tp + counts.fn).clamp(min=1)
toy.purity = lambda counts: counts.tp / (counts.tp + counts.fp).clamp(min=1)
sys.modules["sam_adapter.toy"] = toy
entry = registry.MetricEntry
first = {"missed": entry(place="toy:missed", heading="Missed", lower_is_better=True, detailed=False)}
registry.METRICS = first | dict(registry.METRICS) | {"purity": entry(place="toy:purity", heading="Purity")}
from sam_adapter.cli import main

for command in json.loads(sys.argv[1]):
    status = 0
    try:
        main(command)
    except SystemExit as end:
        status = end.code
    sys.stdout.flush()
    print(f"ended with {status}", file=sys.stderr, flush=True)
"""


def told_by(*commands: list[str]) -> list[tuple[int, str]]:
    """Status and words of commands, with a score before the others, of which less is better, and one after them.

    All commands share a process: to start takes longer than to run.
    """
    program = [sys.executable, "-c", PROGRAM, json.dumps(commands)]
    done = subprocess.run(program, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    pieces = re.split(r"ended with (\d+)\n", done.stdout)
    return [(int(status), words) for words, status in zip(pieces[::2], pieces[1::2], strict=False)]


def test_a_new_score_is_in_all_that_scores_are_in(tmp_path: Path, sam_folder: str):
    pairs, output, scores = write_pairs(tmp_path / "pairs"), tmp_path / "run", tmp_path / "scores"
    data = ("--images", str(pairs / "images"), "--masks", str(pairs / "masks"), "--workers", "0")
    run = ["train", *data, "--model", sam_folder]
    own = ["--epochs", "2", "--lr", "1e-2", "--val-fraction", "0.34", "--monitor", "missed"]
    (trained, said), (refused, cure), (evaluated, told) = told_by(
        [*run, "--output", str(output), *own],
        [*run, "--output", str(tmp_path / "other"), "--prompt", "box", "--monitor", "purity_points"],
        ["evaluate", *data, "--adapter", str(output / "adapter"), "--output", str(scores), "--report"],
    )
    assert (trained, refused, evaluated) == (0, 2, 0)
    assert "val missed 1." in said
    assert "val purity 0." in said
    with (output / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = [name.removeprefix("val_") for name in rows[0] if name.startswith("val_")]
    more = ["purity", *(f"purity_{kind}" for kind in KINDS)]
    assert columns == ["loss", "missed", *with_kinds(KINDS)[:-1], *more, "ber", "empty_correct"]
    description = json.loads((output / "adapter/sam_adapter.json").read_text())
    best = min(rows[1:], key=lambda row: float(row["val_missed"]))
    assert description["epoch"] == int(best["epoch"])
    assert float(rows[1]["train_iou"]) < 1 < float(best["val_missed"])  # the score before IoU does not take its place
    possible = ["missed", *with_kinds(["box"])[:-1], "purity", "purity_box", "ber", "loss"]
    assert f"possible are {monitors_in_words(possible)}" in cure

    result = json.loads((scores / "metrics.json").read_text())
    assert 0 <= result["purity_low"] <= result["purity"] <= result["purity_high"] <= 1
    table = next(line for line in told.splitlines() if "Dice" in line)
    own = [f"{one.heading} 95 %" if one.detailed else one.heading for one in METRICS.values()]
    assert " ".join(table.split()) == f"Missed {' '.join(own)} Purity 95 % BER %"
    assert f"{result['purity']:.4f}" in told
    with (scores / "per_image.csv").open(newline="") as file:
        assert (
            " ".join(next(csv.reader(file))) == f"name model prompt missed {' '.join(METRICS)} purity ber tp fp fn tn"
        )
    page = (scores / "report.html").read_text(encoding="utf-8")
    for heading in ("Missed", "Purity", "95 % of Purity"):
        assert f'<th scope="col">{heading}</th>' in page
    assert '<button type="button">Purity</button>' in page
    lower = [one.heading for one in METRICS.values() if one.lower_is_better]
    assert f"but for {', '.join(['Missed', *lower])} and BER." in page
