"""One run owns its folder: a lock that the system releases when the process ends, however it ends."""

import errno
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from ..errors import ConfigError
from .processes import host_name
from .writing import writing_to

log = logging.getLogger(__name__)

LOCK = ".sam-adapter-lock"
_TAKEN = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Hold the only right to write a run into a folder, which is made if it is not there.

    Raises:
        ConfigError: If another process has it; its host and number are named.
        OutputError: If the folder cannot be written into.
    """
    new = not folder.exists()
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = _locked_file(folder / LOCK)
    if file is None:
        yield
        return
    try:
        if hasattr(os, "register_at_fork"):
            # Reading processes that are forked share the lock, and would keep it if they outlived their parent.
            os.register_at_fork(after_in_child=file.close)
        file.truncate(0)
        file.write(json.dumps({"host": host_name(), "process": os.getpid()}))
        file.flush()
        yield
    finally:
        with suppress(OSError):  # Windows removes no open file; an unlocked one is no hindrance
            (folder / LOCK).unlink()
        file.close()
        if new:
            with suppress(OSError):
                folder.rmdir()  # nothing came of it


def _locked_file(path: Path) -> IO[str] | None:
    """The lock's file, locked; None where the file system has no locks."""
    while True:
        file = path.open("a+", encoding="utf-8")
        try:
            _lock(file)
        except OSError as error:
            if error.errno in _TAKEN:
                owner = _owner(file)
                file.close()
                raise ConfigError(
                    f"output: '{path.parent}' is being written by {owner}. Wait for it, stop it, or choose another "
                    "folder."
                ) from error
            file.close()
            log.warning(
                "'%s' cannot be locked (%s); make sure that no other run writes there.", path.parent, error.strerror
            )
            return None
        # The owner before may have removed the file between our opening and our locking it.
        with suppress(OSError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()


def _lock(file: IO[str]) -> None:
    """Lock the file for this process alone, or fail at once."""
    try:
        import fcntl
    except ImportError:
        try:
            import msvcrt
        except ImportError:
            raise OSError(errno.ENOSYS, "this system has no locks that are known here") from None
        file.seek(1 << 30)  # beyond what is written, as a locked part cannot be read
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        return
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _owner(file: IO[str]) -> str:
    file.seek(0)
    try:
        values = json.loads(file.read())
        return f"process {values['process']} on {values['host']}"
    except (ValueError, KeyError, TypeError, OSError):
        return "another process"
