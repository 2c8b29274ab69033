"""Where the program starts: Ctrl-C ends it quietly already while the command line is being imported."""

import os
import signal
from types import FrameType


def main() -> None:
    """Run the command line.

    Its imports take seconds on a slow disk. It catches signals itself once it knows the command, and afterwards leaves
    them to this function again.
    """
    signal.signal(signal.SIGINT, _stop)
    from .cli import main as run

    run()


def _stop(number: int, frame: FrameType | None) -> None:
    """Leave at once: imports may catch what is raised within them, and nothing has been begun that is to be ended."""
    if int(os.environ.get("LOCAL_RANK") or 0) == 0:  # of several processes one speaks
        os.write(2, b"sam-adapter: stopped.\n")
    os._exit(128 + number)


if __name__ == "__main__":
    main()
