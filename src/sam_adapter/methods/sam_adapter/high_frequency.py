"""The high-frequency part of an image, as in *SAM-Adapter* (ICCV-W 2023)."""

import torch
from torch import Tensor


def high_frequency(pixel_values: Tensor, rate: float = 0.25) -> Tensor:
    """Magnitude of what is left when a centred rectangle of low frequencies is removed.

    Args:
        pixel_values: Normalised input ``(B, C, H, W)``.
        rate: Area of the removed rectangle as a share of the spectrum's area.

    Returns:
        Float32 ``(B, C, H, W)``, zero or larger.
    """
    x = pixel_values.float()
    height, width = x.shape[-2:]
    half = int((height * width * rate) ** 0.5 // 2)
    keep = torch.ones(height, width, device=x.device)
    # A slice from a negative start would wrap around, so the rectangle is cut off at the spectrum's edge.
    top, left = max(height // 2 - half, 0), max(width // 2 - half, 0)
    keep[top : height // 2 + half, left : width // 2 + half] = 0
    keep = torch.fft.ifftshift(keep)
    # The rectangle reaches one bin further on the negative side; averaged with its mirror image it is real, and the
    # real half of the spectrum is enough to give the real part of the reference's complex inverse.
    mirrored = keep.flip(0, 1).roll((1, 1), (0, 1))
    symmetric = ((keep + mirrored) / 2)[:, : width // 2 + 1]  # (H, W//2+1)
    return torch.fft.irfft2(torch.fft.rfft2(x) * symmetric, s=(height, width)).abs()
