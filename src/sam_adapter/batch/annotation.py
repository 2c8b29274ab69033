"""The ground truth of one image, from which the target of each query is made."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from ..config.labels import ALL_OBJECTS, CORES, VOID, objects_of_class


@dataclass(frozen=True)
class Annotation:
    """The ground truth of one image as a label map.

    A query's target is made when it is asked for, in as many rows as are asked for: no stack of full-size masks is
    ever held.

    Attributes:
        labels: ``(H, W)`` uint8, or int32 where each object has a number; 0 is background and `VOID` says nothing.
        has_void: Whether any pixel is void.
        cores: ``(H, W)`` bool, the inner parts of all objects; None where there are no objects apart.
        class_labels: ``(H, W)`` uint8, the label of the class of each object's pixels; None where no object has one.
        object_classes: Number of each object to the label of its class; empty where objects have none.
    """

    labels: Tensor
    has_void: bool
    cores: Tensor | None = None
    class_labels: Tensor | None = None
    object_classes: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, labels: Tensor, **objects: Any) -> Self:
        """The annotation that a label map ``(H, W)`` means, with the attributes of objects if it has them."""
        return cls(labels, bool((labels == VOID).any()), **objects)

    def target(self, label: int, rows: slice = slice(None)) -> Tensor:
        """Where a label is: ``(rows, W)`` bool."""
        if label == CORES:
            assert self.cores is not None
            return self.cores[rows]
        if label == ALL_OBJECTS:
            return (self.labels[rows] != 0) & (self.labels[rows] != VOID)
        if label < CORES:
            if self.class_labels is None:  # a picture without objects
                return torch.zeros_like(self.labels[rows], dtype=torch.bool)
            return self.class_labels[rows] == objects_of_class(label)
        return self.labels[rows] == label

    def with_each(self, change: Callable[[Tensor], Tensor]) -> Self:
        """A copy with every tensor changed."""
        cores, kinds = (None if one is None else change(one) for one in (self.cores, self.class_labels))
        return replace(self, labels=change(self.labels), cores=cores, class_labels=kinds)

    def counted(self, rows: slice = slice(None)) -> Tensor | None:
        """Where the ground truth says something: ``(rows, W)`` bool, or None for everywhere."""
        return self.labels[rows] != VOID if self.has_void else None

    def counted_array(self) -> np.ndarray | None:
        """`counted` of all rows as an array."""
        counted = self.counted()
        return None if counted is None else counted.numpy()
