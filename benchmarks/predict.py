"""How close masks for a folder of pictures come to the speed of the image encoder alone.

    python benchmarks/predict.py --images FOLDER --image-size 512 --work WORK

Random weights, nothing is fetched. First the encoder runs over the prepared pictures alone; then `predict` reads,
encodes, decodes and writes masks and overlays for the whole folder, the loading of the model included. Adds to
benchmarks/results/predict.json.
"""

import argparse
import json
from pathlib import Path

import torch

from machine import machine
from sam_adapter import PredictConfig, predict
from sam_adapter.annotations.reading.files import read_image
from sam_adapter.checkpoints.adapter import load
from sam_adapter.prediction.folder import find_pictures
from sam_adapter.system.machine import Machine
from train_step import SIZES, model_folder


@torch.inference_mode()
def encoder_seconds(model: str, pictures: list[Path], place: Machine, batch_size: int) -> float:
    """Time that the encoder alone takes for pictures that are read and resized already."""
    segmenter = load(model=model).suited_to(place, for_good=True).to(place.device)
    side = segmenter.preprocessing.image_size
    with place.autocast():
        segmenter.encode(torch.zeros(batch_size, 3, side, side, device=place.device))  # libraries prepare themselves
    total = 0.0
    for first in range(0, len(pictures), batch_size):
        some = [segmenter.preprocessing.pixel_values(read_image(path)) for path in pictures[first : first + batch_size]]
        pixel_values = torch.stack(some).to(place.device)
        began = place.clock()
        with place.autocast():
            segmenter.encode(pixel_values)
        total += place.clock() - began
    return total


def main() -> None:
    """Measure both and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--model", choices=[*SIZES, "tiny"], default="vit_b")
    parser.add_argument("--image-size", type=int, default=512, help="of the model with random weights")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "predict.json")
    options = parser.parse_args()
    model = model_folder(options.model, options.image_size, options.work)
    place = Machine.choose()
    pictures = [path for path, _ in find_pictures(str(options.images))]
    alone = encoder_seconds(model, pictures, place, options.batch_size)
    began = place.clock()
    config = PredictConfig(
        model=model, input=str(options.images), output=options.work / "predicted", batch_size=options.batch_size
    )
    predict(config)
    whole = place.clock() - began
    result = {
        **machine(place.device.type),
        "model": options.model,
        "image_size": options.image_size if options.model in SIZES else 256,
        "batch_size": options.batch_size,
        "pictures": len(pictures),
        "encoder_s": round(alone, 2),
        "predict_s": round(whole, 2),
        "ratio": round(whole / alone, 3),
    }
    print(json.dumps(result, indent=2))
    options.output.parent.mkdir(exist_ok=True)
    known = json.loads(options.output.read_text()) if options.output.exists() else []
    options.output.write_text(json.dumps([*known, result], indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
