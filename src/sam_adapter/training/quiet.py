"""Lightning's advertisements and remarks to developers are kept from users, for as long as a trainer is at work."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

LOGGERS = (
    "lightning",
    "lightning.pytorch",
    "lightning.pytorch.utilities.rank_zero",
    "lightning.fabric",
    "lightning.fabric.utilities.rank_zero",
)
MESSAGES = (
    ".*treespec, LeafSpec.*",
    ".*does not have many workers.*",
    ".*in eval mode at the start.*",
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*find_unused_parameters=True was specified.*",
    ".*number of training batches .* is smaller than the logging interval.*",
)
"""Of warnings that say nothing a user could act on: all of them are decided here."""


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Hold back what Lightning says below a warning, and those of its warnings that are `MESSAGES`.

    Levels of loggers and filters of warnings are afterwards what they were before.
    """
    before = {name: logging.getLogger(name).level for name in LOGGERS}
    with warnings.catch_warnings():
        for message in MESSAGES:
            warnings.filterwarnings("ignore", message=message)
        for name in LOGGERS:
            logging.getLogger(name).setLevel(logging.WARNING)
        try:
            yield
        finally:
            for name, level in before.items():
                logging.getLogger(name).setLevel(level)
