"""Data sets that hand out samples: pairs with ground truth, and pictures without."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..annotations.listing import Record
from ..annotations.reading.brightness import Brightness
from ..annotations.reading.decoding import MOST_PIXELS
from ..annotations.reading.files import read_image, read_picture
from ..annotations.reading.labels import read_labels
from ..annotations.reading.rules import ReadingRules
from ..batch import Annotation, Batch, EncodedImage, Prompt, Sample
from ..errors import DataError
from ..preprocessing import Preprocessing, size_of
from ..tasks.base import Task
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
        embeddings: Mapping[tuple[Path, int], Path] | None = None,
    ) -> None:
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
        return image, Annotation.of(torch.from_numpy(labels))

    def _read_pair(self, record: Record) -> tuple[np.ndarray, np.ndarray]:
        """Picture and label map."""
        labels = self._labels(record)  # first, as reading one takes several times its memory
        image = read_image(record.image, self.reading.brightness, page=record.page, max_pixels=None)
        _require_one_size(record, image.shape[:2], labels)
        return image, labels

    def _read_resized(self, record: Record) -> tuple[Tensor, np.ndarray]:
        """Encoder input and label map; the picture at its own size is gone before the label map is read."""
        picture = read_picture(record.image, self.reading.brightness, page=record.page, max_pixels=None)
        size, pixel_values = size_of(picture), self.preprocessing.pixel_values(picture)
        del picture
        labels = self._labels(record)
        _require_one_size(record, size, labels)
        return pixel_values, labels

    def _labels(self, record: Record) -> np.ndarray:
        return read_labels(record, self.reading, max_pixels=None)

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
        if self.augmentation is None or not self.augmentation.changes:
            pixel_values, labels = self._read_resized(record)
            return self._sample(index, labels, rng, pixel_values=pixel_values)
        image, labels = self._read_pair(record)
        image, labels = self.augmentation(image, labels, seed=augmentation_seed)
        return self._sample(index, labels, rng, pixel_values=self.preprocessing.pixel_values(image))

    def _sample(
        self,
        index: int,
        labels: np.ndarray,
        rng: np.random.Generator,
        *,
        pixel_values: Tensor | None = None,
        encoded: EncodedImage | None = None,
    ) -> Sample:
        annotation = Annotation.of(torch.from_numpy(labels))
        ask = self.task.training_queries if self.training else self.task.evaluation_queries
        return Sample(
            index=index,
            name=self.records[index].name,
            pixel_values=pixel_values,
            annotation=annotation,
            queries=ask(annotation, rng),
            original_size=(labels.shape[0], labels.shape[1]),
            encoded=encoded,
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
        prompts: File to prompt in pixels of the picture; the others get none.
        pages: Page of each file; None takes the first of all.
        brightness: Scale of deep pictures; None scales each by itself.
        max_pixels: Larger pictures are errors.
    """

    def __init__(
        self,
        paths: list[Path],
        preprocessing: Preprocessing,
        *,
        task: Task | None = None,
        prompts: Mapping[Path, Prompt] | None = None,
        pages: list[int] | None = None,
        brightness: Brightness | None = None,
        max_pixels: int | None = MOST_PIXELS,
    ) -> None:
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
        asked = [self.prompts[path]] if path in self.prompts else []
        return Sample(
            index=index,
            name=str(path),
            pixel_values=self.preprocessing.pixel_values(picture),
            annotation=None,
            queries=[] if self.task is None else self.task.prediction_queries(asked),
            original_size=size_of(picture),
        )


def collate_pictures(items: list[Sample | DataError]) -> tuple[Batch | None, list[DataError]]:
    """A batch of what could be read, if anything could, and the errors."""
    samples = [item for item in items if isinstance(item, Sample)]
    return Batch.collate(samples) if samples else None, [item for item in items if isinstance(item, DataError)]
