"""The bundled model on real data sets: frozen, decoder, SAM-Adapter and full, with a box and without a prompt.

    python benchmarks/real_data.py --data FOLDER --sets kvasir_seg shadow dsb2018_nuclei --work WORK

FOLDER holds one folder a set, each with images/ and masks/. Sorted by name, every fifth pair is the test set. All
methods see the same pictures for as many epochs, with prompts mixed in training. Writes benchmarks/real_data.md.
"""

import argparse
import os
from pathlib import Path

from comparison import RATES, trained_and_scored
from sam_adapter.annotations.folders import list_pairs


def split(source: Path, target: Path) -> None:
    """Links to every fifth pair below ``test`` and to the others below ``train``."""
    for index, record in enumerate(list_pairs(source / "images", source / "masks").records):
        for kind, path in (("images", record.image), ("masks", record.mask)):
            link = target / ("test" if index % 5 == 4 else "train") / kind / path.name
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():
                os.symlink(path.resolve(), link)


def main() -> None:
    """Run all sets and methods, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", required=True)
    parser.add_argument("--work", type=Path, required=True, help="kept: a second call goes on where the first stopped")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    command = f"python benchmarks/real_data.py --data FOLDER --sets {' '.join(arguments.sets)} --work WORK"
    lines = [
        "# The bundled model on real data",
        "",
        f"`{command} --epochs {arguments.epochs} --seed {arguments.seed}`",
        "",
        "Every fifth pair held out; prompts mixed in training. IoU and Dice are means over held-out images, BER is in",
        "percent, learning rates " + ", ".join(f"{name} {rate:g}" for name, rate in RATES.items()) + ".",
        "",
        "| set | method | box IoU | box Dice | no prompt IoU | no prompt Dice | no prompt BER | training s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in arguments.sets:
        data = arguments.work / name
        split(arguments.data / name, data)
        for method in ("frozen", *sorted(RATES)):
            options = {"method": method, "epochs": arguments.epochs, "lr": RATES.get(method), "seed": arguments.seed}
            found = trained_and_scored(
                data,
                data / f"{method}_{arguments.epochs}_{arguments.seed}",
                **({} if method == "frozen" else {**options, "box_jitter": 0.05}),
            )
            box, none = found["box"], found["none"]
            lines.append(
                f"| {name} | {method} | {box['iou']:.3f} | {box['dice']:.3f} | {none['iou']:.3f} | {none['dice']:.3f} "
                f"| {none['ber']:.1f} | {none['seconds']} |"
            )
            print(lines[-1], flush=True)
    arguments.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
