"""What `--correction-rounds` and `--multimask` bring: one point, further clicks in the error, the best of three masks.

    python benchmarks/clicks.py --data DATA --work WORK

DATA has train/images, train/masks, test/images and test/masks, masks with a number an object. Each object is asked for
by its innermost point, and then three times more with a point in the error of the answer before and with that answer as
a mask; the bundled model as it is, and adapters that were trained plainly, with one round of corrections, and with the
three masks. Prints the mean IoU over all objects of the test pictures.
"""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sam_adapter import TrainConfig, load, train
from sam_adapter.batch import Annotation, Batch, Sample
from sam_adapter.config.options import PromptOptions
from sam_adapter.segmenter import SamSegmenter
from sam_adapter.tasks.instance import InstanceTask
from sam_adapter.tasks.metrics import COLUMNS, OverlapMetrics, scores_of
from sam_adapter.tasks.pixels import sum_over_pixels
from sam_adapter.training.corrections import chosen, corrected

CLICKS = 3
RUNS: Mapping[str, dict[str, Any]] = {
    "plain": {},
    "--correction-rounds 1": {"correction_rounds": 1},
    "--multimask true": {"multimask": True},
}


def trained(data: Path, output: Path, options: dict[str, Any]) -> SamSegmenter:
    """The adapter of a run, made if it is not there."""
    if not (output / "adapter").exists():
        train(
            TrainConfig(
                task="instance",
                images=data / "train/images",
                masks=data / "train/masks",
                model="tiny",
                batch_size=4,
                workers=0,
                lr=1e-3,
                val_fraction=0.0,
                output=output,
                overwrite=output.exists(),
                **options,
            )
        )
    return load(output / "adapter")


def ious(logits: Tensor, batch: Batch, segmenter: SamSegmenter) -> Tensor:
    """IoU of each answer ``(Q,)`` from its logits ``(Q, h, w)``."""
    reduces = OverlapMetrics().reduces(batch)
    return scores_of(sum_over_pixels(logits, batch, segmenter.preprocessing, reduces)[0])[:, COLUMNS.index("iou")]


@torch.no_grad()
def scored(segmenter: SamSegmenter, batch: Batch) -> Tensor:
    """IoUs ``(Q, CLICKS + 3)``: by one point, after each further click, the best of three, and the first by quality."""
    assert batch.pixel_values is not None
    batch = replace(batch, pixel_values=None, encoded=segmenter.encode(batch.pixel_values))
    asked, columns = batch, []
    for click in range(CLICKS + 1):
        logits = segmenter(asked).mask_logits[:, 0]
        columns.append(ious(logits, asked, segmenter))
        side = segmenter.backbone.mask_input_size
        asked = corrected(asked, logits, segmenter.preprocessing, mask_side=side, seed=(click,))
    output = segmenter(batch, multimask=True)
    count, masks = output.iou_scores.shape
    each = chosen(batch, [at for at in range(count) for _ in range(masks)])
    three = ious(output.mask_logits.flatten(0, 1), each, segmenter).view(count, masks)
    columns += [three.max(1).values, three.gather(1, output.iou_scores.argmax(1, keepdim=True))[:, 0]]
    return torch.stack(columns, 1)


def batches(data: Path, segmenter: SamSegmenter) -> list[Batch]:
    """The test pictures, with a query for each object."""
    task, found = InstanceTask.from_options(PromptOptions(prompt="points")), []
    for index, path in enumerate(sorted((data / "images").iterdir())):
        (mask,) = (data / "masks").glob(f"{path.stem}.*")
        labels = torch.from_numpy(np.asarray(Image.open(mask)).astype(np.int32))
        annotation, size = Annotation.of(labels), (labels.shape[0], labels.shape[1])
        pixel_values = segmenter.preprocessing.pixel_values(Image.open(path).convert("RGB"))
        queries = task.evaluation_queries(annotation, np.random.default_rng(index))
        queries = [query for query in queries if query.prompt.kind == "points"]
        if queries:
            found.append(Batch.collate([Sample(index, path.stem, pixel_values, annotation, queries, size)]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    heads = ["one point", *(f"and {click + 1} more" for click in range(CLICKS)), "best of three", "first of three"]
    print(f"| | {' | '.join(heads)} |\n|{'---|' * (len(heads) + 1)}", flush=True)
    for name, options in {"as it is": None, **RUNS}.items():
        if options is None:
            segmenter = SamSegmenter.frozen("tiny", task="instance")
        else:
            own = {"epochs": asked.epochs, "seed": asked.seed, **options}
            segmenter = trained(asked.data, asked.work / f"{'_'.join(options) or 'plain'}_{asked.seed}", own)
        segmenter.train(False)
        means = torch.cat([scored(segmenter, batch) for batch in batches(asked.data / "test", segmenter)]).mean(0)
        print(f"| {name} | {' | '.join(f'{mean:.3f}' for mean in means.tolist())} |", flush=True)


if __name__ == "__main__":
    main()
