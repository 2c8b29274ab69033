"""How large tiles should be: chosen from the sizes of the objects that are to be found."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from ..batch import Size
from ..config.tiles import SMALLEST_TILE
from .grid import Tiling

MEDIAN_SHARE = (8, 10, 12)
"""Diameters of the median object along a tile: fewest, as it should be, most."""


@dataclass(frozen=True)
class TileChoice:
    """A side of tiles and what it is chosen from.

    Attributes:
        tile: Side in pixels of the picture; None where the pictures need no tiles.
        diameter: Of the disc with the median object's area, in pixels of the picture; 0 without objects.
        largest: Longest side of the box around the largest object.
        objects: How many there are.
        picture: Shorter side of the median picture.
    """

    tile: int | None
    diameter: float
    largest: int
    objects: int
    picture: int


def choose_tile(areas: Sequence[int], largest: int, sizes: Sequence[Size]) -> TileChoice:
    """Choose the side of tiles.

    The median object's diameter becomes a tenth of it. Where the largest object's box is longer, the tile grows with it
    until the median object is a twelfth. Tiles are not longer than the shorter side of the median picture.

    Args:
        areas: Of the objects in pixels.
        largest: Longest side of an object's box.
        sizes: ``(H, W)`` of the pictures.
    """
    picture = int(median(min(size) for size in sizes))
    if not areas:
        return TileChoice(None, 0.0, largest, 0, picture)
    diameter = math.sqrt(4 * median(areas) / math.pi)
    _, usual, most = (share * diameter for share in MEDIAN_SHARE)
    wanted = max(math.ceil(min(max(usual, largest), most)), SMALLEST_TILE)
    tile = min(wanted, picture)
    return TileChoice(tile if tile >= SMALLEST_TILE else None, diameter, largest, len(areas), picture)


def in_words(choice: TileChoice, tiling: Tiling | None, sizes: Sequence[Size], *, image_size: int) -> str:
    """What a choice means for a set, a sentence without its full stop.

    Args:
        choice: Sizes of the set.
        tiling: The tiles that are used, chosen or given.
        sizes: ``(H, W)`` of the pictures.
        image_size: Side of the square that the encoder sees.
    """
    longest = median(max(size) for size in sizes)
    seen = (
        f"the median of {choice.objects} objects is {choice.diameter:.1f} pixels across, the largest box "
        f"{choice.largest} pixels long"
        if choice.objects
        else "there are no objects"
    )
    whole = choice.diameter * image_size / longest
    if tiling is None:
        return f"{seen}; no tiles are used, and in the encoder's input of {image_size} pixels that is {whole:.1f}"
    count = median(len(tiling.windows(size)) for size in sizes)
    own = choice.diameter * image_size / min(tiling.tile, longest)
    return (
        f"{seen}; tiles of {tiling.tile} pixels that overlap by {tiling.overlap} are {count:g} a picture (median), "
        f"and in the encoder's input of {image_size} pixels the median object is {own:.1f} pixels across instead of "
        f"{whole:.1f}"
    )
