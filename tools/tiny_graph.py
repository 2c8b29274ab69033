"""Gradients of a training step, on a GPU as one recorded graph: launching its thousands of kernels takes longer."""

import logging
from dataclasses import dataclass

import torch
from torch import Tensor

from tiny_data import Scenes
from tiny_model import Learner
from tiny_step import training_loss

LOGGER = logging.getLogger("pretrain_tiny")


@dataclass(frozen=True)
class _Recorded:
    """One recorded step; each replay writes the same tensors."""

    graph: torch.cuda.CUDAGraph
    loss: Tensor
    gradients: list[Tensor | None]


class Stepper:
    """Leaves the gradients of a step in the parameters.

    Args:
        learner: What learns.
        graphs: Whether to record graphs; needs a GPU. Where that fails, steps go on without.
    """

    def __init__(self, learner: Learner, *, graphs: bool) -> None:
        self.learner = learner
        self.parameters = [p for p in learner.parameters() if p.requires_grad]
        self.graphs = graphs
        self.scenes: Scenes | None = None
        self.recorded: dict[bool, _Recorded] = {}

    def __call__(self, scenes: Scenes, *, correct: bool) -> Tensor:
        """Compute the loss and its gradients; see `training_loss`."""
        if self.graphs and self.scenes is None:
            try:
                self._record(scenes)
            except RuntimeError:
                LOGGER.exception("no graph could be recorded")
                self.graphs = False
                torch.cuda.synchronize()
                self._forget()
        if not self.graphs:
            return self._eager(scenes, correct=correct)
        assert self.scenes is not None
        for static, new in zip(self.scenes.fields, scenes.fields, strict=True):
            static.copy_(new)
        recorded = self.recorded[correct]
        recorded.graph.replay()
        for parameter, gradient in zip(self.parameters, recorded.gradients, strict=True):
            parameter.grad = gradient
        return recorded.loss

    def _eager(self, scenes: Scenes, *, correct: bool) -> Tensor:
        loss = training_loss(self.learner, scenes, correct=correct)
        loss.backward()
        return loss.detach()

    def _forget(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def _record(self, scenes: Scenes) -> None:
        self.scenes = Scenes(*(field.clone() for field in scenes.fields))
        for correct in (False, True):
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            eager = torch.zeros(())
            with torch.cuda.stream(side):
                for _ in range(3):
                    eager = self._eager(self.scenes, correct=correct)
                    self._forget()
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                loss = self._eager(self.scenes, correct=correct)
            gradients = [parameter.grad for parameter in self.parameters]
            self._forget()
            self.recorded[correct] = _Recorded(graph, loss, gradients)
            graph.replay()
            LOGGER.info("recorded a step: loss %.4f, without the graph %.4f", loss.item(), eager.item())
