"""Means over an epoch's samples, in several processes and across an interruption."""

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch.strategies import Strategy
from torch import Tensor

from ..system.float64 import device_with_float64, with_float64


class EpochMeans:
    """Weighted sums of named values since the epoch began."""

    def __init__(self) -> None:
        self._epoch = -1
        self._sums: dict[str, Tensor] = {}

    def add(self, epoch: int, sums: Mapping[str, Tensor], weight: Tensor) -> None:
        """Add a batch's sums; the first of an epoch takes the place of those of the epoch before."""
        if epoch != self._epoch:
            self._epoch, self._sums = epoch, {}
        for name, value in {**sums, "": weight}.items():
            before = self._sums.get(name)
            added = with_float64(value.detach()).double()
            self._sums[name] = added if before is None else before.to(added.device) + added

    def over_all(self, strategy: Strategy) -> dict[str, float]:
        """The means over the samples of all processes; every process must call it."""
        sums = self._reduced(strategy)
        weight = sums.pop("", 0.0)
        return {name: value / weight for name, value in sums.items()} if weight else {}

    def state_dict(self, strategy: Strategy) -> dict[str, Any]:
        """The sums over all processes, for one of them to go on with; every process must call it."""
        return {"epoch": self._epoch, "sums": self._reduced(strategy)}

    def load_state_dict(self, state: Mapping[str, Any], *, first: bool) -> None:
        """Go on from `state_dict`.

        Args:
            state: The sums over all processes.
            first: Whether this process goes on with them. The others begin at zero, but with the same names: all
                processes must take part in `over_all`, also if no batch comes before it.
        """
        self._epoch = state.get("epoch", -1)
        sums = state.get("sums", {})
        self._sums = {name: torch.tensor(value * first, dtype=torch.float64) for name, value in sums.items()}

    def _reduced(self, strategy: Strategy) -> dict[str, float]:
        names = sorted(self._sums)
        if not names:
            return {}
        device = device_with_float64(strategy.root_device)
        stacked = torch.stack([self._sums[name].to(device) for name in names])
        return dict(zip(names, strategy.reduce(stacked, reduce_op="sum").tolist(), strict=True))
