"""Which of several processes this is, known before any library has started a process group."""

import ctypes
import logging
import os
import platform

log = logging.getLogger(__name__)

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Numbers of the settings in glibc's ``malloc.h``."""
LARGE_BLOCK = 20 << 20
"""Bytes of tensors that are worth a mapping of their own. Fewer cost time, more leave gaps that nothing fits into."""


def is_main_process() -> bool:
    """True in the one process of a run that prints and writes.

    Launchers tell each process its rank in the environment; the first one started by hand has none.
    """
    ranks = ("RANK", "SLURM_PROCID", "NODE_RANK", "LOCAL_RANK")
    if "RANK" in os.environ or "SLURM_PROCID" in os.environ:
        ranks = ranks[:2]
    return all(int(os.environ.get(name) or 0) == 0 for name in ranks)


def keep_freed_memory() -> None:
    """Have the memory of freed tensors of up to 20 MB kept for the next ones, where the allocator is glibc's.

    It would give it back to the system after each operation that leaves the heap's end free, and every page of it
    would have to be made anew: an eighth of the time of a training step in half precision, a fifth in float32. The
    setting is the whole process's, until it ends.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for setting, value in ((M_MMAP_THRESHOLD, LARGE_BLOCK), (M_TRIM_THRESHOLD, 1 << 30)):
            if libc.mallopt(setting, value) != 1:
                log.warning("The C library did not take the setting %d for memory; training may be slower.", setting)
