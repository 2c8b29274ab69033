"""The check of shapes where PyTorch would broadcast unequal ones without a word."""

from torch import Tensor


def require_same_shape(prediction: Tensor, target: Tensor, valid: Tensor | None = None) -> None:
    """Refuse to compare tensors of different shapes.

    Args:
        prediction: Logits or probabilities.
        target: Ground truth.
        valid: Where the ground truth counts, if not everywhere.

    Raises:
        ValueError: With both shapes, if they differ.
    """
    for name, other in (("prediction", prediction), ("valid", valid)):
        if other is not None and other.shape != target.shape:
            raise ValueError(
                f"'{name}' and the ground truth must have the same shape, got {tuple(other.shape)} and "
                f"{tuple(target.shape)}."
            )
