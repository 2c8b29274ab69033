"""The contract of a loss: sums over pixels, and the value that they give.

A loss is a `Loss`, and a line in `sam_adapter.config.registry.LOSSES`. As its sums can be taken over one band of rows
after another, no loss ever needs all pixels of a large picture at once.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ...config.registry import LOSSES, look_up
from ...tasks.metrics.shapes import require_same_shape

SMOOTHING = 1e-3


@dataclass(frozen=True)
class Loss:
    """Logits and target of masks ``(..., H, W)`` to one loss a mask ``(...)``, in two steps: sums over pixels, and a
    value made from these sums alone.

    A mask may so be taken a band of rows at a time, and the sums of the bands added.

    Attributes:
        sums: Logits, 0/1 target and 0/1 of the pixels that count (None: all), float32 of one shape ``(..., H, W)``, to
            ``count`` sums over pixels ``(..., count)``, float32: sums in float64 are counts, and get no gradient.
        value: The sums over all pixels to the loss of each mask ``(...)``.
        count: Number of sums.
    """

    sums: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    value: Callable[[Tensor], Tensor]
    count: int

    def __call__(self, logits: Tensor, target: Tensor, counted: Tensor | None = None) -> Tensor:
        """The loss of whole masks.

        Args:
            logits: ``(..., H, W)``.
            target: ``(..., H, W)``, 0 or 1.
            counted: ``(..., H, W)`` bool, False at pixels that do not count; None counts all.

        Returns:
            ``(...)``.

        Raises:
            ValueError: If shapes differ: they are never broadcast.
        """
        require_same_shape(logits, target, counted)
        return self.value(self.sums(logits.float(), target.float(), None if counted is None else counted.float()))


class WeightedLosses:
    """A weighted sum of losses, taken together in one pass over the pixels.

    Args:
        weights: Name in `LOSSES` to weight.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        self.weights = dict(weights)
        self.losses: dict[str, Loss] = {name: look_up(LOSSES, name) for name in weights}

    def sums(self, logits: Tensor, target: Tensor, counted: Tensor | None, members: list[int]) -> Tensor:
        """All sums of some rows of some masks, ``(n, sums)``; see `sam_adapter.tasks.pixels.Reduce`."""
        require_same_shape(logits, target, counted)
        truth, some = target.float(), None if counted is None else counted.float()
        return torch.cat([loss.sums(logits, truth, some) for loss in self.losses.values()], -1)

    def terms(self, sums: Tensor) -> dict[str, Tensor]:
        """The loss of each mask ``(Q,)`` by name, from the sums over all its pixels ``(Q, sums)``."""
        parts = sums.split([loss.count for loss in self.losses.values()], -1)
        return {name: loss.value(part) for (name, loss), part in zip(self.losses.items(), parts, strict=True)}

    def weighted(self, terms: Mapping[str, Tensor]) -> Tensor:
        """The sum of terms of one shape, each times its weight."""
        return torch.stack([self.weights[name] * term for name, term in terms.items()]).sum(0)


def over_pixels(values: Iterable[Tensor], counted: Tensor | None = None) -> Tensor:
    """Sums of several tensors ``(..., H, W)`` over the pixels that count, ``(..., len(values))``."""
    return torch.stack([(one if counted is None else one * counted).sum((-2, -1)) for one in values], -1)
