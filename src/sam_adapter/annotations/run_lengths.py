"""COCO's run lengths: counts of background and foreground pixels in turn, down one column after the other.

Compressed counts are COCO's own text: groups of five bits, and from the fourth count on the difference from the count
before the last (``rleToString`` of pycocotools, which reads past the end of a text that is cut off).
"""

from typing import Any

import numpy as np

from .problems import EntryError

_CURE = "save the run lengths anew, as pycocotools.mask.encode gives them"


def checked(segmentation: dict[str, Any], size: tuple[int, int] | None) -> dict[str, Any]:
    """Run lengths of a COCO file, compressed.

    Args:
        segmentation: ``{"size": [H, W], "counts": text or list}``.
        size: ``(H, W)`` of the image; None if it is not known.

    Returns:
        ``{"size": [H, W], "counts": bytes}``, which fill the size that they name.

    Raises:
        EntryError: If they are of another size, or are no run lengths.
    """
    shape, counts = segmentation.get("size"), segmentation.get("counts")
    if not (isinstance(shape, list) and len(shape) == 2 and all(type(side) is int and side > 0 for side in shape)):
        raise EntryError(f"has run lengths of size {shape!r:.80}; expected [height, width]", _CURE)
    height, width = shape
    if size is not None and (height, width) != size:
        raise EntryError(
            f"has run lengths of {width}x{height} pixels for an image of {size[1]}x{size[0]}",
            "annotate the picture at the size that it has, or resize picture and annotation together",
        )
    if isinstance(counts, list):
        runs = _whole_numbers(counts)
    elif isinstance(counts, str | bytes):
        counts = counts.encode("utf-8", "surrogatepass") if isinstance(counts, str) else counts
        runs = runs_of(counts)
    else:
        raise EntryError(f"has run lengths without counts, got {counts!r:.80}", _CURE)
    if (runs < 0).any() or int(runs.sum()) != height * width:
        raise EntryError(f"has run lengths of {int(runs.sum())} pixels in all; expected {height * width}", _CURE)
    if isinstance(counts, list):
        from pycocotools import mask as coco

        uncompressed: Any = {"size": shape, "counts": counts}
        counts = coco.frPyObjects(uncompressed, height, width)["counts"]
    return {"size": shape, "counts": counts}


def runs_of(counts: bytes) -> np.ndarray:
    """Compressed counts as numbers.

    Args:
        counts: COCO's text.

    Returns:
        ``(n,)`` int64: pixels of background, of foreground, of background, ... in column order.

    Raises:
        EntryError: If the text is no such counts.
    """
    codes = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
    if len(codes) == 0 or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise EntryError("has run lengths that are damaged or cut off", _CURE)
    ends = np.flatnonzero(codes & 32 == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > 12:  # more bits than a count of pixels has
        raise EntryError("has run lengths that are damaged or cut off", _CURE)
    shifts = 5 * (np.arange(len(codes)) - np.repeat(starts, lengths))
    runs = np.add.reduceat((codes & 31) << shifts, starts)
    negative = codes[ends] & 16 != 0
    runs[negative] -= 1 << (5 * lengths[negative])
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def _whole_numbers(counts: list) -> np.ndarray:
    if all(type(one) is int and 0 <= one < 2**31 for one in counts):
        return np.array(counts, dtype=np.int64)
    wrong = next(one for one in counts if type(one) is not int or not 0 <= one < 2**31)
    raise EntryError(f"has run lengths with {wrong!r:.80}; expected whole numbers from 0", _CURE)


def run_lengths_of(labels: np.ndarray) -> dict[int, dict[str, Any]]:
    """Compressed run lengths of every object of a label map, in one pass over its pixels.

    Args:
        labels: ``(H, W)`` int32, 0 where there is no object.

    Returns:
        Number of an object to ``{"size": [H, W], "counts": text}``, as COCO has it.
    """
    flat = labels.ravel(order="F")
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    lengths = np.diff(starts, append=len(flat))
    numbers = flat[starts]
    order = np.argsort(numbers, kind="stable")
    order = order[numbers[order] > 0]
    found: dict[int, dict[str, Any]] = {}
    for run in np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1) if len(order) else ():
        found[int(numbers[run[0]])] = _encoded(starts[run], lengths[run], labels.shape)
    return found


def run_lengths_of_part(mask: np.ndarray, corner: tuple[int, int], size: tuple[int, int]) -> dict[str, Any]:
    """Compressed run lengths of a mask that lies in a part of its picture.

    Args:
        mask: ``(h, w)`` bool, which has foreground.
        corner: Row and column of the picture at which the part begins.
        size: ``(H, W)`` of the picture.

    Returns:
        ``{"size": [H, W], "counts": text}``, as COCO has it.
    """
    columns, rows = np.nonzero(mask.T)
    place = (columns + corner[1]) * size[0] + rows + corner[0]  # in column order
    first = np.flatnonzero(np.diff(place, prepend=-2) != 1)
    return _encoded(place[first], np.diff(first, append=len(place)), size)


def _encoded(starts: np.ndarray, lengths: np.ndarray, size: tuple[int, ...]) -> dict[str, Any]:
    """Runs of one object, in column order, as COCO has them."""
    from pycocotools import mask as coco

    before = starts - np.concatenate([[0], (starts + lengths)[:-1]])
    counts = np.stack([before, lengths], 1).ravel().tolist()
    rest = size[0] * size[1] - int(starts[-1] + lengths[-1])
    raw: Any = {"size": list(size), "counts": [*counts, *([rest] if rest else [])]}
    encoded: Any = coco.frPyObjects(raw, *size)
    return {"size": list(size), "counts": encoded["counts"].decode("ascii")}
