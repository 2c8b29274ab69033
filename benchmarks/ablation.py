"""What each part of the SAM-Adapter is worth on camouflage, with the bundled model.

    python benchmarks/ablation.py --work WORK --seeds 0 1 2

Writes benchmarks/ablation.md: mean and spread over the seeds, with a box and without a prompt.
"""

import argparse
from pathlib import Path

from comparison import RATES, trained_and_scored
from sam_adapter.demo.scenes import write_scenes
from writing import heading, mean_and_deviation, row

VARIANTS = {
    "wide (default)": {},
    "without high frequencies": {"use_high_frequency": False},
    "without embedding": {"use_embedding": False},
    "paper": {"preset": "paper"},
}


def main() -> None:
    """Run all variants and seeds, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="kept: a second call goes on where the first stopped")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--scenes", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    for part, count, seed in (("train", arguments.scenes, 100), ("test", 200, 200)):
        if not (arguments.work / part).exists():
            write_scenes(arguments.work / part, "camouflage", count, seed)
    lines = [
        "# Ablation on camouflage",
        "",
        f"`python benchmarks/ablation.py --work WORK --seeds {' '.join(map(str, arguments.seeds))} "
        f"--scenes {arguments.scenes} --epochs {arguments.epochs}`",
        "",
        f"{arguments.scenes} scenes to train on, 200 held out, prompts mixed in training; mean IoU over the seeds and",
        "standard deviation between them.",
        "",
        *heading(["variant", "box IoU", "no prompt IoU"]),
    ]
    for name, changes in VARIANTS.items():
        found = [
            trained_and_scored(
                arguments.work,
                arguments.work / f"{name.split(' (')[0].replace(' ', '_')}_{seed}",
                method="sam_adapter",
                epochs=arguments.epochs,
                lr=RATES["sam_adapter"],
                seed=seed,
                val_fraction=0.0,
                **changes,
            )
            for seed in arguments.seeds
        ]
        cells = [mean_and_deviation([metrics[prompt]["iou"] for metrics in found]) for prompt in ("box", "none")]
        lines.append(row([name, *cells]))
        print(lines[-1], flush=True)
    arguments.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
