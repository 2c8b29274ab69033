"""What a benchmark ran on: date, processor or GPU, versions, and its rate of matrix products."""

import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from sam_adapter.system.machine import Machine


def machine(device: str) -> dict[str, Any]:
    """Date, machine, versions, and GFLOP/s of square matrix products by precision."""
    date = datetime.now(UTC).date().isoformat()
    return {"date": date, "machine": name_of(device), "versions": versions(), "gflops": matrix_rates(device)}


def versions() -> str:
    """Versions of the libraries that compute."""
    return ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))


def described(device: str) -> str:
    """The same in a sentence, for the end of a table."""
    about = machine(device)
    rates = " and ".join(f"{rate:.0f} GFLOP/s in {name}" for name, rate in about["gflops"].items())
    return f"{about['machine']}; matrix products at {rates}; {about['versions']}; {about['date']}."


def matrix_rates(device: str) -> dict[str, float]:
    """GFLOP/s of a square matrix product in each precision; the best of several."""
    clock = Machine.choose(device=device).clock
    side = 8192 if device == "cuda" else 2048
    rates = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        square = torch.randn(side, side, device=device).to(dtype)
        product = torch.empty_like(square)
        times = []
        for _ in range(8):
            began = clock()
            torch.mm(square, square, out=product)
            times.append(clock() - began)
        rates[name] = 2 * side**3 / min(times) / 1e9
    return rates


def name_of(device: str) -> str:
    """GPU or processor, with its threads."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        processor = names[0] if names else processor
    return f"{processor}, {torch.get_num_threads()} threads"
