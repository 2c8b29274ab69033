"""One training step of adapter and mask decoder: time and memory, side by side with the attention of `transformers`.

    python benchmarks/train_step.py --model vit_b --image-size 1024 --batch-size 1 \
        --variants eager-float32,fast-float32,fast-bfloat16 --json steps.json

Weights are random, nothing is fetched. A variant is ATTENTION-PRECISION, with ``-checkpointing`` after it to recompute
the blocks and ``-compiled`` to put them through torch.compile. ATTENTION is ``eager`` or ``sdpa`` (the blocks of
`transformers` as they are, under the same adapter), ``fast`` (what this package does) or one of its forms by name
(``plain``, ``blocked``, ``folded``, ``flex``). Each variant runs in a process of its own; peak memory is that of the
whole process, PyTorch included, or what CUDA handed out. ``--together`` runs all in one process, for a GPU, where
memory is counted afresh for each. ``forward_s`` and ``step_s`` are the shortest of the measured steps.
"""

import argparse
import csv
import json
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode
from transformers import SamConfig, SamModel, SamVisionConfig

from machine import machine
from sam_adapter.backbones.base import BaseIdentity, BlockPrompts
from sam_adapter.backbones.sam import IMAGE_EMBEDDINGS, SamBackbone
from sam_adapter.batch import Annotation, Batch, EncodedImage, Prompt, Query
from sam_adapter.kernels.attention import ATTENTION
from sam_adapter.methods.base import MethodSettings
from sam_adapter.methods.sam_adapter.module import AdapterPrompts, AdapterSettings
from sam_adapter.preprocessing import Preprocessing
from sam_adapter.segmenter import SamSegmenter
from sam_adapter.system.machine import Machine
from sam_adapter.tasks.pixels import sum_over_pixels
from sam_adapter.training.losses.base import WeightedLosses

SIZES = {
    "vit_b": {"hidden_size": 768, "layers": 12, "heads": 12, "global_blocks": [2, 5, 8, 11]},
    "vit_l": {"hidden_size": 1024, "layers": 24, "heads": 16, "global_blocks": [5, 11, 17, 23]},
    "vit_h": {"hidden_size": 1280, "layers": 32, "heads": 16, "global_blocks": [7, 15, 23, 31]},
}
PRECISIONS = {"float32": "32", "bfloat16": "bf16-mixed"}
PEERS = ("eager", "sdpa")
"""Attention of `transformers`."""


class PeerBackbone(SamBackbone):
    """The same adapter around the encoder blocks of `transformers`, as existing implementations run them."""

    def encode(self, pixel_values: Tensor, block_prompts: BlockPrompts | None = None) -> EncodedImage:
        """See `SamBackbone.encode`."""
        assert isinstance(block_prompts, AdapterPrompts)
        adapter = block_prompts.adapter
        encoder = self.sam.vision_encoder
        patch_embedding = encoder.patch_embed(pixel_values)
        hidden_states = patch_embedding + encoder.pos_embed
        features = adapter.features(pixel_values, patch_embedding, hidden_states)
        for block, layer in enumerate(encoder.layers):
            up = adapter.shared_up
            hidden_states = hidden_states + up(adapter.activation(adapter.down[block](features)))
            if self.gradient_checkpointing and torch.is_grad_enabled():
                hidden_states = checkpoint(layer, hidden_states, use_reentrant=False)
            else:
                hidden_states = layer(hidden_states)
        hidden_states = hidden_states + up(adapter.activation(adapter.down[-1](features)))
        return EncodedImage({IMAGE_EMBEDDINGS: encoder.neck(hidden_states)})


