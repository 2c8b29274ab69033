"""Training and validation pairs from one set: at random, groups kept whole, and what then lies on both sides."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from ..annotations.listing import Record
from ..config.options import GroupOptions
from ..errors import DataError
from .inspection.copies import near_copies
from .inspection.findings import Remark
from .inspection.grouping import group_names, joined
from .inspection.remarks import copies_remark

SPLITS = 100
"""Random splits of which the one is taken that suits the classes best."""


def split(
    records: list[Record], fraction: float, seed: int | list[int], groups: Sequence[str] | None = None
) -> tuple[list[Record], list[Record]]:
    """Hold out a random part of the pairs; the same for the same names and seed.

    Args:
        records: The pairs.
        fraction: Share to hold out.
        seed: Seed of the choice.
        groups: The group of each pair; a group is held out whole or not at all, and as many pairs are held out as come
            nearest to the share. None holds out single pairs.

    Returns:
        Training and validation records; at least one of each unless the fraction is 0.

    Raises:
        DataError: If there are too few pairs or groups to hold one out.
    """
    if fraction == 0:
        return records, []
    if len(records) < 2:
        raise DataError("one pair cannot be split; give --val-images and --val-masks, or --val-fraction 0.")
    rng = np.random.default_rng(seed)
    wanted = min(max(round(len(records) * fraction), 1), len(records) - 1)
    if groups is None:
        held_out = set(rng.permutation(len(records))[:wanted].tolist())
    else:
        held_out = _held_out_groups(groups, wanted, rng)
    kept = [record for index, record in enumerate(records) if index not in held_out]
    return kept, [records[index] for index in sorted(held_out)]


def grouped_split(
    records: list[Record],
    fingerprints: Mapping[Record, np.ndarray],
    options: GroupOptions,
    *,
    fraction: float,
    seed: int,
    torn_only: bool,
    classes: Mapping[Record, Sequence[int]] | None = None,
    known_groups: Mapping[str, str] | None = None,
) -> tuple[list[Record], list[Record], list[Remark]]:
    """Hold out a random part as the user's groups allow, and tell of near copies that it puts on both sides.

    Args:
        records: The pairs.
        fingerprints: Of the image of each pair; empty looks for no copies.
        options: What belongs together.
        fraction: Share to hold out.
        seed: Seed of the choice.
        torn_only: Tell of those copies alone that this very split tears apart.
        known_groups: See `group_names`.
        classes: Labels of the classes that each pair has; the part that is held out has about the same share of each.

    Returns:
        Training records, validation records, and remarks.

    Raises:
        ConfigError: If the table of groups cannot be read.
        DataError: If a pair has no group, or there are too few pairs or groups.
    """
    copies = near_copies([fingerprints[record] for record in records]) if fingerprints else []
    groups = group_names(records, options, known_groups)
    if options.group_copies:
        groups = joined(groups, copies, len(records))
    kept, held_out = _stratified(records, fraction, seed, groups, classes or {})
    loose = [group for group in copies if groups is None or len({groups[index] for index in group}) > 1]
    return kept, held_out, copies_remark(records, loose, set(held_out), torn_only=torn_only) if held_out else []


def _stratified(
    records: list[Record],
    fraction: float,
    seed: int,
    groups: Sequence[str] | None,
    classes: Mapping[Record, Sequence[int]],
) -> tuple[list[Record], list[Record]]:
    """Of some random splits the one whose parts have the most similar shares of pictures with each class."""
    best = split(records, fraction, seed, groups)
    labels = sorted({label for record in records for label in classes.get(record, ())})
    if not labels or not best[1]:
        return best
    has = {record: np.isin(labels, classes.get(record, ())) for record in records}
    shares = np.mean([has[record] for record in records], 0)

    def unlike(held_out: list[Record]) -> float:
        return float(np.abs(np.mean([has[record] for record in held_out], 0) / shares - 1).sum())

    for further in range(1, SPLITS):
        drawn = split(records, fraction, [seed, further], groups)
        if unlike(drawn[1]) < unlike(best[1]):
            best = drawn
    return best


def _held_out_groups(groups: Sequence[str], wanted: int, rng: np.random.Generator) -> set[int]:
    """Indices of whole groups, together as near to the wanted number of pairs as groups allow."""
    sizes = Counter(groups)
    if len(sizes) < 2:
        raise DataError(
            f"all {len(groups)} pairs are of one group, '{groups[0]}', which cannot be split; expected two groups or "
            "more. Give other groups, --val-images and --val-masks, or --val-fraction 0."
        )
    names = sorted(sizes)
    order = [names[index] for index in rng.permutation(len(names))]
    # Pairs that some groups have together -> the last group that was needed for it; those before it came earlier.
    last = np.full(len(groups), -1)
    last[0] = len(order)
    for position, name in enumerate(order):
        size = sizes[name]
        new = (last[: len(last) - size] >= 0) & (last[size:] < 0)
        last[size:][new] = position
        if last[wanted] >= 0:
            break
    sums = np.flatnonzero(last >= 0)[1:]
    left = int(sums[np.abs(sums - wanted).argmin()])
    chosen = set()
    while left:
        name = order[last[left]]
        chosen.add(name)
        left -= sizes[name]
    return {index for index, name in enumerate(groups) if name in chosen}
