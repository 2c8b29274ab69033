"""Which of several processes this is, known before any library has started a process group."""

import os


def is_main_process() -> bool:
    """True in the one process of a run that prints and writes.

    Launchers tell each process its rank in the environment; the first one started by hand has none.
    """
    ranks = ("RANK", "SLURM_PROCID", "NODE_RANK", "LOCAL_RANK")
    if "RANK" in os.environ or "SLURM_PROCID" in os.environ:
        ranks = ranks[:2]
    return all(int(os.environ.get(name) or 0) == 0 for name in ranks)