def random_segmenter(model: str, image_size: int, variant: str, *, device: str = "cpu") -> SamSegmenter:
    """A SAM of the size with random weights, the default adapter and the variant's attention."""
    attention, _, *rest = variant.split("-")
    if attention in PEERS and "compiled" in rest:
        raise SystemExit(f"{variant}: the peers' blocks are measured as they are, without torch.compile")
    size = SIZES[model]
    vision = SamVisionConfig(
        hidden_size=size["hidden_size"],
        num_hidden_layers=size["layers"],
        num_attention_heads=size["heads"],
        global_attn_indexes=size["global_blocks"],
        mlp_dim=4 * size["hidden_size"],
        image_size=image_size,
    )
    prompt = {"image_size": image_size, "image_embedding_size": image_size // 16}
    config: Any = SamConfig(vision_config=vision, prompt_encoder_config=prompt)
    if attention in PEERS:
        config._attn_implementation = attention
        config.vision_config._attn_implementation = attention
    torch.manual_seed(0)
    with torch.device(device):
        sam = SamModel(config).requires_grad_(False).eval()
    with torch.no_grad():  # as `transformers` draws them, weights and relative positions near zero would hide errors
        for name, weights in sam.named_parameters():
            if weights.ndim > 1 and "positional_embedding" not in name:
                weights.normal_(std=0.05)
    backbone = (PeerBackbone if attention in PEERS else SamBackbone)(sam, BaseIdentity("random", ""))
    backbone.gradient_checkpointing = "checkpointing" in rest
    method = MethodSettings(
        name="sam_adapter", parts=("mask_decoder",), adapter=AdapterSettings(tune_dim=192, hidden_dim=32)
    )
    with torch.device(device):
        return SamSegmenter(backbone, method, Preprocessing(image_size=image_size))


def model_folder(model: str, image_size: int, work: Path) -> str:
    """What to give as `--model`: a folder with random weights for one of `SIZES`, any other name as it is."""
    if model not in SIZES:
        return model
    folder = str(work / f"{model}_{image_size}")
    backbone = random_segmenter(model, image_size, "fast-float32").backbone
    assert isinstance(backbone, SamBackbone)
    backbone.sam.save_pretrained(folder)
    return folder


def random_batch(images: int, image_size: int) -> Batch:
    """Noise, discs to find, and a box for each."""
    generator = torch.Generator().manual_seed(1)
    axis = torch.arange(image_size) - image_size / 2
    disc = axis[:, None] ** 2 + axis[None, :] ** 2 < (image_size / 4) ** 2
    box = torch.tensor([0.25, 0.25, 0.75, 0.75]) * image_size
    return Batch(
        indices=list(range(images)),
        names=[str(image) for image in range(images)],
        pixel_values=torch.randn(images, 3, image_size, image_size, generator=generator),
        annotations=[Annotation.of(disc.to(torch.uint8))] * images,
        queries=[Query(prompt=Prompt(box=box))] * images,
        original_sizes=[(image_size, image_size)] * images,
    )


def measure(model: str, image_size: int, batch_size: int, variant: str, steps: int, device: str) -> dict[str, Any]:
    """Time training steps of one variant in this process; the first counts only if it is the only one."""
    attention, precision = variant.split("-")[:2]
    ours: Any = attention if attention in ATTENTION else "auto"
    machine = Machine.choose(
        device=device, precision=PRECISIONS[precision], attention=ours, compiled="compiled" in variant
    )
    place = machine.device
    if place.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    segmenter = random_segmenter(model, image_size, variant, device=device)
    segmenter.suited_to(machine, for_good=attention not in PEERS).to(place).train()
    trained = [parameter for parameter in segmenter.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=2e-4)
    batch = random_batch(batch_size, image_size).to(place)
    forwards, totals, losses = [], [], []
    for _ in range(steps + 1):
        began = machine.clock()
        with machine.autocast():
            loss = mean_loss(segmenter, batch)
        forwards.append(machine.clock() - began)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        totals.append(machine.clock() - began)
        losses.append(loss.item())
    return {
        "variant": variant,
        "model": model,
        "image_size": image_size,
        "batch_size": batch_size,
        "forward_s": min(forwards[1:] or forwards),
        "step_s": min(totals[1:] or totals),
        "peak_gb": machine.peak_bytes() / 1e9,
        "losses": losses,
    }


LOSS = WeightedLosses({"bce": 1.0, "iou": 1.0})


def mean_loss(segmenter: SamSegmenter, batch: Batch) -> Tensor:
    """The loss of a step, with its forward."""
    (sums,) = sum_over_pixels(segmenter(batch).mask_logits[:, 0], batch, segmenter.preprocessing, [LOSS])
    return LOSS.weighted(LOSS.terms(sums)).mean()


@cache
def counted_tflop(model: str, image_size: int, batch_size: int) -> float:
    """Arithmetic of one step in 1e12 operations, by the definition: nothing is computed twice, no memory is used."""
    segmenter = random_segmenter(model, image_size, "eager-float32", device="meta")
    batch = random_batch(batch_size, image_size).to("meta")
    with FlopCounterMode(display=False) as counter:
        mean_loss(segmenter, batch).backward()
    return counter.get_total_flops() / 1e12


def main() -> None:
    """Run each variant in a process of its own and print, and write, a row for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=SIZES, default="vit_b")
    parser.add_argument("--image-size", type=int, default=1024)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--variants", default="eager-float32,fast-float32,fast-bfloat16")
    parser.add_argument(
        "--steps", type=int, default=2, help="measured steps, after one that is not counted; 0 measures that"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--csv", type=Path, help="rows are added at the end of this table")
    parser.add_argument("--together", action="store_true", help="all variants in one process, for a GPU")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        row = measure(options.model, options.image_size, options.batch_size, options.one, options.steps, options.device)
        print(json.dumps(row))
        return
    case = Case(options.model, options.image_size, options.batch_size)
    measured = measured_here if options.together else measured_apart
    rows = [measured(case, variant, options.steps, options.device) for variant in options.variants.split(",")]
    about = machine(options.device)
    print(f"{about['machine']}; matrix product: {about['gflops']}")
    if options.json:
        options.json.write_text(json.dumps({**about, "rows": rows}, indent=2) + "\n", encoding="utf-8")
    if options.csv:
        append_rows(options.csv, rows, about)


@dataclass(frozen=True)
class Case:
    """What a step is taken with."""

    model: str
    image_size: int
    batch_size: int


def measured_apart(case: Case, variant: str, steps: int, device: str) -> dict[str, Any]:
    """`measure` in a process of its own, with the row printed."""
    arguments = ["--model", case.model, "--image-size", str(case.image_size), "--batch-size", str(case.batch_size)]
    arguments += ["--steps", str(steps), "--device", device, "--one", variant]
    done = subprocess.run([sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{variant} failed with {done.returncode}")
    return shown(case, json.loads(done.stdout.splitlines()[-1]))


def measured_here(case: Case, variant: str, steps: int, device: str) -> dict[str, Any]:
    """`measure` in this process, with the row printed."""
    return shown(case, measure(case.model, case.image_size, case.batch_size, variant, steps, device))


def shown(case: Case, row: dict[str, Any]) -> dict[str, Any]:
    """A row with its arithmetic, printed."""
    row["tflop"] = counted_tflop(case.model, case.image_size, case.batch_size)
    text = "{model} {image_size} x{batch_size} {variant:28s} forward {forward_s:7.3f} s  step {step_s:7.3f} s"
    print((text + "  {peak_gb:6.2f} GB  losses {losses}").format(**row), flush=True)
    return row


def append_rows(path: Path, rows: list[dict[str, Any]], about: dict[str, Any]) -> None:
    """Add rows to a CSV table, each with the share of the machine's matrix rate that its step reaches."""
    columns = ["date", "machine", "versions", "model", "image_size", "batch_size", "variant"]
    columns += ["forward_s", "step_s", "peak_gb", "tflop", "gflops", "share_of_matrix_rate"]
    new = not path.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        if new:
            writer.writeheader()
        for row in rows:
            rate = about["gflops"][row["variant"].split("-")[1]]
            reached = row["tflop"] * 1e3 / row["step_s"]
            values = {**about, **row, "gflops": round(rate), "share_of_matrix_rate": f"{reached / rate:.2f}"}
            rounded = {name: f"{row[name]:.3f}" for name in ("forward_s", "step_s", "peak_gb", "tflop")}
            writer.writerow({**values, **rounded})


if __name__ == "__main__":
    main()
