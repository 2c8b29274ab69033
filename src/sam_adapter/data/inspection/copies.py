"""Copies among pictures: the same bytes, and near copies, which are frames, exposures, shifts and flips of one scene.

A picture is described by its fine structure alone, each part of it weighing the same: a band-pass of a small grey
picture, divided by its own local strength and clipped. Two scenes with the same frame, the same lighting or one similar
outline have little of it in common; two pictures of one scene have most of it.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

SIDE = 64
"""Side of a fingerprint."""
SIMILAR = 0.6
"""Correlation of fingerprints from which two pictures count as copies. Measured on polyps, nuclei, shadows and steel:
different scenes stay below .5, frames, exposures and flips of one scene lie above .6."""
_COARSE = 16
_CANDIDATES = 10
"""Partners of each picture that are compared in full, the best by a coarse comparison."""
_COARSE_SIMILAR = 0.4
_PLAIN = 0.2
"""Below this mean square a fingerprint is an outline on a plain ground, which other scenes may have at nearly the same
place: it may then move by one cell only, flips prove nothing, and the outline itself must agree."""
_PLAIN_SIMILAR = 0.9
_ROWS = 256
"""Rows of the table of all pairs that are held at once."""


def fingerprint(image: np.ndarray) -> np.ndarray:
    """The fine structure of a picture.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.

    Returns:
        ``(64, 64)`` int8, -127 to 127; the same for another exposure.
    """
    # Cut down before it becomes grey: much the cheaper order for large pictures.
    side = 2 * SIDE
    shrinks = min(image.shape[:2]) >= side
    small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
    # Band-limited before the last halving, so that a shift by half a cell leaves the structure as it is.
    grey = cv2.resize(_blurred(grey, 1.5), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    detail = grey - _blurred(grey, 3)
    strength = _blurred(np.abs(detail), 3)
    return np.round(np.clip(detail / (0.5 * strength + 1), -1, 1) * 127).astype(np.int8)


def near_copies(fingerprints: Sequence[np.ndarray]) -> list[list[int]]:
    """Groups of pictures that show one scene.

    Args:
        fingerprints: Those of all pictures, see `fingerprint`.

    Returns:
        Indices of each group of two or more, in order; groups by their first member.
    """
    if len(fingerprints) < 2:
        return []
    prints = np.stack(fingerprints)  # (N, 64, 64)
    parents = list(range(len(prints)))

    def root(index: int) -> int:
        while parents[index] != index:
            parents[index] = index = parents[parents[index]]
        return index

    plain = np.array([np.mean(np.square(print_ / np.float32(127))) < _PLAIN for print_ in prints])
    # A round takes the next best partner of every picture; who is together already needs no comparison.
    for pairs in _candidates(prints):
        for first, second, way in pairs.tolist():
            if root(first) != root(second):
                bare = bool(plain[first] or plain[second])
                if _are_copies(prints[first], prints[second], way, plain=bare):
                    parents[max(root(first), root(second))] = min(root(first), root(second))
    groups: dict[int, list[int]] = defaultdict(list)
    for index in range(len(prints)):
        groups[root(index)].append(index)
    return [group for group in groups.values() if len(group) > 1]


def same_pictures(first: Sequence[tuple[Path, int]], second: Sequence[tuple[Path, int]]) -> dict[int, int]:
    """Which pictures of one list are in another one: the same file, or the same bytes, and the same page.

    Args:
        first: File and page of each.
        second: The same.

    Returns:
        Position in ``second`` to the first such position in ``first``.
    """
    sizes = [[path.stat().st_size for path, _ in part] for part in (first, second)]
    shared = set(sizes[0]) & set(sizes[1])  # no other file need be read
    known: dict[tuple[bytes, int], int] = {}
    for at, ((path, page), size) in enumerate(zip(first, sizes[0], strict=True)):
        if size in shared:
            known.setdefault((_digest(path), page), at)
    return {
        at: known[key]
        for at, ((path, page), size) in enumerate(zip(second, sizes[1], strict=True))
        if size in shared and (key := (_digest(path), page)) in known
    }


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _blurred(values: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(values, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)


def _turned(prints: np.ndarray, way: int) -> np.ndarray:
    """One of the eight ways to turn and flip squares ``(N, S, S)``; 0 leaves them as they are."""
    turned = np.rot90(prints, way % 4, axes=(1, 2))
    return turned[:, :, ::-1] if way >= 4 else turned


def _candidates(prints: np.ndarray) -> list[np.ndarray]:
    """Rounds of pairs ``(M, 3)``, each an index, a later index, and the way to turn the second."""
    count, step = len(prints), SIDE // _COARSE
    coarse = prints.reshape(count, _COARSE, step, _COARSE, step).mean(axis=(2, 4), dtype=np.float32)
    ways = [_unit(_turned(coarse, way).reshape(count, -1)) for way in range(8)]  # 8 of (N, 256)
    rounds: list[list[np.ndarray]] = [[] for _ in range(_CANDIDATES)]
    for start in range(0, count - 1, _ROWS):
        rows = np.arange(start, min(start + _ROWS, count))
        best = np.full((len(rows), count - start), -1, np.float32)
        way_of = np.zeros(best.shape, np.int8)
        for way, turned in enumerate(ways):
            similar = ways[0][rows] @ turned[start:].T
            better = similar > best
            np.copyto(best, similar, where=better)
            np.copyto(way_of, np.int8(way), where=better)
        best[np.arange(len(rows))[:, None] >= np.arange(count - start)[None]] = -1  # each pair once
        most = min(_CANDIDATES, best.shape[1])
        order = np.argpartition(-best, most - 1, axis=1)[:, :most]
        order = np.take_along_axis(order, np.argsort(-np.take_along_axis(best, order, 1), axis=1), 1)
        for place in range(most):
            column = order[:, place]
            good = best[np.arange(len(rows)), column] >= _COARSE_SIMILAR
            pairs = np.stack([rows, column + start, way_of[np.arange(len(rows)), column]], axis=1)
            rounds[place].append(pairs[good])
    return [np.concatenate(pairs) for pairs in rounds if pairs]


def _are_copies(first: np.ndarray, second: np.ndarray, way: int, *, plain: bool) -> bool:
    """Whether two fingerprints, the second turned, have the same structure at one small shift."""
    if plain and way > 0:
        return False
    reach = 1 if plain or way > 0 else 2
    core = first[reach:-reach, reach:-reach].astype(np.float32)
    turned = np.ascontiguousarray(_turned(second[None], way)[0], dtype=np.float32)
    if plain:
        core, turned = _stressed(core), _stressed(turned)
    similar = cv2.matchTemplate(turned, core, cv2.TM_CCOEFF_NORMED)  # one value a shift
    return bool((similar >= (_PLAIN_SIMILAR if plain else SIMILAR)).any())


def _stressed(rows: np.ndarray) -> np.ndarray:
    """What is strong weighs more: an outline, and not the noise beside it."""
    return rows * np.abs(rows)


def _unit(rows: np.ndarray) -> np.ndarray:
    """Rows ``(N, K)`` of mean zero and length one."""
    centred = rows - rows.mean(axis=1, keepdims=True)
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6)
