"""The dry run: one real step of a training run, measured; and what to do when memory runs out."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Self

import torch

from ..batch import Batch
from ..config.training import TrainConfig
from ..data.datamodule import PairDataModule
from ..data.loading import training_loader, worker_count
from ..errors import ConfigError, amount
from ..system.machine import Machine
from .lightning_module import TrainingModule
from .setup import module_and_data


def next_saving(config: TrainConfig, machine: Machine) -> str:
    """The step that saves memory next and costs least, of those that a configuration has not taken yet."""
    if config.batch_size > 1:
        half = config.batch_size // 2
        return f"--batch-size {half} --accumulate {config.accumulate * config.batch_size // half} (the same gradients)"
    if not config.gradient_checkpointing:
        return "--gradient-checkpointing (the same gradients, about a third slower)"
    if machine.precision == "32":
        return "--precision bf16-mixed"
    if config.training_prompts > 1:
        return "--prompts-per-image 1"
    return "a smaller --image-size (halved, it takes a quarter of the memory), or a smaller --model"


@contextmanager
def memory_advised(config: TrainConfig, machine: Machine) -> Iterator[None]:
    """Turn PyTorch's word that there is no memory into what to do.

    Raises:
        ConfigError: If there was not enough memory.
    """
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "not enough memory" not in str(error):
            raise
        raise ConfigError(
            f"the memory of the {machine.device.type} is not enough ({str(error).splitlines()[0]}). Try next: "
            f"{next_saving(config, machine)}. '--dry-run' measures a step without starting a run."
        ) from error


def dry_run(config: TrainConfig) -> "DryRun":
    """Take one real step of a run as configured, and write nothing; raises what `module_and_data` raises."""
    module, data = module_and_data(config)
    with memory_advised(config, module.machine):
        return DryRun.measured(module, data)


@dataclass(frozen=True)
class DryRun:
    """One real step, measured.

    Attributes:
        step_seconds: Forward, backward and optimiser for one batch.
        load_seconds: Reading and preparing one batch in one process.
        peak_bytes: Largest memory of the process, or of the GPU.
        batches: Batches in an epoch.
        val_seconds: Estimate for the validation images, each asked with each kind of prompt.
        once_seconds: Estimate for encoding all images before the first epoch; 0 without an embedding cache.
        config: The run.
        machine: What it was measured on.
        place: The same in words.
    """

    step_seconds: float
    load_seconds: float
    peak_bytes: int
    batches: int
    val_seconds: float
    once_seconds: float
    config: TrainConfig
    machine: Machine
    place: str

    @property
    def epoch_seconds(self) -> float:
        """Reading happens beside the computing where there are workers for it."""
        step = _beside(self.step_seconds, self.load_seconds, self.config)
        return self.batches * step + self.val_seconds

    @property
    def run_seconds(self) -> float:
        """All epochs, and the validation of the base before the first."""
        return self.once_seconds + self.config.epochs * self.epoch_seconds + self.val_seconds

    @classmethod
    def measured(cls, module: TrainingModule, data: PairDataModule) -> Self:
        """Take two steps, of which the first only warms up; the model is thrown away afterwards."""
        config, machine = module.config, module.machine
        loader = training_loader(
            data.train_set, batch_size=config.batch_size, workers=0, processes=1, rank=0, seed=config.seed, pin=False
        )
        began = time.perf_counter()
        batch: Batch = next(iter(loader))
        load_seconds = time.perf_counter() - began
        batch = batch.to(machine.device)
        segmenter = module.segmenter.to(machine.device).train()
        once = 0.0
        if config.embedding_cache is not None and batch.pixel_values is not None:
            encoded = None
            for _ in range(2):
                began = machine.clock()
                with machine.autocast(), torch.no_grad():
                    encoded = segmenter.encode_to_keep(batch.pixel_values)
                once = machine.clock() - began
            once = (once + load_seconds) * len(data.records) / config.batch_size
            batch = replace(batch, pixel_values=None, encoded=encoded)
        optimizer = module.optimizer()
        seconds = 0.0
        for _ in range(2):
            began = machine.clock()
            with machine.autocast():
                loss = module.losses(batch)[0].mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            seconds = machine.clock() - began
        validation = _validation_seconds(module, data, kept=once > 0)
        batches = module.batches_per_epoch(config.devices * config.nodes)
        peak = machine.peak_bytes()
        place = segmenter.backbone.on(machine)
        return cls(seconds, load_seconds, peak, batches, validation, once, config, machine, place)

    def __str__(self) -> str:
        config = self.config
        first = f"\nEncoding the images once will take about {_clock(self.once_seconds)}." if self.once_seconds else ""
        return (
            f"One step of {amount(config.batch_size, 'image')} took {self.step_seconds:.2f} s on {self.place}; "
            "reading them "
            f"took {self.load_seconds:.2f} s.\nPeak memory {self.peak_bytes / 1e9:.2f} GB. To save memory next: "
            f"{next_saving(config, self.machine)}.{first}\nAn epoch of {amount(self.batches, 'step')} and validation "
            "will take "
            f"about {_clock(self.epoch_seconds)}, {amount(config.epochs, 'epoch')} {_clock(self.run_seconds)}."
        )


def _validation_seconds(module: TrainingModule, data: PairDataModule, *, kept: bool) -> float:
    """Time for all validation images, from the first batch of them; the first of two goes only warms up."""
    config, machine = module.config, module.machine
    if data.val_set is None:
        return 0.0
    count = min(config.batch_size, len(data.val_set))
    began = time.perf_counter()
    batch = Batch.collate([data.val_set[index] for index in range(count)])
    load_seconds = time.perf_counter() - began
    batch = batch.to(machine.device)
    segmenter, seconds = module.segmenter.train(False), 0.0
    with torch.no_grad(), machine.autocast():
        if kept and batch.pixel_values is not None:
            batch = replace(batch, pixel_values=None, encoded=segmenter.encode_to_keep(batch.pixel_values))
        for _ in range(2):
            began = machine.clock()
            module.validate(batch)
            seconds = machine.clock() - began
    return _beside(seconds, load_seconds, config) * len(data.val_set) / count


def _beside(seconds: float, load_seconds: float, config: TrainConfig) -> float:
    """Time of a batch whose reading is done by workers where there are some."""
    workers = worker_count(config.workers)
    return max(seconds, load_seconds / workers) if workers else seconds + load_seconds


def _clock(seconds: float) -> str:
    """Seconds as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"
