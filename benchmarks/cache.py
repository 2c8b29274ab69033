"""What the embedding cache saves: epochs of method decoder with and without it.

    python benchmarks/cache.py --images IMAGES --masks MASKS --count 12 --image-size 1024 --work WORK

ViT-B with random weights, nothing is fetched. What is done once, loading the model and encoding the images, is the time
around the epochs. Writes benchmarks/results/cache.json.
"""

import argparse
import json
import os
import shutil
import time
from pathlib import Path

from machine import machine
from sam_adapter import TrainConfig, train
from sam_adapter.annotations.folders import list_pairs
from sam_adapter.system.machine import Machine
from sam_adapter.training.run_folder import METRICS, read_metrics
from train_step import SIZES, model_folder


def epochs_of(data: Path, model: str, run: Path, cache: Path | None) -> tuple[list[float], float]:
    """Seconds of each of three epochs, and of all that is done before and after them."""
    began = time.perf_counter()
    train(
        TrainConfig(
            images=data / "images",
            masks=data / "masks",
            model=model,
            output=run,
            method="decoder",
            augment="none",
            val_fraction=0,
            epochs=3,
            embedding_cache=cache,
            overwrite=True,
        )
    )
    epochs = [float(row["seconds"]) for row in read_metrics(run / METRICS)]
    return epochs, round(time.perf_counter() - began - sum(epochs), 2)


def main() -> None:
    """Train twice and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--masks", type=Path, required=True)
    parser.add_argument("--count", type=int, default=12, help="pairs to train on")
    parser.add_argument("--model", choices=SIZES, default="vit_b")
    parser.add_argument("--image-size", type=int, default=1024)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "cache.json")
    options = parser.parse_args()
    model = model_folder(options.model, options.image_size, options.work)
    data = options.work / f"pairs_{options.count}"
    for record in list_pairs(options.images, options.masks).records[: options.count]:
        for kind, path in (("images", record.image), ("masks", record.mask)):
            link = data / kind / path.name
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():
                os.symlink(path.resolve(), link)
    without, around = epochs_of(data, model, options.work / "without", None)
    shutil.rmtree(options.work / "cache", ignore_errors=True)
    cached, around_cached = epochs_of(data, model, options.work / "cached", options.work / "cache")
    result = {
        **machine(Machine.choose().device.type),
        "model": options.model,
        "image_size": options.image_size,
        "pairs": options.count,
        "epochs_without_s": without,
        "epochs_cached_s": cached,
        "around_without_s": around,
        "around_cached_s": around_cached,
        "faster_from_the_second_epoch": round(min(without[1:]) / min(cached[1:]), 1),
    }
    print(json.dumps(result, indent=2))
    options.output.parent.mkdir(exist_ok=True)
    options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
