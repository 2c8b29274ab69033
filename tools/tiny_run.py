"""A pretraining run: what learns, its optimisers and its counters, and the files it is kept in."""

import csv
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
import torch.distributed as dist
from torch.optim import Optimizer

from tiny_model import Learner
from tiny_optimisers import optimisers
from tiny_sam2 import Sam2Learner


@dataclass
class Counters:
    """Where a run stands."""

    elapsed: float = 0.0
    """Seconds trained."""
    step: int = 0
    next_index: int = 0
    """The first scene that has not been generated."""
    best: float = -1.0


@dataclass
class Run:
    """Everything that a stopped run needs to go on."""

    learner: Learner
    average: Learner
    optimizers: list[Optimizer]
    counters: Counters = field(default_factory=Counters)

    def save(self, folder: Path) -> None:
        """Write `resume_STEP/`, complete or not at all, and remove older ones; each file has less than 16 MiB."""
        place = folder / f"resume_{self.counters.step:07d}"
        partial = folder / "resume.part"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        torch.save(self.learner.state_dict(), partial / "learner.pt")
        torch.save(self.average.state_dict(), partial / "average.pt")
        state = {"optimizers": [one.state_dict() for one in self.optimizers], "counters": asdict(self.counters)}
        torch.save(state, partial / "optimizers.pt")
        older = [one for one in saved_in(folder) if one != place]
        shutil.rmtree(place, ignore_errors=True)
        os.replace(partial, place)
        for one in older:
            shutil.rmtree(one)

    def load(self, folder: Path) -> None:
        """Read the latest state back."""
        place = saved_in(folder)[-1]
        device = self.learner.questions.device
        self.learner.load_state_dict(torch.load(place / "learner.pt", map_location=device, weights_only=True))
        self.average.load_state_dict(torch.load(place / "average.pt", map_location=device, weights_only=True))
        state = torch.load(place / "optimizers.pt", map_location=device, weights_only=True)
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.counters = Counters(**state["counters"])

    def keep_best(self, folder: Path) -> None:
        """Write the averaged weights in half precision, `best.pt`, and the questions beside them, `questions.pt`."""
        half = {name: value.half().cpu() for name, value in self.average.sam.state_dict().items()}
        for name, value in (("best", half), ("questions", self.average.questions.detach().half().cpu())):
            torch.save(value, folder / f"{name}.part")
            os.replace(folder / f"{name}.part", folder / f"{name}.pt")


def saved_in(folder: Path) -> list[Path]:
    """Complete states, the latest last."""
    return sorted(folder.glob("resume_*"))


LEARNERS: dict[str, Callable[[], Learner]] = {"sam": Learner, "sam2": Sam2Learner}
"""What learns, by family."""


def new_run(family: str, device: torch.device, learning_rate: float, start: Path | None = None) -> Run:
    """A fresh run from random weights, or from those of a folder of the family."""
    torch.manual_seed(0)
    learner, average = LEARNERS[family](), LEARNERS[family]()
    if start is not None:
        weights = type(learner.sam).from_pretrained(start, dtype=torch.float32).state_dict()
        learner.sam.load_state_dict(weights)
    average.load_state_dict(learner.state_dict())
    learner.ready(device)
    average.ready(device).requires_grad_(False)
    return Run(learner, average, optimisers(learner, learning_rate, fused=device.type == "cuda"))


def optimise(run: Run, rate: float) -> None:
    """One update with the gradient of all processes, and the moving average of the weights."""
    parameters = [p for p in run.learner.parameters() if p.requires_grad]
    for parameter in parameters:
        # Without correction nothing reads an earlier mask: its gradient is 0.
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    if dist.is_initialized():
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients]) / dist.get_world_size()
        dist.all_reduce(flat)
        for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    for optimizer in run.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    run.counters.step += 1
    step = run.counters.step
    keep = min(0.998, step / (step + 20))
    with torch.no_grad():
        latest = [p.detach() for p in run.learner.parameters()]
        torch._foreach_lerp_(list(run.average.parameters()), latest, 1 - keep)  # pyright: ignore[reportPrivateImportUsage]


def add_to_curve(path: Path, line: dict[str, float | int | str]) -> None:
    """Add a line to a table, with the names of its columns before the first."""
    is_new = not path.exists()
    with path.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(line))
        if is_new:
            writer.writeheader()
        writer.writerow(line)
