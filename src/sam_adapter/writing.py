"""Files that are complete at every moment: written beside their place, then moved there in one step."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """Put a file in its place once it is complete; after an error or Ctrl-C the old one is as it was.

    Args:
        path: The place; its folder exists.

    Yields:
        ``NAME.partial`` in the same folder, to be written in the block. What looks at the suffix for the format must
        be told the format.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)  # after success it is gone already
