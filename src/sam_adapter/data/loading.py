"""Loaders that deal samples out to processes in a reproducible order and can go on in the middle of an epoch."""

import math
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset, SequentialSampler
from torch.utils.data.distributed import DistributedSampler

from ..batch import Batch, Sample
from ..system.shared_memory import bytes_of, workers_that_fit
from .dataset import PictureDataset, collate_pictures

REPEATED = 1_000_003
"""More epochs than a run may have."""


class EpochSampler(DistributedSampler):
    """A distributed sampler, for one process too, that yields ``(epoch, index, weight)`` and can skip what was done.

    With W processes, step n of all of them together sees the samples that one process sees with a W times larger
    batch. Where the last samples do not suffice for all processes, samples of weight 0 are added.

    Attributes:
        skip: Samples of this process that were seen already.
        chances: ``(images,)`` of each image to be drawn, as often as there are images; None draws each once. A second
            draw of an image in an epoch is another sample of it: its epoch is that of `REPEATED` epochs later.
    """

    skip = 0
    chances: np.ndarray | None = None

    def __iter__(self) -> Iterator[Any]:
        """Epoch, index and weight of each sample for this process."""
        images = len(self.dataset)  # pyright: ignore[reportArgumentType] - data sets of this room have a length
        order = super().__iter__() if self.chances is None else self._drawn(images)
        for position, drawn in enumerate(order):
            if position >= self.skip:
                epoch, index = drawn if isinstance(drawn, tuple) else (self.epoch, drawn)
                yield epoch, index, float(position * self.num_replicas + self.rank < images)

    def _drawn(self, images: int) -> list[tuple[int, int]]:
        """Epoch and index of the samples for this process, drawn by their chances."""
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.choice(images, size=images, p=self.chances).tolist()
        before: Counter[int] = Counter()
        drawn = []
        for index in order:
            drawn.append((self.epoch + REPEATED * before[index], index))
            before[index] += 1
        drawn += drawn[: self.total_size - images]
        return drawn[self.rank : self.total_size : self.num_replicas]


class ResumableLoader(DataLoader[Sample]):
    """A loader that knows how many batches of the epoch it has given, and can start after them."""

    batches_done = 0
    _start_after = 0

    def __iter__(self) -> Any:
        """Batches of this epoch, the first time after `load_state_dict` from where it was."""
        sampler = self.sampler
        assert isinstance(sampler, EpochSampler)
        assert self.batch_size is not None
        sampler.skip = self._start_after * self.batch_size
        self.batches_done, self._start_after = self._start_after, 0
        for batch in super().__iter__():
            self.batches_done += 1
            yield batch
            del batch  # else it is held while the next one is read

    def state_dict(self) -> dict[str, int]:
        """The number of batches given in this epoch, and of all that it has."""
        return {"batches_done": self.batches_done, "batches": len(self)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Start the next epoch after the batches already given; after a finished epoch at its first one.

        An epoch that is not finished must have as many batches here as where the state comes from.
        """
        done = state["batches_done"]
        self._start_after = done if done < state.get("batches", len(self)) else 0


def training_loader(
    dataset: Dataset[Sample],
    *,
    batch_size: int,
    workers: int,
    processes: int,
    rank: int,
    seed: int,
    pin: bool,
    chances: np.ndarray | None = None,
) -> ResumableLoader:
    """Shuffled batches for one of several processes; all get the same number of them."""
    sampler = EpochSampler(dataset, num_replicas=processes, rank=rank, shuffle=True, seed=seed)
    sampler.chances = chances
    return ResumableLoader(dataset, sampler=sampler, **_options(dataset, sampler, batch_size, workers, pin, processes))


def scoring_loader(
    dataset: Dataset[Sample],
    *,
    batch_size: int,
    workers: int,
    processes: int = 1,
    rank: int = 0,
    pin: bool = False,
) -> DataLoader[Sample]:
    """Batches in order; several processes may see the first images twice, which the metrics take out again."""
    sampler = DistributedSampler(dataset, num_replicas=processes, rank=rank, shuffle=False)
    return DataLoader(dataset, sampler=sampler, **_options(dataset, sampler, batch_size, workers, pin, processes))


def picture_loader(dataset: PictureDataset, *, batch_size: int, workers: int, pin: bool = False) -> DataLoader[Any]:
    """Batches of pictures without ground truth, as `collate_pictures` makes them."""
    order = SequentialSampler(dataset)
    return DataLoader(dataset, **_options(dataset, order, batch_size, workers, pin, collate=collate_pictures))


def worker_count(workers: int, *, processes: int = 1) -> int:
    """Reading processes for each training process: the number asked for or, for -1, by the cores."""
    if workers >= 0:
        return workers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(min(cores // processes, 8) - 1, 0)


def _options(
    dataset: Any,
    order: Iterable[Any],
    batch_size: int,
    workers: int,
    pin: bool,
    processes: int = 1,
    collate: Callable = Batch.collate,
) -> dict[str, Any]:
    workers = min(workers, math.ceil(len(dataset) / batch_size))  # the others would have nothing to do
    if workers > 0:
        example = collate([dataset[next(iter(order))]])
        workers = workers_that_fit(workers, batch_size * bytes_of(example), processes=processes)
    return {
        "batch_size": batch_size,
        "num_workers": workers,
        "collate_fn": collate,
        "persistent_workers": workers > 0,
        "pin_memory": pin,
        "worker_init_fn": _start_worker if workers > 0 else None,
    }


def _start_worker(_: int) -> None:
    """Workers share the cores with the trainer: no threads of their own.

    Signals to the whole process group don't reach them: the trainer ends them, and needs them to finish its step.
    """
    import cv2

    cv2.setNumThreads(0)
    sys.excepthook = _excepthook
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)


def _excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Shows errors of a worker's threads, but for those of handing over a batch to a trainer that has just stopped."""
    if not issubclass(kind, ConnectionError | EOFError):
        sys.__excepthook__(kind, error, trace)
