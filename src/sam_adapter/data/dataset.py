"""Data sets that hand out samples: pairs with ground truth, and pictures without."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..annotations.listing import Record
from ..annotations.reading.brightness import Brightness
from ..annotations.reading.decoding import MOST_PIXELS
from ..annotations.reading.files import read_image, read_picture
from ..annotations.reading.instances import Instances, read_instances
from ..annotations.reading.labels import read_labels
from ..annotations.reading.rules import ReadingRules
from ..batch import Annotation, Batch, EncodedImage, Prompt, Sample
from ..errors import DataError
from ..preprocessing import Preprocessing, in_colour, size_of
from ..tasks.base import Task
from ..tasks.splitting import core_map
from ..tiling.sweep import shown
from ..tiling.windows import TrainingWindows
from .augmentation import Augmentation
from .embedding_file import read_encoded


class PairDataset(Dataset[Sample]):
    """Images with masks.

    Items are asked for by index or, in training, by ``(epoch, index, weight)``: everything random about a sample
    follows from seed, epoch and index, whichever process makes it, so an interrupted run can be continued exactly.

    Args:
        records: The pairs.
        preprocessing: Picture to encoder input.
        task: Annotation to queries.
        training: Whether queries are drawn for training, or are those that scores are taken of.
        reading: What mask values mean, and the scale of deep pictures; without a table each mask is judged alone.
        augmentation: Changes image and mask together; None for evaluation.
        seed: Seed of everything random.
        windows: In training, the tiles that are shown; None shows whole pictures. A record that is to be shown several
            times an epoch is given several times.
        tiled: Whether pictures are handed out as they are, to be seen tile by tile.
        embeddings: Image and page to the file of what the encoder gave for it; that is handed out and the image is not
            read. None reads all.
    """

    def __init__(
        self,
        records: list[Record],
        preprocessing: Preprocessing,
        task: Task,
        *,
        training: bool = False,
        reading: ReadingRules | None = None,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        windows: TrainingWindows | None = None,
        tiled: bool = False,
        embeddings: Mapping[tuple[Path, int], Path] | None = None,
    ) -> None:
        self.windows = windows
        self.tiled = tiled
        self.records = records
        self.preprocessing = preprocessing
        self.task = task
        self.training = training
        self.reading = reading or ReadingRules()
        self.augmentation = augmentation
        self.seed = seed
        self.embeddings = embeddings

    def __len__(self) -> int:
        return len(self.records)

    def pair(self, index: int) -> tuple[np.ndarray, Annotation]:
        """A picture with its ground truth as they are in the files, before any augmentation.

        Args:
            index: Position in the data set.

        Returns:
            ``(H, W, 3)`` uint8 and its annotation.

        Raises:
            DataError: If a file cannot be read, or they differ in size.
        """
        image, labels = self._read_pair(self.records[index])
        return image, _annotation(labels)

    def _read_pair(self, record: Record) -> tuple[np.ndarray, Instances]:
        """Picture and labels."""
        found = self._labels(record)  # first, as reading one takes several times its memory
        labels = found.labels
        image = read_image(record.image, self.reading.brightness, page=record.page, max_pixels=None)
        _require_one_size(record, image.shape[:2], labels)
        return image, found

    def _read_resized(self, record: Record) -> tuple[Tensor, Instances]:
        """Encoder input ``(3, S, S)``, resized, normalised and padded at the right and bottom, and labels.

        The picture at its own size is gone before the label map is read.
        """
        picture = read_picture(record.image, self.reading.brightness, page=record.page, max_pixels=None)
        size, pixel_values = size_of(picture), self.preprocessing.pixel_values(picture)
        del picture
        labels = self._labels(record)
        _require_one_size(record, size, labels.labels)
        return pixel_values, labels

    def _labels(self, record: Record) -> Instances:
        """The label map: of objects where they are told apart, else of foreground or classes."""
        if self.reading.objects is not None:
            return read_instances(record, self.reading)
        return Instances(read_labels(record, self.reading, max_pixels=None), {})

    def __getitem__(self, key: int | tuple[int, int, float]) -> Sample:
        """Read, augment and preprocess one pair, and make its prompts."""
        epoch, index, weight = key if isinstance(key, tuple) else (0, key, 1.0)
        return self._read(epoch, index)._replace(weight=weight)

    def _read(self, epoch: int, index: int) -> Sample:
        record = self.records[index]
        rng = np.random.default_rng([self.seed, epoch, index])
        # Drawn before the ways part, so that prompts are the same with kept embeddings and without.
        augmentation_seed = 0 if self.augmentation is None else int(rng.integers(2**31))
        if self.embeddings is not None:
            encoded = read_encoded(self.embeddings[record.picture])
            return self._sample(index, self._labels(record), rng, encoded=encoded)
        whole = not self.tiled and self.windows is None
        if whole and (self.augmentation is None or not self.augmentation.changes):
            pixel_values, labels = self._read_resized(record)
            return self._sample(index, labels, rng, pixel_values=pixel_values)
        image, labels = self._read_pair(record)
        if self.tiled:
            return self._sample(index, labels, rng)._replace(picture=torch.tensor(image))
        window = None if self.windows is None else self.windows.draw(labels.labels, rng)
        if window is not None:
            image = np.ascontiguousarray(shown(image, window))
            labels = replace(labels, labels=np.ascontiguousarray(shown(labels.labels, window)))
        if self.augmentation is not None:
            image, changed = self.augmentation(image, labels.labels, seed=augmentation_seed)
            labels = replace(labels, labels=changed)
        sample = self._sample(index, labels, rng, pixel_values=self.preprocessing.pixel_values(image))
        return sample._replace(window=window)

    def _sample(
        self,
        index: int,
        labels: Instances,
        rng: np.random.Generator,
        *,
        pixel_values: Tensor | None = None,
        encoded: EncodedImage | None = None,
    ) -> Sample:
        annotation = _annotation(labels)
        ask = self.task.training_queries if self.training else self.task.evaluation_queries
        return Sample(
            index=index,
            name=self.records[index].name,
            pixel_values=pixel_values,
            annotation=annotation,
            queries=ask(annotation, rng),
            original_size=(annotation.labels.shape[0], annotation.labels.shape[1]),
            encoded=encoded,
        )


def _annotation(found: Instances) -> Annotation:
    """A label map, with the inner parts of its objects where they are told apart."""
    labels = torch.from_numpy(found.labels)
    if labels.dtype == torch.uint8:
        return Annotation.of(labels)
    return Annotation.of(
        labels,
        cores=torch.from_numpy(core_map(found.labels)),
        class_labels=torch.from_numpy(found.class_labels()) if found.classes else None,
        object_classes=found.classes,
    )


def _require_one_size(record: Record, size: tuple[int, ...], labels: np.ndarray) -> None:
    if size != labels.shape:
        raise DataError(
            f"mask {record.mask} is {labels.shape[1]}x{labels.shape[0]} but its image is {size[1]}x{size[0]}; "
            "masks must match. 'sam-adapter check' lists all such files."
        )


class PictureDataset(Dataset[Sample | DataError]):
    """Pictures without ground truth; one that cannot be read is handed out as its error and stops no other.

    Args:
        paths: The files.
        preprocessing: Picture to encoder input.
        task: What is asked; None asks nothing.
        prompts: File to prompts in pixels of the picture, with the labels that they ask for; the others get none.
        pages: Page of each file; None takes the first of all.
        brightness: Scale of deep pictures; None scales each by itself.
        max_pixels: Larger pictures are errors.
        tiled: Whether pictures are handed out as they are, to be seen tile by tile.
    """

    def __init__(
        self,
        paths: list[Path],
        preprocessing: Preprocessing,
        *,
        task: Task | None = None,
        prompts: Mapping[Path, tuple[list[Prompt], list[int]]] | None = None,
        pages: list[int] | None = None,
        brightness: Brightness | None = None,
        max_pixels: int | None = MOST_PIXELS,
        tiled: bool = False,
    ) -> None:
        self.tiled = tiled
        self.paths = paths
        self.preprocessing = preprocessing
        self.task = task
        self.prompts = prompts or {}
        self.pages = pages or [0] * len(paths)
        self.brightness = brightness
        self.max_pixels = max_pixels

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Sample | DataError:
        """Read and preprocess one picture."""
        path = self.paths[index]
        try:
            picture = read_picture(path, self.brightness, page=self.pages[index], max_pixels=self.max_pixels)
        except DataError as error:
            return error
        asked, labels = self.prompts.get(path, ([], None))
        size = size_of(picture)
        for one in asked:
            if one.mask is not None and one.mask.size != size:  # it was compared with the first page
                return DataError(
                    f"{path}: page {self.pages[index] + 1} is {size[1]}x{size[0]} and the mask of its prompt "
                    f"{one.mask.size[1]}x{one.mask.size[0]}; masks must match. Save the pages as pictures of their own."
                )
        return Sample(
            index=index,
            name=str(path),
            pixel_values=None if self.tiled else self.preprocessing.pixel_values(picture),
            annotation=None,
            queries=[] if self.task is None else self.task.prediction_queries(asked, labels),
            original_size=size,
            picture=torch.tensor(in_colour(picture)) if self.tiled else None,
        )


def collate_pictures(items: list[Sample | DataError]) -> tuple[Batch | None, list[DataError]]:
    """A batch of what could be read, if anything could, and the errors."""
    samples = [item for item in items if isinstance(item, Sample)]
    return Batch.collate(samples) if samples else None, [item for item in items if isinstance(item, DataError)]
