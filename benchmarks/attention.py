"""The forms of attention side by side: SAM's global and window blocks, forward and backward, by precision.

    python benchmarks/attention.py --heads 12 --output benchmarks/results/attention.csv

On a GPU this is the comparison by which `auto` should be chosen; on a CPU flex has no backward pass and is left out.
"""

import argparse
import csv
from pathlib import Path
from typing import Any

import torch

from machine import described
from sam_adapter.kernels.attention import ATTENTION
from sam_adapter.kernels.windows import HeadLayout
from sam_adapter.system.machine import Machine

BLOCKS = {"global 64x64": 0, "windows of 14x14": 14}
"""Kinds of block by the side of their windows, on the grid of an image of 1024 pixels."""


def timed(form: str, window: int, heads: int, dtype: torch.dtype, device: str, repeats: int) -> list[float]:
    """Seconds of the forward and of the backward pass; the best of several. Tables and fill are frozen."""
    clock = Machine.choose(device=device).clock
    wide = 3 * 64 * heads
    tokens = torch.randn(1, 64, 64, wide, device=device).to(dtype).requires_grad_()
    row_table, column_table = torch.randn(2, 2 * (window or 64) - 1, 64, device=device) * 0.1
    fill = torch.randn(wide, device=device).to(dtype)
    forward, backward = [], []
    for _ in range(repeats + 1):
        began = clock()
        attended = ATTENTION[form](tokens, row_table, column_table, fill, HeadLayout(heads, 0.125, window))
        forward.append(clock() - began)
        gradient = torch.ones_like(attended)
        began = clock()
        torch.autograd.grad(attended, tokens, gradient)
        backward.append(clock() - began)
    return [min(forward[1:]), min(backward[1:])]


def main() -> None:
    """Measure all forms and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    table: list[dict[str, Any]] = []
    for kind, window in BLOCKS.items():
        for dtype in (torch.float32, torch.bfloat16):
            for form in ATTENTION:
                if form == "flex" and options.device == "cpu":
                    continue
                seconds = timed(form, window, options.heads, dtype, options.device, options.repeats)
                names = {"block": kind, "dtype": str(dtype).removeprefix("torch."), "form": form}
                times = {name: f"{value:.4f}" for name, value in zip(("forward_s", "backward_s"), seconds, strict=True)}
                table.append({**names, **times})
                print(table[-1], flush=True)
    with options.output.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
        file.write(f"# {described(options.device)}\n")


if __name__ == "__main__":
    main()
