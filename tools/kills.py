"""Kill training runs at random moments, go on with them, and compare with a run that nobody disturbed.

    python tools/kills.py --kills 60 --seed 0

Each round starts `sam-adapter train` with a tiny random SAM on one or two processes, sends SIGKILL, SIGTERM or SIGINT
to the first process, the second, or the whole group after a random time, and starts it again with ``--resume`` until it
is done. It fails if a process hangs, a traceback is shown, an adapter that is there cannot be loaded, temporary files
stay after the next start, or the result is not bit-equal. The table at the end has a row for each kind of kill.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from conftest import random_sam, write_pairs
from sam_adapter import load
from sam_adapter.config.training import TrainConfig
from sam_adapter.errors import SamAdapterError

HANG = 90.0
"""Seconds after which a signalled process counts as hanging; a step takes a fraction of one."""
PROMISED = 10.0
"""Seconds in which SIGTERM and SIGINT should end a run, after the step; slower ones are counted."""


@dataclass
class Tally:
    """What happened to the kills of one kind."""

    kills: int = 0
    too_late: int = 0
    slow: int = 0
    longest: float = 0.0
    failures: list[str] = field(default_factory=list)


def command(config: TrainConfig) -> list[str]:
    """The command line of a run."""
    path = config.output.with_suffix(".yaml")
    path.write_text(config.to_yaml())
    return [sys.executable, "-m", "sam_adapter", "train", "--config", str(path)]


def started(config: TrainConfig, log: Path) -> subprocess.Popen:
    """A run in a process group of its own."""
    with log.open("ab") as file:
        return subprocess.Popen(command(config), stdout=file, stderr=file, start_new_session=True)


def children_of(process: int) -> list[int]:
    """The other processes of a run; those that read files do not count."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                environment = (entry / "environ").read_bytes()
            except OSError:
                continue
            if int(fields[1]) == process and b"\0LOCAL_RANK=1\0" in environment:
                found.append(int(entry.name))
    return found


def group_members(group: int) -> list[int]:
    """Processes of a group that are still there and no zombies."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[2]) == group and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def leftovers(folder: Path) -> list[str]:
    """Temporary files in a run's folder."""
    return [path.name for path in folder.rglob("*") if path.name.startswith(".") or "partial" in path.name]


def killed(config: TrainConfig, number: signal.Signals, whom: str, delay: float, log: Path, tally: Tally) -> bool:
    """Start a run and kill it.

    Returns:
        Whether it had been over before.
    """
    process = started(config, log)
    try:
        process.wait(delay)
        tally.too_late += 1
        return True
    except subprocess.TimeoutExpired:
        pass
    others = children_of(process.pid) if whom == "second" else []
    tally.kills += 1
    began = time.monotonic()
    if whom == "group":
        os.killpg(process.pid, number)
    else:
        os.kill(others[0] if others else process.pid, number)
    try:
        process.wait(HANG)
    except subprocess.TimeoutExpired:
        tally.failures.append(f"hangs {HANG:.0f} s after {number.name} to {whom} at {delay:.2f} s")
    took = time.monotonic() - began
    tally.longest = max(tally.longest, took)
    tally.slow += took > PROMISED
    time.sleep(1.5)  # the second process sees that the first is gone
    if number != signal.SIGKILL or whom != "group":
        deadline = time.monotonic() + 10
        while (there := group_members(process.pid)) and time.monotonic() < deadline:
            time.sleep(0.2)
        if there:
            tally.failures.append(f"processes {there} are left by {number.name} to {whom} at {delay:.2f} s")
    for member in group_members(process.pid):
        os.kill(member, signal.SIGKILL)
    return False


def round_of_kills(reference: TrainConfig, folder: Path, rng: random.Random, duration: float, tallies: dict) -> None:
    """One run, killed once or twice and gone on with until it is done."""
    config = reference.but(output=folder)
    log = folder.with_suffix(".log")
    number = rng.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
    whom = rng.choice(["first", "group"] + ["second"] * (config.devices > 1))
    tally = tallies.setdefault((config.devices, number.name, whom), Tally())
    before = len(tally.failures)
    again = config
    for _ in range(rng.choice([1, 2])):
        if killed(again, number, whom, rng.uniform(0.3, 1.0) * duration, log, tally):
            break
        if (folder / "adapter" / "sam_adapter.json").exists():
            try:
                load(folder / "adapter")
            except SamAdapterError as error:
                tally.failures.append(f"the adapter cannot be loaded: {error}")
        again = config.but(resume=(folder / "config.yaml").exists())
    else:
        process = started(again, log)
        if process.wait(300) != 0:
            tally.failures.append("going on failed")
    text = log.read_text(errors="replace")
    if "Traceback" in text:
        tally.failures.append("a traceback")
    if left := leftovers(folder):
        tally.failures.append(f"left over: {left}")
    one, other = (load_file(run.output / "adapter" / "sam_adapter.safetensors") for run in (reference, config))
    if one.keys() != other.keys() or not all(torch.equal(tensor, other[name]) for name, tensor in one.items()):
        tally.failures.append("the adapter is another one")
    states = [torch.load(run.output / "last.ckpt", weights_only=True)["state_dict"] for run in (reference, config)]
    if not all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items()):
        tally.failures.append("last.ckpt is another one")
    if len(tally.failures) > before:
        print(f"--- {folder.name}: {tally.failures[before:]}\n{text[-6000:]}", flush=True)


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    rng = random.Random(options.seed)
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    tallies: dict[tuple[int, str, str], Tally] = {}
    with tempfile.TemporaryDirectory(prefix="kills-") as name:
        root = Path(name)
        random_sam().save_pretrained(root / "sam")
        write_pairs(root / "pairs", 16)
        references = []
        for processes in options.processes:
            config = TrainConfig(
                images=root / "pairs/images",
                masks=root / "pairs/masks",
                model=str(root / "sam"),
                output=root / f"whole{processes}",
                epochs=4,
                val_fraction=0.25,
                prompt="mixed",
                ema=0.5,
                workers=1,
                batch_size=1,
                devices=processes,
                accelerator="cpu",
            )
            began = time.monotonic()
            subprocess.run(command(config), check=True, capture_output=True)
            references.append((config, time.monotonic() - began))
        rounds = 0
        while sum(tally.kills for tally in tallies.values()) < options.kills:
            reference, duration = references[rounds % len(references)]
            round_of_kills(reference, root / f"run{rounds:03}", rng, duration, tallies)
            rounds += 1
            kills, failed = (
                sum(one) for one in zip(*((t.kills, len(t.failures)) for t in tallies.values()), strict=True)
            )
            print(f"round {rounds}: {kills} kills, {failed} failures so far", file=sys.stderr, flush=True)
    print(f"{'processes':>9} {'signal':<8}{'to':<8}{'kills':>6}{'too late':>9}{'slow':>6}{'longest s':>10}  failures")
    for (processes, number, whom), tally in sorted(tallies.items()):
        failures = "; ".join(f"{count}x {text}" for text, count in Counter(tally.failures).items()) or "none"
        print(
            f"{processes:>9} {number:<8}{whom:<8}{tally.kills:>6}{tally.too_late:>9}{tally.slow:>6}"
            f"{tally.longest:>10.1f}  {failures}"
        )
    kills, failed = (
        sum(values) for values in zip(*((t.kills, len(t.failures)) for t in tallies.values()), strict=True)
    )
    print(f"{kills} kills, {failed} failures")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
