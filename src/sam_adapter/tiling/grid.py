"""Where tiles lie in a picture, and how much each pixel of a tile counts where several tiles see it."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..batch import Size, Window
from ..config.tiles import SMALLEST_TILE
from ..errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """How pictures are cut into tiles.

    Attributes:
        tile: Side of the square tiles in pixels of the picture.
        overlap: Pixels that neighbouring tiles have in common, at least.

    Raises:
        ConfigError: If tiles are too small, or overlap by their whole side.
    """

    tile: int
    overlap: int

    def __post_init__(self) -> None:
        if self.tile < SMALLEST_TILE:
            raise ConfigError(f"tile: expected {SMALLEST_TILE} pixels or more, got {self.tile}.")
        if not 0 <= self.overlap < self.tile:
            raise ConfigError(
                f"overlap: expected a value from 0 to {self.tile - 1}, less than the tile of {self.tile} pixels, got "
                f"{self.overlap}."
            )

    @classmethod
    def of(cls, tile: int, overlap: int | None = None) -> "Tiling":
        """Tiles of a side, which overlap by a quarter of it unless told otherwise."""
        return cls(tile=tile, overlap=tile // 4 if overlap is None else overlap)

    @classmethod
    def asked(cls, tile: int | str | None, overlap: int | None, own: "Tiling | None") -> "Tiling | None":
        """Tiles as options ask for them, or those of an adapter.

        Args:
            tile: Side; 0 for none, None for the adapter's own.
            overlap: None for the adapter's own, or a quarter of a side that is given.
            own: Of the adapter.

        Raises:
            ConfigError: If they overlap by their whole side, or there are none to overlap.
        """
        if tile is None and own is not None:
            return own if overlap is None else cls(tile=own.tile, overlap=overlap)
        if tile is None and overlap is not None:
            raise ConfigError("overlap: there are no tiles; give --tile too, or leave it out.")
        return cls.of(int(tile), overlap) if tile else None

    def rows(self, size: Size) -> list[list[Window]]:
        """The tiles of a picture ``(H, W)``, a list for each row of them; all lie inside the picture and are equal."""
        height, width = (min(self.tile, side) for side in size)
        tops, lefts = (self._starts(side) for side in size)
        return [[Window(top, left, height, width) for left in lefts] for top in tops]

    def windows(self, size: Size) -> list[Window]:
        """The tiles of a picture ``(H, W)``, row by row."""
        return [window for row in self.rows(size) for window in row]

    def covering(self, size: Size) -> int:
        """How many tiles without overlap cover a picture ``(H, W)``."""
        return math.prod(math.ceil(side / self.tile) for side in size)

    def weights(self, window: Window, rows: slice) -> Tensor:
        """How much the pixels of a tile count: 1 in the middle, less towards its border.

        Args:
            window: The tile.
            rows: Of the tile.

        Returns:
            ``(rows, width)`` float32, above 0.
        """
        down, across = (_profile(side, self.overlap) for side in (window.height, window.width))
        return down[rows, None] * across

    def _starts(self, side: int) -> list[int]:
        """First pixels of the tiles along a side of the picture, evenly spread."""
        if side <= self.tile:
            return [0]
        gaps = math.ceil((side - self.tile) / (self.tile - self.overlap))
        return [gap * (side - self.tile) // gaps for gap in range(gaps + 1)]


def _profile(side: int, overlap: int) -> Tensor:
    """Weights ``(side,)`` that rise linearly over the overlap, so that those of two neighbours sum to 1."""
    ramp = min(overlap, side // 2)
    if not ramp:
        return torch.ones(side)
    place = torch.arange(side)
    return ((torch.minimum(place, side - 1 - place) + 0.5) / ramp).clamp(max=1)
