"""Absurd option values and broken adapter descriptions: none may end in a traceback, hang, or take gigabytes.

    python tools/fuzz.py --options 500 --descriptions 100 --seed 0

Each case is a whole command. Cases share one process, as importing PyTorch takes longer than any of them; a case that
takes more than 60 seconds ends the run. The commands' work is real, on a tiny random SAM and a few pictures.
"""

import argparse
import contextlib
import copy
import faulthandler
import io
import json
import random
import shutil
import sys
import tempfile
import time
import traceback
from dataclasses import fields
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from conftest import random_sam, write_pairs
from sam_adapter import cli
from sam_adapter.checkpoints.adapter import load, save_adapter
from sam_adapter.config.commands import CheckConfig, EvaluateConfig, PredictConfig
from sam_adapter.config.ranges import RANGES
from sam_adapter.config.training import TrainConfig
from sam_adapter.errors import SamAdapterError
from sam_adapter.segmenter import SamSegmenter
from sam_adapter.system.machine import Machine

HANG = 60
MOST_MEMORY = 2e9
VALUES = [
    *(
        "",
        " ",
        "0",
        "-1",
        "1",
        "nan",
        "inf",
        "-inf",
        "1e400",
        "1e-400",
        "99999999999999999999",
        "-99999999999999999999",
    ),
    *(
        "0.5",
        "1e30",
        "true",
        "null",
        "[]",
        "{}",
        "[1,2]",
        "box",
        "auto",
        "\x00",
        "a\x00b",
        "ü\udcff",
        "x" * 300,
        "/" * 50,
    ),
    *(
        ".",
        "..",
        "/",
        "/proc/self/mem",
        "/dev/null",
        "/dev/zero",
        "*",
        "**",
        "[",
        "{stem}",
        "{stem}{x}",
        "{",
        "(",
        "%s",
    ),
    *("!!python/object:os.system {}", "&a [*a]", "- - - -", "9" * 5000, "0x10", "1_000", "１", "--", "-", "'", '"'),
]
NUMBERS = ["0", "-1", "1", "2", "3", "0.5", "-0.0", "1e-30", "1e30", "256", "1000", "4096", "100000", "1" + "0" * 20]
TREES = ("/proc", "/", "*", "**", "..", ".")
"""Places that are never searched for pictures here: they hold whatever this machine holds."""
SEARCHED = {"images", "masks", "annotations", "input", "val_images", "val_masks", "val_annotations", "output"}
"""Options of folders."""
JUNK = [None, True, -1, 0, 0.5, 10**30, -(10**30), float("nan"), float("inf"), "", "x" * 10_000, [], {}, [[]], "sam"]


def arguments_of(command: str, root: Path, output: Path) -> list[str]:
    """A command line that works."""
    pairs = ["--images", str(root / "pairs/images"), "--masks", str(root / "pairs/masks")]
    machine = ["--accelerator", "cpu", "--workers", "0"]
    model, out = ["--model", str(root / "sam")], ["--output", str(output)]
    return {
        "check": pairs,
        "train": [*pairs, *machine, *model, *out, "--epochs", "1"],
        "evaluate": [*pairs, *machine, *model, *out],
        "predict": [*machine, *model, *out, "--input", str(root / "pairs/images")],
    }[command]


def run(arguments: list[str]) -> str | None:
    """What is wrong with how a command ended, if anything."""
    shown = io.StringIO()
    faulthandler.dump_traceback_later(HANG, exit=True)
    before = Machine.choose(device="cpu").peak_bytes()
    try:
        with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
            cli.main(arguments)
    except SystemExit as end:
        if end.code not in (0, 1, 2):
            return f"exit status {end.code}: {shown.getvalue()[-500:]}"
        if end.code == 2 and "error" not in shown.getvalue():
            return "no sentence"
    except BaseException:
        return traceback.format_exc()
    finally:
        faulthandler.cancel_dump_traceback_later()
    after = Machine.choose(device="cpu").peak_bytes()
    if "Traceback" in shown.getvalue():
        return shown.getvalue()[-3000:]
    return f"memory {after / 1e9:.1f} GB" if after > MOST_MEMORY and after > before else None


