"""Cutting a grid of tokens into square windows and putting it together again (ViTDet, Li et al., 2022)."""

import torch
from torch import Tensor


def filled_up(tokens: Tensor, window: int, value: Tensor | None) -> Tensor:
    """A grid extended at the bottom and the right to whole windows.

    Args:
        tokens: ``(B, H, W, C)``.
        window: Side of a window in tokens.
        value: What the new tokens are, ``(C,)``; None for zeros.

    Returns:
        ``(B, H', W', C)`` with sides that are multiples of ``window``.
    """
    batch, height, width, channels = tokens.shape
    below, right = -height % window, -width % window
    fill = tokens.new_zeros(channels) if value is None else value.to(tokens.dtype)
    if right:
        tokens = torch.cat([tokens, fill.expand(batch, height, right, channels)], 2)
    if below:
        tokens = torch.cat([tokens, fill.expand(batch, below, width + right, channels)], 1)
    return tokens


def partition(tokens: Tensor, window: int) -> Tensor:
    """Cut a grid of whole windows, ``(B, H, W, C)``, into ``(B * windows, window, window, C)``."""
    batch, height, width, channels = tokens.shape
    cut = tokens.reshape(batch, height // window, window, width // window, window, channels)
    return cut.transpose(2, 3).reshape(-1, window, window, channels)


def unpartition(windows: Tensor, height: int, width: int) -> Tensor:
    """Undo `partition`: ``(B * windows, window, window, C)`` back to ``(B, height, width, C)``."""
    _, window, _, channels = windows.shape
    cut = windows.reshape(-1, height // window, width // window, window, window, channels)
    return cut.transpose(2, 3).reshape(-1, height, width, channels)


def copy_to_windows(tokens: Tensor, windows: Tensor, fill: Tensor | None) -> None:
    """Copy a row of windows from a grid; windows reach beyond the grid at the bottom and the right.

    Args:
        tokens: ``(B, H, W, N, D)`` with no more rows than a window has.
        windows: ``(B, h, windows, w, N, D)``, overwritten.
        fill: What tokens beyond the grid are, ``(N, D)``; None for zeros.
    """
    height, width = tokens.shape[1:3]
    across, columns = windows.shape[2:4]
    whole, rest = divmod(width, columns)
    beyond = tokens.new_zeros(()) if fill is None else fill
    windows[:, :height, :whole].copy_(tokens[:, :, : whole * columns].unflatten(2, (whole, columns)))
    if whole < across:
        windows[:, :height, whole, :rest].copy_(tokens[:, :, whole * columns :])
        windows[:, :height, whole, rest:] = beyond
    windows[:, height:] = beyond


def copy_to_grid(windows: Tensor, tokens: Tensor) -> None:
    """Undo `copy_to_windows`: what lies beyond the grid is left out."""
    height, width = tokens.shape[1:3]
    columns = windows.shape[3]
    whole, rest = divmod(width, columns)
    tokens[:, :, : whole * columns].unflatten(2, (whole, columns)).copy_(windows[:, :height, :whole])
    if rest:
        tokens[:, :, -rest:].copy_(windows[:, :height, whole, :rest])
