"""Pretrain the bundled tiny SAM on plain scenes and on crowds: boxes, points, no prompt and learned questions at once.

Run: `python tools/pretrain_tiny.py --minutes 90`; continue: the same with `--resume`; write the best weights
into the package: `python tools/pretrain_tiny.py --export`. The curve is `curve.csv` in the state directory, and
`--report` tells the scores of the best weights, or of a model's folder, on scenes that chose nothing.

`--family sam2` teaches a SAM 2 of the same size, which is not part of the package: `--export FOLDER` writes it there.

On CPUs one single-threaded process a core, with averaged gradients, is about twice as fast as one process
with many threads: the operations are too small to be worth dividing. On a GPU one process trains, and the other
cores generate scenes.
"""

import argparse
import logging
import os
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from tiny_data import Feeder, ScenePool
from tiny_graph import Stepper
from tiny_model import export
from tiny_run import LEARNERS, Run, add_to_curve, new_run, optimise, saved_in
from tiny_scores import REPORT_SEED, choosing, filling_the_box, held_out, held_out_crowds, held_out_scores

LOGGER = logging.getLogger("pretrain_tiny")
PACKAGE_FOLDER = Path(__file__).resolve().parents[1] / "src" / "sam_adapter" / "backbones" / "tiny"
FRESH_SCENES = 2
"""New scenes in each step of each process that has no workers."""


def rate_at(progress: float) -> float:
    """Part of the full learning rate: a short warm-up, then a straight line down to nothing."""
    return min(progress / 0.01, 1.0) * max(1.0 - progress, 0.0)


def evaluate_and_save(run: Run, arguments: argparse.Namespace, loss: float) -> None:
    """Score the averaged weights, add a line to the curve and keep the best."""
    counters, folder = run.counters, arguments.state
    scores = held_out_scores(run.average, crowds=arguments.crowds)
    line = {"minutes": round(counters.elapsed / 60, 2), "step": counters.step, "loss": round(loss, 4)}
    line |= {name: round(value, 4) for name, value in scores.items()}
    add_to_curve(folder / "curve.csv", line)
    LOGGER.info("%s", line)
    if choosing(scores) > counters.best:
        counters.best = choosing(scores)
        run.keep_best(folder)
    run.save(folder)


def pretrain(run: Run, arguments: argparse.Namespace, rank: int, feeder: Feeder | None) -> None:
    """Train until the time is used up; process 0 keeps the clock, the scores and the files."""
    budget, counters = arguments.minutes * 60, run.counters
    seed, device = arguments.seed + rank, run.learner.questions.device
    pool = ScenePool(seed=seed, first_index=counters.next_index, capacity=arguments.pool, device=device)
    if feeder is None:
        pool.grow(arguments.pool_start)
    else:
        feeder.fill(pool, arguments.pool_start)
    if not rank:
        held_out_scores(run.average, crowds=arguments.crowds)  # generates the scenes before the clock runs
        LOGGER.info("%d scenes ready", pool.received)
    torch.manual_seed(seed + 1000 * counters.step)
    step = Stepper(run.learner, graphs=device.type == "cuda" and not arguments.eager)
    last_save = last_score = counters.elapsed
    recent = torch.zeros((), device=device)
    first_step = counters.step
    while shared_clock(run) < budget:
        started = time.monotonic()
        if feeder is None:
            pool.grow(FRESH_SCENES)
        else:
            feeder.pump(pool, most=2)
        counters.next_index = pool.next_index
        # Every second step has a second round, for all processes alike.
        loss = step(pool.draw(arguments.batch_size), correct=counters.step % 2 == 1)
        optimise(run, arguments.learning_rate * rate_at(counters.elapsed / budget))
        recent.lerp_(loss, 0.02 if counters.step > first_step + 1 else 1.0)
        if counters.step % 50 == 0 and not rank:
            LOGGER.info(
                "step %d, %.2f min, loss %.4f, %d scenes", counters.step, counters.elapsed / 60, recent, pool.received
            )
        counters.elapsed += time.monotonic() - started
        if rank:
            continue
        if counters.elapsed - last_score > arguments.score_every * 60 or counters.elapsed >= budget:
            started = time.monotonic()
            evaluate_and_save(run, arguments, recent.item())
            counters.elapsed += time.monotonic() - started
            last_score = last_save = counters.elapsed
        elif counters.elapsed - last_save > 120:
            run.save(arguments.state)
            last_save = counters.elapsed


def shared_clock(run: Run) -> float:
    """Seconds trained, as process 0 counts them, so that all follow one schedule and stop together."""
    if dist.is_initialized():
        clock = torch.tensor([run.counters.elapsed], dtype=torch.float64)
        dist.broadcast(clock, 0)
        run.counters.elapsed = clock.item()
    return run.counters.elapsed


