"""Memory and time of one training step, evaluation and prediction by the size of the picture and the number of queries.

    python benchmarks/large_pictures.py                 # every cell, each in a process of its own; writes the table
    python benchmarks/large_pictures.py step 24 8       # one cell: kind, megapixels, queries

The model is the bundled `tiny`, so that what the picture takes is not hidden behind what the model takes. A cell reads
the picture and its mask from files, as a run does. Peak memory is that of the process, with what Python and its
libraries take beforehand; the second of two repetitions is timed, or the only one of cells of more than 500
megapixels of masks.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch

from machine import described
from sam_adapter.annotations.folders import list_pairs
from sam_adapter.annotations.reading.files import image_size
from sam_adapter.batch import Batch
from sam_adapter.config.training import TrainConfig
from sam_adapter.data.dataset import PairDataset
from sam_adapter.prediction.predictor import Predictor
from sam_adapter.segmenter import SamSegmenter
from sam_adapter.system.machine import Machine
from sam_adapter.tasks.binary import BinaryTask
from sam_adapter.tasks.pixels import sum_over_pixels
from sam_adapter.training.lightning_module import TrainingModule

KINDS = ("step", "evaluation", "prediction")
MEGAPIXELS = (1, 6, 24, 100)
QUERIES = (1, 8, 50)
ONCE = 500
"""Megapixels times queries beyond which a cell is measured once."""
TABLE = Path(__file__).with_suffix(".md")


def write_pair(folder: Path, megapixels: int) -> TrainConfig:
    """A picture of 3:2 with an ellipse as its foreground, and a run on it."""
    height = int((megapixels * 1e6 / 1.5) ** 0.5)
    width = round(height * 1.5)
    for name in ("images", "masks"):
        (folder / name).mkdir()
    small = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    cv2.imwrite(str(folder / "images/a.jpg"), cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC))
    mask = np.zeros((height, width), np.uint8)
    cv2.ellipse(mask, (width // 2, height // 2), (width // 4, height // 4), 20, 0, 360, 255, -1)
    cv2.imwrite(str(folder / "masks/a.png"), mask)
    return TrainConfig(
        images=folder / "images", masks=folder / "masks", output=folder / "run", model="tiny", augment="none"
    )


def measured(kind: str, megapixels: int, queries: int) -> dict[str, float]:
    """One cell."""
    with tempfile.TemporaryDirectory() as name:
        config = write_pair(Path(name), megapixels).but(prompt="box", prompts_per_image=queries)
        machine = Machine.choose(precision="32")
        machine.prepare_process()
        segmenter = SamSegmenter.from_config(config).suited_to(machine)
        task = BinaryTask.from_options(config)
        records = list_pairs(config.image_folder, config.place).records
        dataset = PairDataset(records, segmenter.preprocessing, task, training=True)
        module = TrainingModule(segmenter, task, config, machine, images=1)
        optimizer = module.optimizer()
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak begins anew
        before = peak()
        began = 0.0
        for _ in range(1 if megapixels * queries > ONCE else 2):
            began = time.perf_counter()
            if kind == "step":
                train_on(dataset, module, optimizer)
            elif kind == "evaluation":
                score(dataset, segmenter)
            else:
                answer_all(records[0].image, segmenter, queries)
        return {"peak_gb": peak(), "before_gb": before, "seconds": time.perf_counter() - began}


def train_on(dataset: PairDataset, module: TrainingModule, optimizer: torch.optim.Optimizer) -> None:
    """Read, step, and let go of the batch, as a run does before it reads the next one."""
    module.segmenter.train()
    losses, _ = module.losses(Batch.collate([dataset[0]]))
    losses.mean().backward()
    optimizer.step()
    optimizer.zero_grad()


@torch.inference_mode()
def score(dataset: PairDataset, segmenter: SamSegmenter) -> None:
    """Read and score, with the histograms from which a threshold is chosen."""
    batch = Batch.collate([dataset[0]])
    metrics = dataset.task.metrics({}, search=True)
    logits = dataset.task.mask_logits(segmenter.train(False)(batch))
    metrics.collect(batch, sum_over_pixels(logits, batch, segmenter.preprocessing, metrics.reduces(batch)))


def answer_all(image: Path, segmenter: SamSegmenter, queries: int) -> None:
    """Read, answer equal boxes, and make one mask after another at original size."""
    predictor = Predictor(segmenter, device="cpu", precision="32")
    predictor.set_image(image)
    height, width = image_size(image)
    box = np.array([0.25, 0.25, 0.75, 0.75]) * [width, height, width, height]
    answer = predictor.predict(box=np.repeat(box[None], queries, axis=0))
    for index in range(len(answer)):
        answer.mask(index)


def peak() -> float:
    """Most memory of this process since its peak was reset, in GB."""
    line = next(one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e9


def table() -> str:
    """Every cell, measured in a process of its own."""
    lines = ["| | megapixels | " + " | ".join(f"{one} queries" for one in QUERIES) + " |"]
    lines.append("|---" * (2 + len(QUERIES)) + "|")
    for kind in KINDS:
        for megapixels in MEGAPIXELS:
            cells = []
            for queries in QUERIES:
                command = [sys.executable, __file__, kind, str(megapixels), str(queries)]
                found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                cells.append(f"{found['peak_gb']:.2f} GB, {found['seconds']:.2f} s")
            lines.append(f"| {kind} | {megapixels} | " + " | ".join(cells) + " |")
            print(lines[-1], flush=True)
    return "\n".join(lines)


if __name__ == "__main__":
    if len(sys.argv) == 4:
        print(json.dumps(measured(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
    else:
        text = (__doc__ or "").strip()
        TABLE.write_text(
            f"# Large pictures, many queries\n\n{text}\n\n{table()}\n\n{described('cpu')}\n", encoding="utf-8"
        )
