"""Write the tables of benchmarks/README.md from benchmarks/results, between the comments that name them.

python benchmarks/tables.py
"""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results"
Row = dict[str, str]


def rows_of(name: str) -> list[Row]:
    """Rows of a CSV of results, without the remark at its end."""
    with (RESULTS / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


def markdown(headers: str, lines: list[list[Any]]) -> str:
    """A table; headers are separated by ``|``."""
    names = [name.strip() for name in headers.split("|")]
    table = [names, ["---"] * len(names), *lines]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in table)


def variants() -> str:
    """Every variant beside the eager one of the same case."""
    rows = rows_of("variants")
    eager = {(row["image_size"], row["batch_size"]): row for row in rows if row["variant"] == "eager-float32"}
    lines = []
    for row in sorted(rows, key=lambda row: (int(row["image_size"]), int(row["batch_size"]), row["variant"])):
        peer = eager[row["image_size"], row["batch_size"]]
        faster, part = float(peer["step_s"]) / float(row["step_s"]), float(row["peak_gb"]) / float(peer["peak_gb"])
        case = [row["image_size"], row["batch_size"], row["variant"], f"{float(row['forward_s']):.2f}"]
        step = [f"{float(row['step_s']):.2f}", f"{faster:.2f}x", f"{float(row['peak_gb']):.2f}", f"{part:.2f}"]
        lines.append([*case, *step, row["share_of_matrix_rate"]])
    headers = "size|batch|variant|forward s|step s|against eager|peak GB|of eager|share of matrix rate"
    return markdown(headers, lines)


def sizes() -> str:
    """Time by image size, beside the count."""
    lines = []
    for row in rows_of("sizes"):
        step, count = float(row["step_s"]), float(row["tflop"])
        cost = [f"{count:.2f}", f"{step:.2f}", f"{step / count:.2f}"]
        lines.append([row["image_size"], *cost, f"{float(row['peak_gb']):.2f}", row["share_of_matrix_rate"]])
    return markdown("image size|counted TFLOP|step s|seconds a TFLOP|peak GB|share of matrix rate", lines)


def batches() -> str:
    """Time and memory by batch size."""
    lines = []
    for row in rows_of("batches"):
        step, images = float(row["step_s"]), int(row["batch_size"])
        lines.append([images, f"{step:.2f}", f"{step / images:.2f}", f"{float(row['peak_gb']):.2f}"])
    return markdown("batch|step s|seconds an image|peak GB", lines)


def ladder() -> str:
    """Speed and memory of every model."""
    lines = []
    for row in rows_of("ladder"):
        step = float(row["step_s"])
        case = [row["image_size"], row["model"], row["variant"].removeprefix("fast-")]
        lines.append([*case, f"{step:.1f}", f"{3600 / step:.0f}", f"{float(row['peak_gb']):.1f}"])
    return markdown("size|model|variant|step s|images an hour|peak GB", lines)


def variants_gpu() -> str:
    """Every variant on a GPU, beside the eager one in the same precision."""
    rows = rows_of("variants_gpu")
    eager = {row["model"]: row for row in rows if row["variant"] == "eager-bfloat16"}
    lines = []
    for row in rows:
        peer = eager[row["model"]]
        step, peak = float(row["step_s"]), float(row["peak_gb"])
        case = [row["model"], row["variant"], f"{1000 * float(row['forward_s']):.0f}", f"{1000 * step:.0f}"]
        share = f"{peak / float(peer['peak_gb']):.2f}"
        lines.append([*case, f"{float(peer['step_s']) / step:.2f}x", f"{peak:.1f}", share])
    return markdown("model|variant|forward ms|step ms|against eager-bfloat16|peak GB|of eager-bfloat16", lines)


def attention() -> str:
    """The forms alone, on a CPU."""
    lines = []
    for row in rows_of("attention"):
        times = [f"{1000 * float(row[one]):.0f}" for one in ("forward_s", "backward_s")]
        lines.append([row["block"], row["dtype"], row["form"], row["error"], *times])
    return markdown("block|precision|form|error|forward ms|backward ms", lines)


def attention_gpu() -> str:
    """The forms alone, on a GPU."""
    lines = []
    for row in rows_of("attention_gpu"):
        times = [f"{1000 * float(row[one]):.2f}" for one in ("forward_s", "backward_s")]
        lines.append([row["block"], row["dtype"], row["form"], row["error"], *times, f"{float(row['peak_gb']):.2f}"])
    return markdown("block|precision|form|error|forward ms|backward ms|peak GB", lines)


def cache() -> str:
    """Epochs with and without kept embeddings."""
    found = json.loads((RESULTS / "cache.json").read_text(encoding="utf-8"))
    lines = [
        [kind, ", ".join(f"{seconds:.2f}" for seconds in found[f"epochs_{kind}_s"]), found[f"around_{kind}_s"]]
        for kind in ("without", "cached")
    ]
    table = markdown("|epochs 1, 2, 3 in s|before and after them s", lines)
    return f"{table}\n\nFrom the second epoch on {found['faster_from_the_second_epoch']} times as fast."


def predict() -> str:
    """Prediction against its encoder."""
    runs = json.loads((RESULTS / "predict.json").read_text(encoding="utf-8"))
    found = {(row["model"], row["image_size"]): row for row in runs}.values()  # the last of each
    columns = ("model", "image_size", "pictures", "encoder_s", "predict_s", "ratio")
    return markdown("model|size|pictures|encoder s|predict s|ratio", [[row[one] for one in columns] for row in found])


TABLES: tuple[Callable[[], str], ...] = (
    variants,
    variants_gpu,
    sizes,
    batches,
    ladder,
    attention,
    attention_gpu,
    cache,
    predict,
)


def main() -> None:
    """Put every table in its place."""
    page = HERE / "README.md"
    text = page.read_text(encoding="utf-8")
    for table in TABLES:
        begin, end = f"<!-- {table.__name__} -->", f"<!-- /{table.__name__} -->"
        pieces = re.split(f"{begin}.*?{end}", text, flags=re.DOTALL)
        if len(pieces) != 2:
            raise SystemExit(f"{page}: expected one place '{begin} ... {end}', found {len(pieces) - 1}.")
        text = f"{pieces[0]}{begin}\n{table()}\n{end}{pieces[1]}"
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
