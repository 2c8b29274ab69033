"""Where numbers of 64 bits can be had: Apple's GPUs have none, so that sums and scores are made on the CPU there."""

import torch
from torch import Tensor


def device_with_float64(device: torch.device) -> torch.device:
    """A device itself, or the CPU in place of an Apple GPU."""
    return torch.device("cpu") if device.type == "mps" else device


def with_float64(tensor: Tensor) -> Tensor:
    """A tensor where it can become one of float64; it is only moved off an Apple GPU."""
    return tensor.to(device_with_float64(tensor.device))
