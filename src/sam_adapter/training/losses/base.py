"""The contract of a loss: sums over pixels, and the value that they give.

A loss is a `Loss`, and a line in `sam_adapter.config.registry.LOSSES`. As its sums can be taken over one band of rows
after another, no loss ever needs the logits of all pixels of a large picture at once. What must be known of the whole
target, such as how far a pixel is from the edge, is a map made from it beforehand, `Loss.target_map`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ...config.registry import LOSSES, look_up
from ...tasks.metrics.shapes import require_same_shape
from ...tasks.pixels import MakeMap

SMOOTHING = 1e-3


@dataclass(frozen=True)
class Loss:
    """Logits and target of masks ``(..., H, W)`` to one loss a mask ``(...)``, in two steps: sums over pixels, and a
    value made from these sums alone.

    A mask may so be taken a band of rows at a time, and the sums of the bands added.

    Attributes:
        sums: Logits, 0/1 target and 0/1 of the pixels that count (None: all), float32 of one shape ``(..., H, W)``, to
            ``count`` sums over pixels ``(..., count)``, float32: sums in float64 are counts, and get no gradient. With
            a ``target_map``, the map of the same shape is a fourth argument.
        value: The sums over all pixels to the loss of each mask ``(...)``.
        count: Number of sums.
        target_map: What is made once a query from its whole target, on the CPU, before any sums are taken; None needs
            nothing.
        local: Whether its sums are taken in a query's region alone, where it has one: in a mean over all pixels of a
            picture a small object hardly counts.
    """

    sums: Callable[..., Tensor]
    value: Callable[[Tensor], Tensor]
    count: int
    target_map: MakeMap | None = None
    local: bool = False

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
        maps = () if self.target_map is None else (_maps_of(self.target_map, target, counted).to(logits.device),)
        some = None if counted is None else counted.float()
        return self.value(self.sums(logits.float(), target.float(), some, *maps))


def _maps_of(make: MakeMap, target: Tensor, counted: Tensor | None) -> Tensor:
    """The maps of targets ``(..., H, W)``, of the same shape."""
    some = torch.ones_like(target, dtype=torch.bool) if counted is None else counted.bool()
    truth = target.bool() & some
    pairs = zip(truth.flatten(0, -3), some.flatten(0, -3), strict=True) if target.ndim > 2 else [(truth, some)]
    made = [
        torch.from_numpy(make(one.cpu().numpy(), None if counted is None else where.cpu().numpy()))
        for one, where in pairs
    ]
    return torch.stack(made).reshape(target.shape)


class WeightedLosses:
    """A weighted sum of losses, taken together in one pass over the pixels, as `tasks.pixels.sum_over_pixels` does.

    Args:
        weights: Name in `LOSSES` to weight.

    Attributes:
        maps: How the maps are made that some of them need of the whole target, in the order of the losses.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        self.weights = dict(weights)
        self.losses: dict[str, Loss] = {name: look_up(LOSSES, name) for name in weights}
        self.maps: tuple[MakeMap, ...] = tuple(
            loss.target_map for loss in self.losses.values() if loss.target_map is not None
        )

    def __call__(
        self,
        logits: Tensor,
        target: Tensor,
        counted: Tensor | None,
        members: list[int],
        maps: Tensor | None = None,
        near: Tensor | None = None,
    ) -> Tensor:
        """All sums of some rows of some masks, ``(n, sums)``; see `sam_adapter.tasks.pixels.MapReduce`."""
        require_same_shape(logits, target, counted)
        truth, some = target.float(), None if counted is None else counted.float()
        inside = some if near is None else near.float() if some is None else near * some
        own = iter(()) if maps is None else iter(maps.unbind(1))
        return torch.cat(
            [
                loss.sums(
                    logits,
                    truth,
                    inside if loss.local else some,
                    *([] if loss.target_map is None else [next(own)]),
                )
                for loss in self.losses.values()
            ],
            -1,
        )

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