def work(rank: int, arguments: argparse.Namespace) -> None:
    """One process of the run."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    torch.set_flush_denormal(True)
    feeder = None
    if arguments.processes > 1:
        torch.set_num_threads(1)
        meeting_point = f"file://{(arguments.state / 'meeting_point').resolve()}"
        dist.init_process_group("gloo", meeting_point, rank=rank, world_size=arguments.processes)
    elif arguments.workers:
        saved = saved_in(arguments.state)
        first = saved_index(saved[-1]) if arguments.resume else 0
        feeder = Feeder(workers=arguments.workers, seed=arguments.seed, first_index=first)
    on_gpu = torch.cuda.is_available() and arguments.processes == 1
    if feeder is not None and on_gpu:
        feeder.lock_pages()
    run = new_run(arguments.family, torch.device("cuda" if on_gpu else "cpu"), arguments.learning_rate, arguments.start)
    if arguments.resume:
        run.load(arguments.state)
    pretrain(run, arguments, rank, feeder)
    if feeder is not None:
        feeder.stop()
    if not rank:
        report(arguments.state / "best.pt", arguments)


def saved_index(place: Path) -> int:
    """The first scene that a saved run has not seen."""
    state = torch.load(place / "optimizers.pt", map_location="cpu", weights_only=True)
    return state["counters"]["next_index"]


def report(weights: Path, arguments: argparse.Namespace) -> None:
    """Tell the scores of a file of weights, or of a model's folder, on scenes that chose nothing."""
    learner = LEARNERS[arguments.family]()
    if weights.is_dir():
        learner.sam.load_state_dict(type(learner.sam).from_pretrained(weights, dtype=torch.float32).state_dict())
    else:
        learner.sam.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        questions = torch.load(weights.with_name("questions.pt"), map_location="cpu", weights_only=True)
        learner.questions.data.copy_(questions)
    learner.ready(torch.device("cuda" if torch.cuda.is_available() and arguments.processes == 1 else "cpu"))
    scores = held_out_scores(learner, REPORT_SEED, crowds=arguments.crowds)
    scores["plain_filled_box"] = filling_the_box(held_out("plain", REPORT_SEED, 200))
    scores["objects_filled_box"] = filling_the_box(held_out_crowds(REPORT_SEED, arguments.crowds))
    lines = [f"{name},{value:.4f}" for name, value in scores.items()]
    print("\n".join([f"report on {weights}", *lines]), flush=True)
    if not weights.is_dir():
        (arguments.state / "report.csv").write_text("\n".join(["score,value", *lines]) + "\n")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=90, help="training time over all runs")
    parser.add_argument("--state", type=Path, default=Path(".pretrain"), help="where the run is kept")
    parser.add_argument("--resume", action="store_true", help="go on with the run in the state directory")
    parser.add_argument("--family", choices=list(LEARNERS), default="sam", help="of the model")
    parser.add_argument("--start", type=Path, help="folder of a model of this architecture to start from")
    parser.add_argument(
        "--export",
        type=Path,
        nargs="?",
        const=PACKAGE_FOLDER,
        help="write the best weights into this folder, the package's if none is named; no training",
    )
    parser.add_argument("--report", type=Path, help="tell the scores of these weights or this folder, no training")
    parser.add_argument("--eager", action="store_true", help="record no graphs of steps on a GPU")
    parser.add_argument("--seed", type=int, default=10)
    on_gpu = torch.cuda.is_available()
    cores = os.cpu_count() or 1
    processes = 1 if on_gpu else cores
    parser.add_argument("--processes", type=int, default=processes, help="one a core without a GPU")
    parser.add_argument(
        "--workers", type=int, default=max(cores - 2, 1) if on_gpu else 0, help="generate scenes for one process"
    )
    batch_size = 64 if on_gpu else 16 // processes or 1
    parser.add_argument("--batch-size", type=int, default=batch_size, help="images of a process")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    pool = 65536 if on_gpu else 2048
    parser.add_argument("--pool", type=int, default=pool, help="scenes of a process in memory, 0.26 MB each")
    parser.add_argument("--pool-start", type=int, default=pool // 8, help="scenes before the first step")
    parser.add_argument("--score-every", type=float, default=1 if on_gpu else 5, help="minutes between scores")
    parser.add_argument("--crowds", type=int, default=100 if on_gpu else 40, help="crowds that are scored")
    return parser.parse_args()


def main() -> None:
    """Train, report, or export what was trained."""
    arguments = parse_arguments()
    arguments.state.mkdir(parents=True, exist_ok=True)
    if arguments.report:
        report(arguments.report, arguments)
        return
    if arguments.export:
        if arguments.family != "sam" and arguments.export == PACKAGE_FOLDER:
            raise SystemExit(f"--export of {arguments.family}: name a folder, as the package holds SAM's weights")
        model = LEARNERS[arguments.family]().sam
        model.load_state_dict(torch.load(arguments.state / "best.pt", map_location="cpu", weights_only=True))
        export(model, LEARNERS[arguments.family]().sam, arguments.export)
        return
    if arguments.resume != bool(saved_in(arguments.state)):
        raise SystemExit(
            f"{arguments.state} holds no run to go on with"
            if arguments.resume
            else f"{arguments.state} holds a run: add --resume to go on with it, or choose another --state"
        )
    (arguments.state / "meeting_point").unlink(missing_ok=True)
    if arguments.processes == 1:
        work(0, arguments)
    else:
        spawn(work, args=(arguments,), nprocs=arguments.processes)


if __name__ == "__main__":
    main()
