"""Which of several processes this is, known before any library has started a process group."""

import os


def is_main_process() -> bool:
    """True in the one process of a run that prints and writes.

    Launchers tell each process its rank in the environment; the first one started by hand has none.
    """
    return int(os.environ.get("RANK") or os.environ.get("LOCAL_RANK") or 0) == 0
