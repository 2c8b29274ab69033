"""An exponential moving average of the weights that are trained, as Polyak and Ruppert proposed for stochastic descent.

Lightning's own averages a copy of the whole model, the frozen base included; this one holds the trained tensors alone.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class MovingAverage:
    """The average of some parameters over optimiser steps.

    Early on fewer steps are remembered: step n counts with at least ``9 / (10 + n)``, so that a short run is not held
    near its start.

    Args:
        parameters: Names and parameters; each is averaged where it is.
        decay: What the average keeps of itself in each step, from 0 to below 1.
    """

    def __init__(self, parameters: Iterable[tuple[str, nn.Parameter]], decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self._parameters = dict(parameters)
        self._held: dict[str, Tensor] = {}
        self._in_place = False

    def start(self) -> None:
        """Begin with the parameters as they are, or go on with what was loaded, on the parameters' device."""
        for name, parameter in self._parameters.items():
            own = parameter.detach()
            self._held[name] = self._held[name].to(own.device) if self.steps else own.clone()

    @torch.no_grad()
    def update(self) -> None:
        """Take in the parameters after an optimiser step."""
        kept = min(self.decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        for name, parameter in self._parameters.items():
            self._held[name].lerp_(parameter, 1 - kept)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The parameters are the average for a while; within itself it changes nothing."""
        with self._where(in_place=True):
            yield

    @contextmanager
    def out_of_place(self) -> Iterator[None]:
        """The parameters are what is trained for a while, in the middle of a validation of the average."""
        with self._where(in_place=False):
            yield

    @contextmanager
    def _where(self, *, in_place: bool) -> Iterator[None]:
        if self._in_place == in_place:
            yield
            return
        self.exchange()
        try:
            yield
        finally:
            self.exchange()

    @torch.no_grad()
    def exchange(self) -> None:
        """Parameters and average change places; twice leaves every bit as it was."""
        self._in_place = not self._in_place
        for name, parameter in self._parameters.items():
            own = parameter.detach().clone()
            parameter.copy_(self._held[name])
            self._held[name].copy_(own)

    def state_dict(self) -> dict[str, Tensor]:
        """The average and the number of steps, for resuming."""
        assert not self._in_place
        return {**self._held, "steps": torch.tensor(self.steps)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from `state_dict`, after `start`."""
        self.steps = int(state["steps"])
        self._held = {name: state[name].clone() for name in self._parameters}
