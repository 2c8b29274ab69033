"""Files that are complete at every moment: written beside their place, then moved there in one step.

Everything the program writes goes through `written_beside`: on the disk of its place (never in the system's temporary
folder), with the permissions that the umask gives, and with one sentence when it cannot be written.
"""

import errno
import itertools
import logging
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import ConfigError, OutputError
from .processes import is_running, process_tag, tag_of_this_host

log = logging.getLogger(__name__)

PREFIX = ".sam-adapter-"
"""How names of temporary files and folders begin; then follow the writing process's tag and a number."""
_LEFTOVER = re.compile(rf"{re.escape(PREFIX)}(?P<tag>.+)-\d+(?:\.partial|\.folder)")
_numbers = itertools.count()

_CAUSES = {
    errno.ENOSPC: "the disk is full; make room or choose another folder",
    errno.EDQUOT: "your quota of disk space is used up; make room or choose another folder",
    errno.EROFS: "it lies on a read-only file system; choose another folder",
    errno.EACCES: "permission is denied; choose another folder or change its permissions",
    errno.EPERM: "the operation is not permitted there; choose another folder or change its permissions",
    errno.ENOTDIR: "a part of its path is a file, not a folder",
    errno.EISDIR: "a folder is in its place; move it away",
    errno.EEXIST: "a file is in the place of a folder; move it away",
    errno.ENAMETOOLONG: "its name is too long for the file system; shorten it",
}


def temporary_name(ending: str) -> str:
    """A name that no other process and thread uses, and that `remove_leftovers` knows; short, whatever the file's."""
    return f"{PREFIX}{process_tag()}-{next(_numbers)}.{ending}"


@contextmanager
def written_beside(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Put a file in its place once it is complete; after an error or Ctrl-C the old one is as it was.

    A symbolic link stays, and the file that it leads to is replaced. A device or pipe, such as /dev/null, is written
    into: a root user could put a file in its place.

    Args:
        path: The place; its folder is made if it is not there.
        durable: Have it on the disk before it takes the old one's place, so that a power failure leaves one of them.

    Yields:
        A temporary file in the folder of the place, to be written in the block. What looks at the suffix for the format
        must be told the format.

    Raises:
        OutputError: If it cannot be written.
    """
    with writing_to(path):
        place = Path(os.path.realpath(path)) if path.is_symlink() else path
        if path.exists() and not path.is_file() and not path.is_dir():
            yield path
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = place.parent / temporary_name("partial")
        try:
            # Made here, because some libraries write files that nobody else may read, whatever the umask says.
            descriptor = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
            mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
            os.close(descriptor)
            yield partial
            if stat.S_IMODE(partial.stat().st_mode) != mode:
                partial.chmod(mode)
            if durable:
                _flush(partial)
            os.replace(partial, place)
            if durable:
                _flush(place.parent)
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)  # after success it is gone already


@contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Turn the system's errors about a file or folder that is written into a sentence.

    Raises:
        OutputError: With the cause and what to do.
    """
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"'{_printable(path)}' cannot be written: {cause(error)}.") from error


def write_tensors(path: Path, tensors: Mapping, *, metadata: dict[str, str] | None = None, durable: bool) -> None:
    """Write a safetensors file; see `written_beside`."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with written_beside(path, durable=durable) as partial:
        try:
            save_file(dict(tensors), partial, metadata=metadata)
        except SafetensorError as error:  # the system's errors, as text
            code = re.search(r"(?:code: |os error )(\d+)", str(error))
            raise OSError(int(code[1]) if code else None, str(error)) from error


def cause(error: OSError) -> str:
    """Why something could not be written, and what to do."""
    if error.errno in _CAUSES:
        return _CAUSES[error.errno]
    return error.strerror or str(error) or type(error).__name__


def require_writable(folder: Path, option: str = "output") -> None:
    """Find out whether files can be written into a folder that need not be there yet; nothing is left there.

    Args:
        folder: The folder.
        option: Name of the option that it came from, for the message.

    Raises:
        ConfigError: With the cause and what to do.
    """
    try:
        there = folder.absolute()
        while not _exists(there):
            there = there.parent
        if not there.is_dir():
            raise ConfigError(
                f"{option}: '{_printable(folder)}' cannot be a folder, as '{_printable(there)}' is a file."
            )
        probe = there / temporary_name("partial")
        try:
            probe.write_bytes(bytes(4096))
        finally:
            with suppress(OSError):
                probe.unlink(missing_ok=True)
    except (OSError, ValueError) as error:
        reason = cause(error) if isinstance(error, OSError) else str(error)
        raise ConfigError(f"{option}: cannot write into '{_printable(folder)}': {reason}.") from error


def remove_leftovers(*folders: Path) -> None:
    """Remove temporary files that killed processes of this machine left in folders, and in the folders inside them."""
    for folder in folders:
        for parent, inner, files in os.walk(folder):
            for name in [*inner, *files]:
                match = _LEFTOVER.fullmatch(name)
                if match is None or not tag_of_this_host(match["tag"]) or is_running(match["tag"]):
                    continue
                path = Path(parent, name)
                with suppress(OSError):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
                    log.info("Removed '%s', which a stopped process had left", path)


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """A folder for intermediate files that is removed afterwards, or at the next start if the process is killed."""
    folder = parent / temporary_name("folder")
    with writing_to(folder):
        folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _exists(path: Path) -> bool:
    """Whether something has this name; names that cannot be are an error, unlike in `Path.exists`."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _printable(path: Path) -> str:
    """A path that can be printed even if its name is no valid Unicode."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _flush(path: Path) -> None:
    """Have a file or, where the system can do that, a folder on the disk."""
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
