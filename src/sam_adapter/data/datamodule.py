"""The data of a training run: inspect, split, and hand out loaders."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
import numpy as np
from torch.utils.data import DataLoader

from ..annotations.listing import Record
from ..annotations.reading.classes import Classes
from ..annotations.sources import listing_of
from ..batch import Sample
from ..config.options import DataOptions
from ..config.training import TrainConfig, validation_options
from ..errors import DataError, amount
from ..preprocessing import Preprocessing
from ..system.processes import is_main_process
from ..tasks.base import Task
from ..tiling.windows import TrainingWindows
from .augmentation import Augmentation
from .balancing import sampling_weights
from .dataset import PairDataset
from .inspection.findings import Inspection, Remark
from .inspection.kept import inspect_once, keep, state_of
from .inspection.remarks import folder_copies_remarks, tiny_object_remarks
from .loading import ResumableLoader, scoring_loader, training_loader, worker_count
from .splitting import grouped_split
from .tiles import tiles_each, tiles_in_words, tiling_of

log = logging.getLogger(__name__)


class PairDataModule(lightning.LightningDataModule):
    """Training and validation pairs.

    Everything that can be wrong with the files is found here, before a model is loaded.

    Args:
        config: Folders, split and prompts.

    Raises:
        DataError: With all faulty files, unless they are to be skipped.
        ConfigError: If a folder is missing.
    """

    train_set: PairDataset
    val_set: PairDataset | None

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self.config = config
        self.augmentation = Augmentation("none" if config.embedding_cache else config.augment)
        if config.embedding_cache and config.augment == "default":
            log.info("Images are not augmented, as their embeddings are kept")
        self._inspections: list[tuple[Inspection, str, Path]] = []
        found = self._inspected(config, "inspection.npz")
        records = self._without_empty(found, found.usable(config))
        self.reading = self.val_reading = found.rules
        self.looks = dict(zip(found.records, found.looks, strict=True))
        prints = dict(zip(found.records, found.fingerprints, strict=True))
        remarks = list(found.remarks)
        options = validation_options(config)
        if options is not None:
            held_out = self._inspected(options, "val_inspection.npz", found.rules.classes)
            self.train_records, self.val_records = records, held_out.usable(options)
            self.val_reading = held_out.rules.with_brightness_of(self.reading)
            remarks += [*held_out.remarks, *self._copies(prints, held_out)]
        else:
            self.train_records, self.val_records, torn = grouped_split(
                records,
                prints if is_main_process() or config.group_copies else {},
                config,
                fraction=config.val_fraction,
                seed=config.seed,
                torn_only=True,
                known_groups=found.groups,
                classes={record: [one.label for one in look.classes] for record, look in self.looks.items()},
            )
            remarks += torn
        for remark in remarks:
            if remark.kind != "several_objects" or config.prompt not in ("none", "mask"):  # that one is about boxes
                log.warning("%s", remark.in_words())
        trained, validated = len(self.train_records), len(self.val_records)
        log.info("%s, %s", amount(trained, "training pair"), amount(validated, "validation pair"))
        looks = [self.looks[record] for record in self.train_records]
        self.tiling = tiling_of(config, looks)
        most = self.tiling.tile if self.tiling else max(max(look.size) for look in looks)
        self.augmentation.require_pictures(
            *(min(most, *(look.size[side] for _, look in found.asked)) for side in (0, 1))
        )

    def make_datasets(self, preprocessing: Preprocessing, task: Task) -> None:
        """Make the data sets, once it is known what input the model takes and what is asked."""
        config = self.config
        pairs = [(record, self.looks[record]) for record in self.train_records]
        tile = None if self.tiling is None else self.tiling.tile
        for remark in tiny_object_remarks(
            pairs, image_size=preprocessing.image_size, tile=tile, apart=self.reading.objects is not None
        ):
            log.warning("%s", remark.in_words())
        if config.tile:
            looks = [look for _, look in pairs]
            log.info("Tiles: %s", tiles_in_words(self.tiling, looks, image_size=preprocessing.image_size))
        self.shown = self.train_records
        windows = None
        if self.tiling is not None:
            counts = [tiles_each(self.tiling, look.size, config.tiles_per_image) for _, look in pairs]
            self.shown = [record for (record, _), count in zip(pairs, counts, strict=True) for _ in range(count)]
            windows = TrainingWindows(tile=self.tiling.tile, empty_share=config.empty_tiles, by_class=config.balance)
        self.train_set = PairDataset(
            self.shown,
            preprocessing,
            task,
            training=True,
            reading=self.reading,
            augmentation=self.augmentation,
            seed=config.seed,
            windows=windows,
        )
        self.val_set = None
        if self.val_records:
            self.val_set = PairDataset(
                self.val_records,
                preprocessing,
                task,
                reading=self.val_reading,
                seed=config.seed,
                tiled=self.tiling is not None,
            )

    @property
    def records(self) -> list[Record]:
        """All pairs, those to train on first."""
        return [*self.train_records, *self.val_records]

    @property
    def datasets(self) -> list[PairDataset]:
        """That of training and, if there is one, that of validation, each with rules of reading of its own."""
        return [dataset for dataset in (self.train_set, self.val_set) if dataset is not None]

    def train_dataloader(self) -> ResumableLoader:
        """Shuffled batches of this process."""
        processes, rank, workers, pin = self._place()
        return training_loader(
            self.train_set,
            batch_size=self.config.batch_size,
            workers=workers,
            processes=processes,
            rank=rank,
            seed=self.config.seed,
            pin=pin,
            chances=sampling_weights(
                [self.looks[record] for record in self.shown],
                balance=self.config.balance,
                empty_share=self.config.empty_share,
            ),
        )

    def val_dataloader(self) -> DataLoader[Sample] | list[Any]:
        """Validation batches of this process."""
        if self.val_set is None:
            return []
        processes, rank, workers, pin = self._place()
        return scoring_loader(
            self.val_set,
            batch_size=self.config.batch_size if self.tiling is None else 1,
            workers=workers,
            processes=processes,
            rank=rank,
            pin=pin,
        )

    def _place(self) -> tuple[int, int, int, bool]:
        trainer = self.trainer
        assert trainer is not None
        here = max(trainer.world_size // max(trainer.num_nodes, 1), 1)
        workers = worker_count(self.config.workers, processes=here)
        return trainer.world_size, trainer.global_rank, workers, trainer.strategy.root_device.type == "cuda"

    def keep_inspections(self) -> None:
        """Write into the run's folder what was found, so that resuming and other processes need not look again."""
        for found, state, path in self._inspections:
            keep(found, state, path)

    def _inspected(self, options: DataOptions, name: str, classes: Classes | None = None) -> Inspection:
        path = self.config.output / name
        listing = listing_of(options)
        state = state_of(options, listing, classes)
        found = inspect_once(options, listing, path, state, classes)
        self._inspections.append((found, state, path))
        if found.faults and options.faulty == "skip":
            log.warning("Faulty files are left out.\n%s", found.report())
        return found

    def _copies(self, prints: Mapping[Record, np.ndarray], held_out: Inspection) -> list[Remark]:
        """What a validation set of its own has of the training images."""
        if not is_main_process():
            return []
        others = dict(zip(held_out.records, held_out.fingerprints, strict=True))
        both = [*(prints[record] for record in self.train_records), *(others[record] for record in self.val_records)]
        return folder_copies_remarks(self.train_records, self.val_records, both)

    def _without_empty(self, found: Inspection, records: list[Record]) -> list[Record]:
        if not found.empty:
            return records
        if self.config.empty_masks == "no_prompt":
            log.info("%d training masks are empty; they are trained on without a prompt", len(found.empty))
            return records
        empty = set(found.empty)
        kept = [record for record in records if record.name not in empty]
        log.info("%d training masks are empty; they are left out", len(empty))
        if not kept:
            raise DataError("all masks are empty and '--empty-masks skip' leaves nothing to train on.")
        return kept
