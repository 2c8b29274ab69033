"""What each hand-made path of a training step is worth, alone and together, whole steps in turn in one process.

    python benchmarks/fast_paths.py --model vit_b --image-size 1024 --precision float32 --rounds 2
    python benchmarks/fast_paths.py --model tiny --image-size 256 --batch-size 4 --precision bfloat16 --rounds 10

Weights are random, nothing is fetched. A round takes one step with each variant; every step becomes a line of
results/kernels.csv at once, so that a run may be stopped at any time and another one adds rounds. A variant is ``all``,
``none``, ``only-PATH`` or ``without-PATH``, or ``private-softmax``: all with PyTorch's own operation, which is not
public, for the backward pass of the softmax. ``former`` in the results is the code before these paths were simplified.

Beside other programs take ``--threads 1`` and compare processor time, which waits of threads for each other spoil.
"""

import argparse
import csv
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

import sam_adapter.backbones
from machine import name_of, versions
from sam_adapter.kernels import blocked, encoder_block, row_chunks
from sam_adapter.kernels.attention import ATTENTION
from sam_adapter.system.machine import Machine
from train_step import PRECISIONS, SIZES, mean_loss, random_batch, random_segmenter

RESULTS = Path(__file__).parent / "results" / "kernels.csv"
COLUMNS = ["date", "machine", "versions", "model", "image_size", "batch_size", "precision", "threads"]
COLUMNS += ["run", "round", "variant", "wall_s", "cpu_s"]


def private_softmax(d_weights: Tensor, weights: Tensor) -> Tensor:
    """`blocked.softmax_backward` by an operation of PyTorch that is not public."""
    operation: Any = torch.ops.aten._softmax_backward_data.out
    return operation(d_weights, weights, -1, weights.dtype, grad_input=d_weights)


WITHOUT: dict[str, Callable[[], Any]] = {
    "tiles": lambda: patch.dict(ATTENTION, blocked=ATTENTION["plain"]),
    "chunks": lambda: patch.object(row_chunks, "ROWS", 1 << 40),
    "onednn": lambda: patch.object(row_chunks, "ONEDNN_FLOAT32", False),
}
"""Paths by name, and how to do without each."""
VARIANTS = ["all", *(f"without-{path}" for path in WITHOUT), "private-softmax", "none"]
VARIANTS += [f"only-{path}" for path in WITHOUT]


@contextmanager
def variant(name: str) -> Iterator[None]:
    """Have the next steps done in a variant."""
    kind, _, path = name.partition("-")
    removed = {"all": [], "none": list(WITHOUT), "without": [path], "private": []}
    removed["only"] = [other for other in WITHOUT if other != path]
    with ExitStack() as stack:
        for one in removed[kind]:
            stack.enter_context(WITHOUT[one]())
        if kind == "none":
            stack.enter_context(patch.object(encoder_block, "goes_in_chunks", lambda *_: False))
        if kind == "private":
            stack.enter_context(patch.object(blocked, "softmax_backward", private_softmax))
        yield


def add_tiny() -> None:
    """The size of the bundled model, beside SAM's own."""
    file = Path(sam_adapter.backbones.__file__).parent / "tiny" / "config.json"
    vision = json.loads(file.read_text(encoding="utf-8"))["vision_config"]
    names = {"hidden_size": "hidden_size", "layers": "num_hidden_layers", "heads": "num_attention_heads"}
    SIZES["tiny"] = {name: vision[key] for name, key in names.items()}
    SIZES["tiny"]["global_blocks"] = vision["global_attn_indexes"]


def steps(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Round, variant and times of one step after another; the first round warms up and is left out."""
    machine = Machine.choose(device="cpu", precision=PRECISIONS[options.precision])
    torch.set_flush_denormal(True)
    segmenter = random_segmenter(options.model, options.image_size, f"fast-{options.precision}")
    segmenter.suited_to(machine, for_good=True).train()
    trained = [parameter for parameter in segmenter.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=2e-4)
    batch = random_batch(options.batch_size, options.image_size)
    for number in range(options.rounds + 1):
        for name in options.variants.split(","):
            with variant(name):
                wall, cpu = time.perf_counter(), time.process_time()
                with machine.autocast():
                    loss = mean_loss(segmenter, batch)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            if number:
                yield {"round": number, "variant": name, "wall_s": f"{wall:.4f}", "cpu_s": f"{cpu:.4f}"}


def main() -> None:
    """Take the rounds and write a line for each step."""
    add_tiny()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=SIZES, default="vit_b")
    parser.add_argument("--image-size", type=int, default=1024)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--csv", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    now = datetime.now(UTC)
    case = {name: getattr(options, name) for name in ("model", "image_size", "batch_size", "precision", "threads")}
    case |= {"date": now.date().isoformat(), "run": now.strftime("%H%M%S")}
    case |= {"machine": name_of("cpu"), "versions": versions()}
    new = not options.csv.exists()
    with options.csv.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if new:
            writer.writeheader()
        for step in steps(options):
            writer.writerow({**case, **step})
            file.flush()
            print(step, flush=True)


if __name__ == "__main__":
    main()
