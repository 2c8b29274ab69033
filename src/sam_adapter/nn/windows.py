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
