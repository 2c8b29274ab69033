"""The demonstration: a frozen SAM on plain and on camouflaged scenes, and what an adapter makes of the latter."""

import json
import logging
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import get_args

from ..config.commands import DemoConfig
from ..system.writing import remove_leftovers, require_writable, written_beside
from ..training.run_folder import METRICS, read_metrics
from .jobs import METHODS, TEST_SEED, TITLES, TRAIN_SEED, Places, Row, draw, score_frozen, train_and_score
from .objects import CrowdRow, train_and_count
from .scenes import SceneKind

Say = Callable[[str], None]


def run_demo(config: DemoConfig, say: Say) -> list[Row]:
    """Run the demonstration; or, with `DemoConfig.write_data`, only write the scenes.

    Two processes of one thread each do the work: operations on so small a model are not worth dividing further.

    Args:
        config: Where to, and how much.
        say: Gets each line for the user.

    Returns:
        The rows of metrics.json.
    """
    if config.write_data is not None:
        require_writable(config.write_data, "write_data")
        _write_data(config.write_data, config.scenes, say)
        return []
    began = time.perf_counter()
    places = Places(config.output)
    require_writable(places.output)
    places.output.mkdir(parents=True, exist_ok=True)
    remove_leftovers(places.output)
    log_file = places.output / "log.txt"
    for old in (log_file, *(places.run(method) / METRICS for method in (*METHODS, "objects"))):
        old.unlink(missing_ok=True)
    say("A small SAM, pretrained on plain scenes and crowds, meets camouflage. All of it happens on this machine.")
    with _worker_pool(log_file) as pool:
        plain, rows, crowds = _compute(config, pool, say)
    say("4/4  Drawing the report")
    from .story import NEXT, crowds_text, text_table, write_story

    result = {"scenes": config.test_scenes, "rows": [asdict(row) for row in rows], "plain": plain}
    result |= {"crowds": [asdict(row) for row in crowds]}
    with written_beside(places.output / "metrics.json") as partial:
        partial.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    write_story(places, rows, plain, crowds)
    say("\n" + text_table(rows, plain) + "\n\n" + crowds_text(crowds))
    say(f"\nTook {time.perf_counter() - began:.0f} s. Open {places.output / 'report.html'} in a browser.")
    say("Next, on your own images and masks:\n" + "\n".join(f"  {command}" for command, _ in NEXT))
    return rows


@contextmanager
def _worker_pool(log_file: Path) -> Iterator[ProcessPoolExecutor]:
    """Two processes, which do not outlive an error or Ctrl-C."""
    others = multiprocessing.active_children()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context, initializer=_quiet_worker, initargs=(log_file,)) as pool:
        try:
            yield pool
        except BaseException:
            for process in multiprocessing.active_children():
                if process not in others:
                    process.kill()
            raise


def _compute(
    config: DemoConfig, pool: ProcessPoolExecutor, say: Say
) -> tuple[dict[str, float], list[Row], list[CrowdRow]]:
    """Draw, train and score: the frozen model's scores on plain scenes, all rows, and those of crowds."""
    places = Places(config.output)
    say(f"1/4  Drawing {config.scenes} camouflaged scenes to train on, {config.test_scenes} to test, and plain ones")
    drawings = [
        pool.submit(draw, places.train, "camouflage", config.scenes, TRAIN_SEED),
        pool.submit(draw, places.test, "camouflage", config.test_scenes, TEST_SEED),
        pool.submit(draw, places.plain, "plain", config.test_scenes, TEST_SEED),
    ]
    for drawing in drawings:
        drawing.result()
    say("2/4  Scoring the frozen model; beside it SAM-Adapter trains")
    adapter = pool.submit(train_and_score, config, "sam_adapter")
    frozen = pool.submit(score_frozen, config)
    decoder = pool.submit(train_and_score, config, "decoder")
    crowds = pool.submit(train_and_count, config)  # beside the longer training, which would else end alone
    plain, rows = frozen.result()
    say(f"     frozen, with a box: IoU {plain['iou']:.3f} on plain scenes, {_iou(rows, 'frozen'):.3f} on camouflage")
    say("3/4  Training the mask decoder alone too, for comparison; then an adapter that finds all objects of a crowd")
    _follow({"sam_adapter": adapter, "decoder": decoder, "objects": crowds}, config, say)
    return plain, [*rows, *decoder.result(), *adapter.result()], crowds.result()


def _follow(trainings: dict[str, Future], config: DemoConfig, say: Say) -> None:
    """Tell of each finished epoch until all trainings and their scoring are done."""
    told = dict.fromkeys(trainings, 0)
    while running := wait(trainings.values(), timeout=1).not_done:
        for method in trainings:
            rows = read_metrics(Places(config.output).run(method) / METRICS)
            for row in rows[told[method] :]:
                scores = f"loss {float(row['train_loss']):.3f}, IoU {float(row['train_iou']):.3f}"
                say(f"     {TITLES.get(method, method)}, epoch {row['epoch']} of {config.epochs}: {scores}")
            told[method] = len(rows)
        for training in trainings.values():
            if training not in running:
                training.result()  # an error ends the demonstration now, not when the other training is done


def _write_data(folder: Path, count: int, say: Say) -> None:
    for kind in get_args(SceneKind):
        draw(folder / kind, kind, count, TRAIN_SEED)
        say(f"{count} scenes: {folder / kind / 'images'} and {folder / kind / 'masks'}")


def _iou(rows: list[Row], model: str) -> float:
    return next(row.iou for row in rows if row.model == model and row.prompt == "box")


def _quiet_worker(log_file: Path) -> None:
    """One thread; progress bars, warnings and log lines go to a file, as two processes would mix them up."""
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.stderr = log_file.open("a", buffering=1)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(0)
