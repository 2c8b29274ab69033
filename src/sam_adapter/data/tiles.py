"""Tiles of a data set: their side, from what is known of its pictures, and how often each picture is shown."""

from collections.abc import Sequence

from ..batch import Size
from ..config.tiles import MOST_TILES, TileOptions
from ..tiling.choice import TileChoice, choose_tile, in_words
from ..tiling.grid import Tiling
from .inspection.findings import PairLook, Remark
from .inspection.objects import SPECK


def choice_of(looks: Sequence[PairLook]) -> TileChoice:
    """The side of tiles that suits the objects of some pictures, specks left out."""
    areas: list[int] = []
    for look in looks:
        own = look.objects.areas
        areas += [area for area in own if area >= SPECK * own[-1]]
    largest = max((look.objects.extent for look in looks), default=0)
    return choose_tile(areas, largest, _sizes(looks))


def tiling_of(options: TileOptions, looks: Sequence[PairLook]) -> Tiling | None:
    """The tiles that options mean for some pictures; None takes pictures whole.

    Raises:
        ConfigError: If tiles would overlap by their whole side.
    """
    if options.tile != "auto":
        return Tiling.asked(options.tile, options.overlap, None)
    tile = choice_of(looks).tile
    return None if tile is None else Tiling.of(tile, options.overlap)


def tiles_in_words(tiling: Tiling | None, looks: Sequence[PairLook], *, image_size: int) -> str:
    """What is known of objects and tiles of some pictures, a sentence without its full stop."""
    return in_words(choice_of(looks), tiling, _sizes(looks), image_size=image_size)


def tile_remark(options: TileOptions, looks: Sequence[PairLook], *, image_size: int) -> list[Remark]:
    """What tiles mean for a set, if they are asked for."""
    if not options.tile or not looks:
        return []
    return [Remark("tiles", (), tiles_in_words(tiling_of(options, looks), looks, image_size=image_size))]


def tiles_each(tiling: Tiling, size: Size, asked: int | None) -> int:
    """How many tiles of a picture ``(H, W)`` an epoch shows: as many as are asked for, or as cover it."""
    return asked or min(tiling.covering(size), MOST_TILES)


def _sizes(looks: Sequence[PairLook]) -> list[Size]:
    return [look.size for look in looks]
