"""How many reading processes the machine's shared memory has room for: through it they hand batches over.

Where it is too small, as Docker's 64 MB are, a batch that does not fit is lost and the trainer waits for it for ever.
"""

import logging
import shutil
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

log = logging.getLogger(__name__)

SHARED = Path("/dev/shm")
PREFETCHED = 2
"""Batches that each process has ready, PyTorch's default."""
IN_USE = 2
"""Further batches: what is computed on, and what was just computed on."""
MARGIN = 1.5
"""Later pictures may be larger than the first."""


def workers_that_fit(workers: int, batch_bytes: int, *, processes: int = 1) -> int:
    """The number of reading processes that was asked for, or fewer, which is said.

    Args:
        workers: Asked for, of each process that trains.
        batch_bytes: What a batch takes.
        processes: Processes that train on this machine.
    """
    if workers == 0 or not SHARED.is_dir():
        return workers
    free = shutil.disk_usage(SHARED).free / processes
    each = MARGIN * batch_bytes
    if (workers * PREFETCHED + IN_USE) * each <= free:
        return workers
    fewer = max(int((free / each - IN_USE) / PREFETCHED), 0)
    log.warning(
        "Shared memory (%s) has %.0f MB free, but --workers %d would need %.0f MB; %d are used. Give it more (docker "
        "run --shm-size 2g), or choose a smaller --batch-size or --image-size.",
        SHARED,
        free / 1e6,
        workers,
        (workers * PREFETCHED + IN_USE) * each / 1e6,
        fewer,
    )
    return fewer


def bytes_of(value: Any) -> int:
    """Bytes of all tensors in a batch, however it nests them."""
    if isinstance(value, Tensor):
        return value.nbytes
    if isinstance(value, list | tuple):
        return sum(map(bytes_of, value))
    if isinstance(value, Mapping):
        return sum(map(bytes_of, value.values()))
    if is_dataclass(value):
        return sum(bytes_of(getattr(value, field.name)) for field in fields(value))
    return 0
