"""A grid of tokens cut into what attends within itself: the whole grid, or windows (ViTDet, Li et al., 2022).

Also the score of a query for its relative position to a key.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class HeadLayout:
    """How the tokens of a grid attend to each other.

    Attributes:
        heads: Number of heads N; the channels are N times D.
        scale: Factor on the products of queries and keys.
        window: Side of the windows that attend within themselves; 0 for the grid as a whole.
    """

    heads: int
    scale: float
    window: int = 0

    def window_shape(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of what attends within itself, for a grid of a height and width."""
        return (self.window, self.window) if self.window else (height, width)


def filled_up(tokens: Tensor, window: int, value: Tensor | None) -> Tensor:
    """A grid extended at the bottom and the right to whole windows.

    Args:
        tokens: ``(B, H, W, ...)``.
        window: Side of a window in tokens; 0 leaves the grid as it is.
        value: What the new tokens are, ``(...)``; None for zeros.

    Returns:
        ``(B, H', W', ...)`` with sides that are multiples of ``window``.
    """
    batch, height, width, *channels = tokens.shape
    below, right = (-height % window, -width % window) if window else (0, 0)
    fill = tokens.new_zeros(channels) if value is None else value.to(tokens.dtype)
    if right:
        tokens = torch.cat([tokens, fill.expand(batch, height, right, *channels)], 2)
    if below:
        tokens = torch.cat([tokens, fill.expand(batch, below, width + right, *channels)], 1)
    return tokens


def sequences(tokens: Tensor, shape: tuple[int, int]) -> Tensor:
    """Cut a grid ``(B, H, W, N, D)`` of whole windows of h rows and w columns.

    Returns:
        ``(S, h*w, D)``: a sequence for each image, window and head, in this order.
    """
    height, width = shape
    cut = tokens.unflatten(2, (-1, width)).unflatten(1, (-1, height))  # (B, rows of windows, h, columns, w, N, D)
    return cut.permute(0, 1, 3, 5, 2, 4, 6).reshape(-1, height * width, tokens.shape[-1])


def on_grid_again(found: Tensor, shape: tuple[int, int], grid: tuple[int, int], heads: int) -> Tensor:
    """Undo `filled_up` and `sequences`: ``(S, h*w, D)`` to a grid of any height and width, ``(B, H, W, N, D)``."""
    rows, columns = (-(-side // part) for side, part in zip(grid, shape, strict=True))
    cut = found.view(-1, rows, columns, heads, *shape, found.shape[-1]).permute(0, 1, 4, 2, 5, 3, 6)
    return cut.flatten(3, 4).flatten(1, 2)[:, : grid[0], : grid[1]]


def relative(table: Tensor, size: int, like: Tensor) -> Tensor:
    """Entries ``query - key + size - 1`` of a table ``(2*size - 1, D)``: ``(size, size, D)`` in a tensor's type."""
    places = torch.arange(size, device=table.device)
    return table[places[:, None] - places + size - 1].to(like.dtype)


def position_biases(query: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Score of each query for each row and each column of its grid.

    Args:
        query: ``(N, h*w, D)``.
        rows: ``(h, h, D)``, see `relative`.
        columns: ``(w, w, D)``.

    Returns:
        ``(N, h*w, h)`` and ``(N, h*w, w)``.
    """
    grid = query.unflatten(1, (len(rows), len(columns)))  # (N, h, w, D)
    by_row = torch.einsum("nhwd,hkd->nhwk", grid, rows)
    by_column = torch.einsum("nhwd,wkd->nhwk", grid, columns)
    return by_row.flatten(1, 2), by_column.flatten(1, 2)
