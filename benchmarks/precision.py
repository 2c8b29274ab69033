"""Does bfloat16 with fast attention cost accuracy? The bundled model on a real data set, several seeds.

    python benchmarks/precision.py --data FOLDER/kvasir_seg --work WORK --seeds 0 1 2

The folder holds images/ and masks/; sorted by name, every fifth pair is the test set. Writes benchmarks/precision.md.
"""

import argparse
from pathlib import Path
from statistics import mean, stdev

from comparison import RATES, trained_and_scored
from machine import described
from real_data import split

VARIANTS = {
    "float32": {"precision": "32", "attention": "plain"},
    "bfloat16": {"precision": "bf16-mixed", "attention": "blocked"},
}


def main() -> None:
    """Train and score every variant and seed, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="kept: a second call goes on where the first stopped")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    options = parser.parse_args()
    name, seeds = options.data.name, " ".join(map(str, options.seeds))
    split(options.data, options.work / name)
    lines = [
        "# float32 with plain attention against bfloat16 with attention in blocks",
        "",
        f"`python benchmarks/precision.py --data FOLDER/{name} --work WORK --seeds {seeds} --epochs {options.epochs}`",
        "",
        "SAM-Adapter on the bundled model, prompts mixed in training, every fifth pair held out: IoU of each seed,",
        "their mean and the standard deviation between them.",
        "",
        "| variant | prompt | " + " | ".join(f"seed {seed}" for seed in options.seeds) + " | mean | deviation |",
        "|---|---|" + "---|" * (len(options.seeds) + 2),
    ]
    for variant in options.variants:
        found = [
            trained_and_scored(
                options.work / name,
                options.work / name / f"{variant}_{options.epochs}_{seed}",
                method="sam_adapter",
                epochs=options.epochs,
                lr=RATES["sam_adapter"],
                seed=seed,
                box_jitter=0.05,
                accelerator="cpu",
                **VARIANTS[variant],
            )
            for seed in options.seeds
        ]
        for prompt in ("box", "none"):
            values = [metrics[prompt]["iou"] for metrics in found]
            cells = [*values, mean(values), stdev(values) if len(values) > 1 else 0.0]
            lines.append(f"| {variant} | {prompt} | " + " | ".join(f"{value:.3f}" for value in cells) + " |")
            print(lines[-1], flush=True)
    options.output.write_text("\n".join([*lines, "", described("cpu")]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