def absurd_options(count: int, rng: random.Random, root: Path) -> list[str]:
    """Run commands with one or two absurd values each."""
    kinds = {"check": CheckConfig, "train": TrainConfig, "evaluate": EvaluateConfig, "predict": PredictConfig}
    failures = []
    for number in range(count):
        command = rng.choice(list(kinds))
        output = root / f"out{number}"
        arguments = arguments_of(command, root, output)
        for _ in range(rng.choice([1, 1, 2])):
            name = rng.choice([field.name for field in fields(kinds[command])])
            value = rng.choice(NUMBERS if name in RANGES and rng.random() < 0.7 else VALUES)
            if (name, value) == ("compile", "true") or (name == "logger" and value == "wandb"):
                continue
            if value.startswith(TREES) and name in SEARCHED:
                value = str(root / "nowhere" / value.strip("/*"))
            arguments += [f"--{name}={value}"]
        if problem := run([command, *arguments]):
            failures.append(f"{command} {' '.join(map(ascii, arguments[-2:]))}: {problem}")
        shutil.rmtree(output, ignore_errors=True)
    return failures


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """Where something can be changed in nested dictionaries and lists."""
    found = [path] if path else []
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            found += places(inner, (*path, key))
    return found


def broken_descriptions(count: int, rng: random.Random, root: Path) -> list[str]:
    """Load adapters whose description, or the file as such, is damaged."""
    good = root / "adapter"
    sound = SamSegmenter.from_config(TrainConfig(images="i", masks="m", output="o", model=str(root / "sam")))  # type: ignore[arg-type]
    save_adapter(good, sound, scores={"iou": 0.5}, best_thresholds={"box": 0.4})
    text = (good / "sam_adapter.json").read_text()
    failures = []
    for number in range(count):
        folder = Path(shutil.copytree(good, root / f"adapter{number}"))
        values = json.loads(text)
        *parents, last = rng.choice(places(values))
        at = values
        for key in parents:
            at = at[key]
        way = rng.choice(["junk", "missing", "unknown", "cut", "weights"])
        if way == "junk":
            at[last] = copy.deepcopy(rng.choice(JUNK))
        elif way == "missing":
            del at[last]
        elif way == "unknown" and isinstance(at, dict):
            at["unknown"] = 1
        damaged = json.dumps(values)
        (folder / "sam_adapter.json").write_text(damaged[: rng.randrange(len(damaged))] if way == "cut" else damaged)
        if way == "weights":
            content = bytearray((folder / "sam_adapter.safetensors").read_bytes())
            for _ in range(rng.choice([1, 5])):
                content[rng.randrange(2000)] = rng.randrange(256)
            (folder / "sam_adapter.safetensors").write_bytes(content[: rng.choice([0, 7, 100, len(content)])])
        faulthandler.dump_traceback_later(HANG, exit=True)
        try:
            load(folder)
        except SamAdapterError as error:
            if str(folder) not in str(error):
                failures.append(f"{way} at {parents, last}: the file is not named: {error}")
        except Exception:
            failures.append(f"{way} at {parents, last}: {traceback.format_exc()}")
        faulthandler.cancel_dump_traceback_later()
        shutil.rmtree(folder)
    return failures


def main() -> None:
    """Run the cases and print what failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--options", type=int, default=500)
    parser.add_argument("--descriptions", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        root = Path(name)
        random_sam().save_pretrained(root / "sam")
        write_pairs(root / "pairs")
        with contextlib.chdir(root):
            failures = absurd_options(asked.options, random.Random(asked.seed), root)
            failures += broken_descriptions(asked.descriptions, random.Random(asked.seed), root)
    for failure in failures:
        print(failure, end="\n\n")
    peak = Machine.choose(device="cpu").peak_bytes() / 1e9
    print(
        f"{asked.options} option values, {asked.descriptions} descriptions: {len(failures)} failures, peak memory "
        f"{peak:.2f} GB, {time.monotonic() - began:.0f} s"
    )
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
