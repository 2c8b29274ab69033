"""The forms of attention side by side: right, fast and small, in SAM's global and window blocks and on odd grids.

    python benchmarks/attention.py --heads 12 --output benchmarks/results/attention.csv

Each row has the largest relative error of the result and of all gradients against the definition in float64, seconds
of the forward and of the backward pass, and on a GPU the most memory that was handed out beyond the inputs. `auto` on a
GPU is chosen by this table; on a CPU flex has no backward pass and is left out. Rows are added at the end of the table.
"""

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from machine import machine
from sam_adapter.kernels.attention import ATTENTION
from sam_adapter.kernels.windows import HeadLayout
from sam_adapter.system.machine import Machine


@dataclass(frozen=True)
class Case:
    """A grid of tokens and the side of its windows, 0 for the whole grid."""

    name: str
    height: int
    width: int
    window: int
    images: int = 1


CASES = (
    Case("global 64x64", 64, 64, 0),
    Case("windows of 14x14", 64, 64, 14),
    Case("global 48x64, 2 images", 48, 64, 0, 2),
    Case("global 37x23", 37, 23, 0),
    Case("windows of 14x14, 37x23", 37, 23, 14),
)
"""SAM's blocks at 1024 pixels, several images, and grids that fill neither windows nor tiles."""


def inputs(case: Case, heads: int, dtype: torch.dtype, device: str) -> list[Tensor]:
    """Projected tokens, both tables and the fill; the tokens have a gradient."""
    generator = torch.Generator(device).manual_seed(case.height * case.width)
    wide, sides = 3 * 64 * heads, [case.window or side for side in (case.height, case.width)]
    tokens = torch.randn(case.images, case.height, case.width, wide, device=device, generator=generator)
    tables = [0.1 * torch.randn(2 * side - 1, 64, device=device, generator=generator) for side in sides]
    fill = torch.randn(wide, device=device, generator=generator)
    return [tokens.to(dtype).requires_grad_(), *tables, fill.to(dtype)]


def error(case: Case, heads: int, form: str, dtype: torch.dtype, device: str) -> float:
    """Largest error of result and gradients against float64, as a share of the reference's norm."""
    layout = HeadLayout(heads, 0.125, case.window)
    found: list[list[Tensor]] = []
    given = inputs(case, heads, dtype, device)
    for one, kind in ((form, dtype), ("plain", torch.float64)):
        tokens, rows, columns, fill = (part.detach().to(kind) for part in given)
        learned = [part.requires_grad_() for part in (tokens, rows, columns)]
        attended = ATTENTION[one](tokens, rows, columns, fill, layout)
        weights = torch.linspace(-1, 1, attended.shape[-1], device=device, dtype=torch.float64).to(kind)
        gradients = torch.autograd.grad((attended * weights).sum(), learned)
        found.append([attended.detach(), *gradients])
    return max(
        float((one.double() - reference.double()).norm() / reference.double().norm())
        for one, reference in zip(*found, strict=True)
    )


def timed(case: Case, heads: int, form: str, dtype: torch.dtype, device: str, repeats: int) -> dict[str, float]:
    """Seconds of the forward and of the backward pass, the best of several, and memory; the tables are frozen."""
    clock = Machine.choose(device=device).clock
    layout = HeadLayout(heads, 0.125, case.window)
    tokens, rows, columns, fill = inputs(case, heads, dtype, device)
    forward, backward = [], []
    held = 0
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
    for _ in range(repeats + 1):
        began = clock()
        attended = ATTENTION[form](tokens, rows, columns, fill, layout)
        forward.append(clock() - began)
        gradient = torch.ones_like(attended)
        began = clock()
        torch.autograd.grad(attended, tokens, gradient)
        backward.append(clock() - began)
    found = {"forward_s": min(forward[1:]), "backward_s": min(backward[1:])}
    if device == "cuda":
        found["peak_gb"] = (torch.cuda.max_memory_allocated() - held) / 1e9
    return found


COLUMNS = ["date", "machine", "versions", "heads", "block", "dtype", "form", "error", "forward_s", "backward_s"]
COLUMNS += ["peak_gb"]


def main() -> None:
    """Measure all forms, a row each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--forms", nargs="+", choices=list(ATTENTION), default=list(ATTENTION))
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    about: dict[str, Any] = {**machine(options.device), "heads": options.heads}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    new = not options.output.exists()
    with options.output.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
        if new:
            writer.writeheader()
        for form in options.forms:
            if form == "flex" and options.device == "cpu":
                continue
            for case in CASES:
                for dtype in (torch.float32, torch.bfloat16):
                    row = {"block": case.name, "dtype": str(dtype).removeprefix("torch."), "form": form}
                    row["error"] = f"{error(case, options.heads, form, dtype, options.device):.1e}"
                    times = timed(case, options.heads, form, dtype, options.device, options.repeats)
                    row |= {name: f"{value:.5f}" for name, value in times.items()}
                    writer.writerow({**about, **row})
                    file.flush()
                    print(row, flush=True)


if __name__ == "__main__":
    main()
