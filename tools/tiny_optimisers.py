"""Muon for many matrices at once: those of equal shape are updated together."""

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from tiny_model import Learner

_QUINTIC = (3.4445, -4.775, 2.0315)


class StackedMuon(Optimizer):
    """`torch.optim.Muon` with its Nesterov momentum and `match_rms_adamw`, in far fewer operations.

    Args:
        matrices: 2-D parameters.
        lr: Learning rate.
        weight_decay: Decoupled.
        momentum: Of the gradient.
    """

    def __init__(
        self, matrices: list[nn.Parameter], lr: float, weight_decay: float = 0.05, momentum: float = 0.95
    ) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        self.stacks: dict[torch.Size, list[nn.Parameter]] = {}
        for matrix in matrices:
            self.stacks.setdefault(matrix.shape, []).append(matrix)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One update of every matrix; all of them need a gradient."""
        group = self.param_groups[0]
        rate, momentum = group["lr"], group["momentum"]
        for shape, matrices in self.stacks.items():
            gradients = [matrix.grad for matrix in matrices]
            assert all(gradient is not None for gradient in gradients)
            gradient = torch.stack([one for one in gradients if one is not None])
            state = self.state[matrices[0]]
            average: Tensor = state.setdefault("momentum", torch.zeros_like(gradient))
            average.lerp_(gradient, 1 - momentum)
            update = orthogonal(gradient.lerp(average, momentum))
            step = rate * 0.2 * max(shape) ** 0.5
            change = update.to(gradient.dtype) * -step
            for matrix, part in zip(matrices, change, strict=True):
                matrix.mul_(1 - rate * group["weight_decay"]).add_(part)


def orthogonal(matrices: Tensor) -> Tensor:
    """The nearest matrices with equal singular values, roughly, ``(K, r, c)``: five Newton-Schulz steps in bfloat16."""
    a, b, c = _QUINTIC
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.bfloat16()
    x = x.transpose(1, 2) if tall else x
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
    for _ in range(5):
        gram = x @ x.transpose(1, 2)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.transpose(1, 2) if tall else x


def optimisers(learner: Learner, rate: float, *, fused: bool) -> list[Optimizer]:
    """Matrices of the SAM go to Muon, everything else to AdamW."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = [learner.questions, *learner.helper.parameters()]
    for module in learner.sam.modules():
        for parameter in module.parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            is_matrix = isinstance(module, nn.Linear) and parameter.ndim == 2
            (matrices if is_matrix else others).append(parameter)
    return [
        StackedMuon(matrices, lr=rate),
        AdamW(others, lr=rate, weight_decay=0.0, betas=(0.9, 0.98), fused=fused),
    ]
