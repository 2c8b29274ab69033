"""Where the time of an epoch goes: reading, augmenting, forward, backward, optimiser, scores, validation, checkpoint.

    python benchmarks/epoch.py --images IMAGES --masks MASKS --model tiny --work WORK

Data are read in the training process, so that all times add up; with workers they are read beside it. Writes
benchmarks/results/epoch.csv: seconds of the second epoch, each without what is measured inside it.
"""

import argparse
import csv
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from machine import described
from sam_adapter import TrainConfig, train
from sam_adapter.backbones import Backbone
from sam_adapter.data import dataset
from sam_adapter.data.augmentation import Augmentation
from sam_adapter.preprocessing import Preprocessing
from sam_adapter.segmenter import SamSegmenter
from sam_adapter.tasks.prompts import PromptMaker
from sam_adapter.training import lightning_module
from sam_adapter.training.adapter_keeper import AdapterKeeper
from sam_adapter.training.callbacks import MetricsTable
from sam_adapter.training.lightning_module import TrainingModule
from train_step import SIZES, model_folder


class Clock:
    """Seconds by name; what is measured inside something else counts for the inner name alone."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inner: list[float] = []
        self._in_whole = False

    def around(self, owner: Any, attribute: str, name: str, *, whole: bool = False) -> None:
        """Measure a function or method from now on; `whole` with all that is measured inside it."""
        function: Callable[..., Any] = getattr(owner, attribute)

        def measured(*arguments: Any, **options: Any) -> Any:
            if self._in_whole:
                return function(*arguments, **options)
            self._in_whole = whole
            self._inner.append(0.0)
            began = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                self._in_whole = False
                took = time.perf_counter() - began
                self.seconds[name] = self.seconds.get(name, 0.0) + took - self._inner.pop()
                if self._inner:
                    self._inner[-1] += took

        setattr(owner, attribute, measured)


def watch(clock: Clock) -> None:
    """Measure the pieces of an epoch."""
    from lightning.pytorch.loops.evaluation_loop import _EvaluationLoop
    from lightning.pytorch.trainer.trainer import Trainer

    clock.around(dataset, "read_image", "read and decode images")
    clock.around(dataset, "read_mask", "read and decode masks")
    clock.around(Augmentation, "__call__", "augment")
    clock.around(Preprocessing, "pixel_values", "resize and normalise")
    clock.around(PromptMaker, "drawn", "prompts from masks")
    clock.around(SamSegmenter, "encode", "image encoder, forward")
    clock.around(Backbone, "decode", "prompt encoder and mask decoder, forward")
    clock.around(lightning_module, "sum_over_pixels", "logits to original size, loss and training scores")
    clock.around(TrainingModule, "training_step", "rest of the training step")
    clock.around(_EvaluationLoop, "run", "validation, all of it", whole=True)
    clock.around(torch.Tensor, "backward", "backward")
    clock.around(torch.optim.AdamW, "step", "optimiser")
    clock.around(AdapterKeeper, "write", "adapter file")
    clock.around(Trainer, "save_checkpoint", "last.ckpt")


def main() -> None:
    """Train two epochs and write where the time of the second went."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--masks", type=Path, required=True)
    parser.add_argument("--model", choices=[*SIZES, "tiny"], default="tiny")
    parser.add_argument("--image-size", type=int, default=512, help="of a model with random weights")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "epoch.csv")
    options = parser.parse_args()
    model = model_folder(options.model, options.image_size, options.work)
    clock = Clock()
    watch(clock)
    marks: list[tuple[float, dict[str, float]]] = []
    ended = MetricsTable.on_train_epoch_end

    def mark(self: MetricsTable, *arguments: Any) -> None:
        ended(self, *arguments)
        marks.append((time.perf_counter(), dict(clock.seconds)))

    setattr(MetricsTable, "on_train_epoch_end", mark)  # noqa: B010
    train(
        TrainConfig(
            images=options.images,
            masks=options.masks,
            model=model,
            output=options.work / "epoch",
            prompt="mixed",
            epochs=2,
            batch_size=4 if model == "tiny" else 1,
            workers=0,
            accelerator="cpu",
            overwrite=True,
        )
    )
    (began, before), (end, after) = marks
    rows = {name: after[name] - before.get(name, 0.0) for name in after}
    rows["everything else, Lightning's loop above all"] = end - began - sum(rows.values())
    options.output.parent.mkdir(exist_ok=True)
    with options.output.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["what", "seconds", "share"])
        for name, seconds in sorted(rows.items(), key=lambda item: -item[1]):
            writer.writerow([name, f"{seconds:.2f}", f"{seconds / (end - began):.3f}"])
            print(f"{name:45s}{seconds:8.2f} s  {seconds / (end - began):6.1%}")
        file.write(f"# {options.model}; {described('cpu')}\n")


if __name__ == "__main__":
    main()
