"""Pretrain the bundled tiny SAM on plain scenes: boxes, points and no prompt at once.

Run: `python tools/pretrain_tiny.py --minutes 90`; continue: the same with `--resume`; write the best weights
into the package: `python tools/pretrain_tiny.py --export`. The curve is `curve.csv` in the state directory.

On CPUs one single-threaded process a core, with averaged gradients, is about twice as fast as one process
with many threads: the operations are too small to be worth dividing.
"""

import argparse
import csv
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn
from torch.optim import AdamW, Muon, Optimizer
from transformers import SamModel

from tiny_data import ScenePool, prompted
from tiny_losses import GroupingHead, mask_targets, prompt_loss
from tiny_model import CHANNELS, build_tiny, export, normalised
from tiny_scores import held_out_scores

LOGGER = logging.getLogger("pretrain_tiny")
PACKAGE_FOLDER = Path(__file__).resolve().parents[1] / "src" / "sam_adapter" / "backbones" / "tiny"
MASK_SIDE = 64
"""Masks are taught at the decoder's own resolution."""
FRESH_SCENES = 2
"""New scenes in each step of each process."""


@dataclass
class Run:
    """Everything that a stopped run needs to go on."""

    model: SamModel
    average: SamModel
    helper: GroupingHead
    optimizers: list[Optimizer]
    elapsed: float = 0.0
    step: int = 0
    next_index: int = 0
    best: float = -1.0

    def save(self, path: Path) -> None:
        """Write the state; the file is replaced at once."""
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "helper": self.helper.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "counters": {
                "elapsed": self.elapsed,
                "step": self.step,
                "next_index": self.next_index,
                "best": self.best,
            },
        }
        torch.save(state, path.with_suffix(".part"))
        os.replace(path.with_suffix(".part"), path)

    def load(self, path: Path) -> None:
        """Read the state back."""
        state = torch.load(path, map_location="cpu", weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.helper.load_state_dict(state["helper"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        for name, value in state["counters"].items():
            setattr(self, name, value)


def new_run(device: torch.device, learning_rate: float) -> Run:
    """A fresh run: matrices go to Muon, everything else to AdamW."""
    model, average = build_tiny(), build_tiny()
    nn.Module.to(model, device)
    nn.Module.to(average, device)
    average.requires_grad_(False)
    helper = GroupingHead(CHANNELS).to(device)
    matrices, others = [], [*helper.parameters()]
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            is_matrix = isinstance(module, nn.Linear) and parameter.ndim == 2
            (matrices if is_matrix else others).append(parameter)
    optimizers: list[Optimizer] = [
        Muon(matrices, lr=learning_rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        AdamW(others, lr=learning_rate, weight_decay=0.0, betas=(0.9, 0.98)),
    ]
    return Run(model, average, helper, optimizers)


def rate_at(progress: float) -> float:
    """Part of the full learning rate: a short warm-up, then a straight line down to nothing."""
    return min(progress / 0.01, 1.0) * max(1.0 - progress, 0.0)


def training_loss(run: Run, batch_arrays: tuple[np.ndarray, np.ndarray], rng: np.random.Generator) -> Tensor:
    """Loss over three boxes, one set of points and no prompt for every image."""
    device = next(run.model.parameters()).device
    batch = prompted(rng, *batch_arrays, boxes=3, point_sets=1, points=int(rng.integers(1, 5)))
    labels = batch.labels.to(device)
    # One point may mean several things: now and then the three masks for that case are taught.
    several = batch.points.shape[2] == 1 and rng.random() < 0.5
    with torch.autocast(device.type, torch.bfloat16):
        embeddings = run.model.vision_encoder(normalised(batch.images.to(device))).last_hidden_state
        by_box = run.model(image_embeddings=embeddings, input_boxes=batch.boxes.to(device), multimask_output=False)
        by_points = run.model(
            image_embeddings=embeddings,
            input_points=batch.points.to(device),
            input_labels=batch.point_signs.to(device),
            multimask_output=several,
        )
        unprompted = run.model(image_embeddings=embeddings, multimask_output=False)
    total = run.helper.loss(embeddings.float(), labels)
    targets = torch.ones_like(batch.box_labels[:, :1])
    asked = ((by_box, batch.box_labels, 3), (by_points, batch.point_labels, 1), (unprompted, targets, 1))
    for answer, numbers, weight in asked:
        target = mask_targets(labels, numbers.to(device), MASK_SIDE)
        total = total + weight / 5 * prompt_loss(answer.pred_masks, answer.iou_scores, target)
    return total


def optimise(run: Run, loss: Tensor, rate: float) -> None:
    """One step with the gradient of all processes, and the moving average of the weights."""
    loss.backward()
    parameters = [p for p in (*run.model.parameters(), *run.helper.parameters()) if p.requires_grad]
    if dist.is_initialized():
        # Every process sends the same parameters: those without a gradient in this step send zeros.
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([gradient.flatten() for gradient in gradients]) / dist.get_world_size()
        dist.all_reduce(flat)
        for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
            parameter.grad = part.view_as(parameter)
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    for optimizer in run.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    run.step += 1
    keep = min(0.998, run.step / (run.step + 20))
    with torch.no_grad():
        for average, latest in zip(run.average.parameters(), run.model.parameters(), strict=True):
            average.lerp_(latest, 1 - keep)


def evaluate_and_save(run: Run, state_folder: Path, loss: float, *, export_best: bool) -> None:
    """Score the averaged weights, add a line to the curve and keep the best."""
    scores = held_out_scores(run.average)
    line = {"minutes": round(run.elapsed / 60, 1), "step": run.step, "loss": round(loss, 4)}
    line |= {name: round(value, 4) for name, value in scores.items()}
    curve = state_folder / "curve.csv"
    is_new = not curve.exists()
    with curve.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(line))
        if is_new:
            writer.writeheader()
        writer.writerow(line)
    LOGGER.info("%s", line)
    score = (scores["plain_box"] + scores["plain_point"] + scores["plain_none"]) / 3
    if score > run.best:
        run.best = score
        torch.save(run.average.state_dict(), state_folder / "best.part")
        os.replace(state_folder / "best.part", state_folder / "best.pt")
        if export_best:
            export(run.average, PACKAGE_FOLDER)
    run.save(state_folder / "state.pt")


def pretrain(run: Run, arguments: argparse.Namespace, rank: int) -> None:
    """Train until the time is used up; process 0 keeps the clock, the scores and the files."""
    budget = arguments.minutes * 60
    seed = arguments.seed + rank
    rng = np.random.default_rng((seed, run.step))
    torch.manual_seed(seed + run.step)
    pool = ScenePool(seed=seed, first_index=run.next_index, start=arguments.pool // 8, capacity=arguments.pool)
    last_save = last_score = run.elapsed
    recent = 0.0
    while shared_clock(run) < budget:
        started = time.monotonic()
        pool.grow(FRESH_SCENES)
        run.next_index = pool.next_index
        loss = training_loss(run, pool.draw(rng, arguments.batch_size), rng)
        optimise(run, loss, arguments.learning_rate * rate_at(run.elapsed / budget))
        recent = 0.98 * recent + 0.02 * loss.item() if recent else loss.item()
        run.elapsed += time.monotonic() - started
        if rank:
            continue
        if run.step % 50 == 0:
            LOGGER.info("step %d, %.1f min, loss %.4f", run.step, run.elapsed / 60, recent)
        if run.elapsed - last_score > arguments.score_every * 60 or run.elapsed >= budget:
            started = time.monotonic()
            evaluate_and_save(run, arguments.state, recent, export_best=arguments.export_best)
            run.elapsed += time.monotonic() - started
            last_score = last_save = run.elapsed
        elif run.elapsed - last_save > 120:
            run.save(arguments.state / "state.pt")
            last_save = run.elapsed


def shared_clock(run: Run) -> float:
    """Seconds trained, as process 0 counts them, so that all follow one schedule and stop together."""
    if dist.is_initialized():
        clock = torch.tensor([run.elapsed], dtype=torch.float64)
        dist.broadcast(clock, 0)
        run.elapsed = clock.item()
    return run.elapsed


def work(rank: int, arguments: argparse.Namespace) -> None:
    """One process of the run."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_flush_denormal(True)
    if arguments.processes > 1:
        torch.set_num_threads(1)
        meeting_point = f"file://{(arguments.state / 'meeting_point').resolve()}"
        dist.init_process_group("gloo", meeting_point, rank=rank, world_size=arguments.processes)
    on_gpu = torch.cuda.is_available() and arguments.processes == 1
    run = new_run(torch.device("cuda" if on_gpu else "cpu"), arguments.learning_rate)
    if arguments.resume:
        run.load(arguments.state / "state.pt")
    pretrain(run, arguments, rank)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=90, help="training time over all runs")
    parser.add_argument("--state", type=Path, default=Path(".pretrain"), help="where the run is kept")
    parser.add_argument("--resume", action="store_true", help="go on with the run in the state directory")
    parser.add_argument("--export", action="store_true", help="write the best weights into the package, no training")
    parser.add_argument("--export-best", action="store_true", help="also write them at every new best score")
    parser.add_argument("--seed", type=int, default=10)
    processes = 1 if torch.cuda.is_available() else os.cpu_count() or 1
    parser.add_argument("--processes", type=int, default=processes, help="one a core without a GPU")
    parser.add_argument("--batch-size", type=int, default=16 // processes or 1, help="images of a process")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--pool", type=int, default=2048, help="scenes of a process in memory, 0.25 MB each")
    parser.add_argument("--score-every", type=float, default=5, help="minutes between held-out scores")
    return parser.parse_args()


def main() -> None:
    """Train, or export what was trained."""
    arguments = parse_arguments()
    arguments.state.mkdir(parents=True, exist_ok=True)
    if arguments.export:
        model = build_tiny()
        model.load_state_dict(torch.load(arguments.state / "best.pt", map_location="cpu", weights_only=True))
        export(model, PACKAGE_FOLDER)
        return
    state = arguments.state / "state.pt"
    if state.exists() and not arguments.resume:
        raise SystemExit(f"{state} holds a run: add --resume to go on with it, or choose another --state")
    (arguments.state / "meeting_point").unlink(missing_ok=True)
    if arguments.processes == 1:
        work(0, arguments)
    else:
        spawn(work, args=(arguments,), nprocs=arguments.processes)


if __name__ == "__main__":
    main()
