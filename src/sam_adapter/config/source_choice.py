"""Which option says where annotations are, and what may not be given together."""

from collections.abc import Mapping
from typing import Literal

SourceOption = Literal["masks", "annotations", "table", "dataset", "known"]
SOURCES: tuple[SourceOption, ...] = ("masks", "annotations", "table", "dataset", "known")
"""Options of which one says where the annotations are."""


def source_problems(options: Mapping[str, object]) -> list[str | None]:
    """What is wrong with the choice of a source.

    Args:
        options: Those of `SOURCES` with their values, None where they are not given; and images, root and split.
    """
    given = [name for name in SOURCES if options[name] is not None]
    images, root, split = (options[name] is not None for name in ("images", "root", "split"))
    if len(given) != 1:
        got = " and ".join(given) or ("images alone" if images else "none of them")
        return [
            "images, masks, annotations, table, dataset, known: expected images with masks, or images with "
            f"annotations, or a table, or a dataset, or a known set with its root; got {got}."
        ]
    source = given[0]
    beside_images, rows = source in ("masks", "annotations"), source in ("table", "dataset")
    named = "a known set" if source == "known" else f"a {source}"
    return [
        f"images: must be given with {source}." if beside_images and not images else None,
        f"images: {named} names its own images; leave it out." if images and not beside_images else None,
        f"split: {source if beside_images else 'known sets'} have none; it is for a table or a dataset."
        if split and not rows
        else None,
        "known and root: give both or neither." if (source == "known") != root else None,
    ]
