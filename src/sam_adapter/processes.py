"""Which of several processes this is, known before any library has started a process group."""

import ctypes
import os
import platform

LARGE_BLOCK = 12 << 20
M_MMAP_THRESHOLD = -3
"""Number of the setting in glibc's ``malloc.h``."""


def is_main_process() -> bool:
    """True in the one process of a run that prints and writes.

    Launchers tell each process its rank in the environment; the first one started by hand has none.
    """
    ranks = ("RANK", "SLURM_PROCID", "NODE_RANK", "LOCAL_RANK")
    if "RANK" in os.environ or "SLURM_PROCID" in os.environ:
        ranks = ranks[:2]
    return all(int(os.environ.get(name) or 0) == 0 for name in ranks)


def give_large_blocks_back() -> None:
    """Have freed tensors of 12 MB and more returned to the system at once, where the allocator is glibc's.

    It would learn to keep blocks of up to 32 MB in its heap. Between the small ones of a training step they leave gaps
    that nothing fits into, and the process ends up with a quarter more memory than it uses.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK)
