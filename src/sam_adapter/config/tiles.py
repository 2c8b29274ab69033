"""Options for pictures that are seen tile by tile."""

from dataclasses import dataclass
from typing import Literal

from .base import Config
from .ranges import shortened

SMALLEST_TILE = 32
"""Side of the smallest tile in pixels of the picture."""
MOST_TILES = 8
"""Tiles of a picture in an epoch of training, unless told otherwise."""


@dataclass(frozen=True, kw_only=True)
class TileOptions(Config):
    """Tiles of pictures."""

    tile: int | Literal["auto"] | None = None
    """Side of square tiles in pixels of the picture, 32 or more: pictures are seen tile by tile, so that small things
    are large enough for the encoder. 'auto', in check and train, chooses it from the sizes of the objects; 0 takes
    pictures whole. Without it pictures are whole or, with an adapter, as in its training."""
    overlap: int | None = None
    """Pixels that neighbouring tiles have in common, less than the tile; without it a quarter of the tile."""

    def problems(self) -> list[str | None]:
        """See `Config.problems`."""
        tile, overlap = self.tile, self.overlap
        return [
            *super().problems(),
            f"tile: expected 0 or {SMALLEST_TILE} pixels and more, got {tile}."
            if isinstance(tile, int) and 0 < tile < SMALLEST_TILE
            else None,
            f"overlap: expected less than the tile of {tile} pixels, got {shortened(overlap)}."
            if isinstance(tile, int) and tile and overlap is not None and overlap >= tile
            else None,
            "overlap: pictures that are taken whole have no tiles; leave it out." if tile == 0 and overlap else None,
        ]


@dataclass(frozen=True, kw_only=True)
class ChosenTileOptions(TileOptions):
    """Tiles of a set from which their side can be chosen."""

    def problems(self) -> list[str | None]:
        """See `Config.problems`."""
        alone = self.tile is None and self.overlap is not None
        return [*super().problems(), "overlap: needs a tile, a number or auto." if alone else None]


@dataclass(frozen=True, kw_only=True)
class KnownTileOptions(TileOptions):
    """Tiles of a model that is trained already."""

    def problems(self) -> list[str | None]:
        """See `Config.problems`."""
        chosen = "tile: 'auto' is chosen in training and travels with the adapter; leave it out, or give a number."
        return [*super().problems(), chosen if self.tile == "auto" else None]


@dataclass(frozen=True, kw_only=True)
class TrainingTileOptions(ChosenTileOptions):
    """Tiles that are trained on."""

    tiles_per_image: int | None = None
    """Tiles of each picture in an epoch, at places that are drawn anew; without it as many as cover it, at most 8."""
    empty_tiles: float = 0.1
    """Share of the tiles that are drawn where the picture has no foreground."""
