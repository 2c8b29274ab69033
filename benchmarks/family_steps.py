"""One training step of every family and size at its own resolution: time and memory, random weights, nothing fetched.

    python benchmarks/family_steps.py --work WORK                        # all, each in a process of its own
    python benchmarks/family_steps.py --work WORK --models sam2.1_t sam3 --methods sam_adapter

Batch 1, one box, bfloat16. It is `train --dry-run`'s measured step, the second of two. Writes
benchmarks/family_steps.md; a step that was measured is not measured again.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from machine import described
from writing import heading, row

METHODS = ("sam_adapter", "lora", "decoder")
VIT = {
    "b": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "global_attn_indexes": [2, 5, 8, 11]},
    "l": {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "global_attn_indexes": [5, 11, 17, 23],
    },
    "h": {
        "hidden_size": 1280,
        "num_hidden_layers": 32,
        "num_attention_heads": 16,
        "global_attn_indexes": [7, 15, 23, 31],
    },
}
HIERA = {
    "t": (96, [1, 2, 7, 2], [5, 7, 9], 1, [8, 4, 14, 7]),
    "s": (96, [1, 2, 11, 2], [7, 10, 13], 1, [8, 4, 14, 7]),
    "b+": (112, [2, 3, 16, 3], [12, 16, 20], 2, [8, 4, 14, 7]),
    "l": (144, [2, 6, 36, 4], [23, 33, 43], 2, [8, 4, 16, 8]),
}
"""Width, blocks of each stage, global blocks, heads of the first stage, windows."""


def sam(size: str) -> Any:
    """SAM ViT-B, L or H."""
    from transformers import SamConfig, SamModel, SamVisionConfig

    vision = SamVisionConfig(**VIT[size], mlp_dim=4 * VIT[size]["hidden_size"])
    return SamModel(SamConfig(vision_config=vision))


def sam_hq(size: str) -> Any:
    """SAM-HQ."""
    from transformers import SamHQConfig, SamHQMaskDecoderConfig, SamHQModel, SamHQVisionConfig

    width = VIT[size]["hidden_size"]
    vision = SamHQVisionConfig(**VIT[size], mlp_dim=4 * width)
    return SamHQModel(SamHQConfig(vision_config=vision, mask_decoder_config=SamHQMaskDecoderConfig(vit_dim=width)))


def sam2(size: str) -> Any:
    """SAM 2.1."""
    from transformers import Sam2Config, Sam2HieraDetConfig, Sam2Model, Sam2VisionConfig

    width, blocks, everywhere, heads, windows = HIERA[size]
    widths = [width * 2**stage for stage in range(4)]
    trunk = Sam2HieraDetConfig(
        hidden_size=width,
        num_attention_heads=heads,
        blocks_per_stage=blocks,
        embed_dim_per_stage=widths,
        num_attention_heads_per_stage=[heads * 2**stage for stage in range(4)],
        window_size_per_stage=windows,
        global_attention_blocks=everywhere,
    )
    vision = Sam2VisionConfig(backbone_config=trunk, backbone_channel_list=widths[::-1])
    return Sam2Model(Sam2Config(vision_config=vision))


def sam3(size: str) -> Any:
    """SAM 3's interactive model."""
    from transformers import Sam3TrackerConfig, Sam3TrackerModel

    return Sam3TrackerModel(Sam3TrackerConfig())


MODELS: dict[str, tuple[Callable[[str], Any], str]] = {
    "vit_b": (sam, "b"),
    "vit_l": (sam, "l"),
    "vit_h": (sam, "h"),
    "sam_hq_b": (sam_hq, "b"),
    "sam2.1_t": (sam2, "t"),
    "sam2.1_s": (sam2, "s"),
    "sam2.1_b+": (sam2, "b+"),
    "sam2.1_l": (sam2, "l"),
    "sam3": (sam3, ""),
}


def one_pair(work: Path) -> None:
    """Two pictures with a disc."""
    rows, columns = np.mgrid[:512, :512]
    disc = (rows - 256) ** 2 + (columns - 256) ** 2 < 128**2
    for kind in ("images", "masks"):
        (work / kind).mkdir(parents=True, exist_ok=True)
    for name in ("a", "b"):
        noise = np.random.default_rng(ord(name)).integers(0, 256, (512, 512, 3), dtype=np.uint8)
        Image.fromarray(noise).save(work / f"images/{name}.png")
        Image.fromarray(disc.astype(np.uint8) * 255).save(work / f"masks/{name}.png")


def measured(work: Path, model: str, method: str) -> dict[str, Any]:
    """The step of one model and method, in this process."""
    from sam_adapter import TrainConfig
    from sam_adapter.training.dry_run import dry_run

    folder = work / model
    if not (folder / "config.json").exists():
        make, size = MODELS[model]
        torch.manual_seed(0)
        make(size).save_pretrained(folder)
    found = dry_run(
        TrainConfig(
            images=work / "images",
            masks=work / "masks",
            model=str(folder),
            method=method,
            prompt="box",
            batch_size=1,
            precision="bf16-mixed",
            workers=0,
            val_fraction=0.0,
            augment="none",
            output=work / "never",
        )
    )
    return {"step_s": found.step_seconds, "peak_gb": found.peak_bytes / 1e9, "size": found.config.image_size}


def main() -> None:
    """Measure what is missing and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--one", action="store_true", help="measure the one asked for in this process")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    asked = parser.parse_args()
    work: Path = asked.work
    if asked.one:
        found = measured(work, asked.models[0], asked.methods[0])
        (work / f"{asked.models[0]}_{asked.methods[0]}.json").write_text(json.dumps(found))
        return
    one_pair(work)
    for model in asked.models:
        for method in asked.methods:
            if not (work / f"{model}_{method}.json").exists():
                again = [sys.executable, __file__, "--work", str(work), "--models", model, "--methods", method, "--one"]
                subprocess.run(again, check=False)
    heads = [f"{method}, {what}" for method in METHODS for what in ("s a step", "GB")]
    lines = ["# A step of every family", "", (__doc__ or "").strip(), "", *heading(["model", *heads])]
    for model in MODELS:
        cells: list[str] = []
        for method in METHODS:
            path = work / f"{model}_{method}.json"
            found = json.loads(path.read_text()) if path.exists() else None
            cells += ["–", "–"] if found is None else [f"{found['step_s']:.1f}", f"{found['peak_gb']:.1f}"]
        if any(cell != "–" for cell in cells):
            lines.append(row([model, *cells]))
    asked.output.write_text("\n".join([*lines, "", described("cpu")]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
