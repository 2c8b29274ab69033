"""How often each picture is drawn in an epoch, so that rare classes and empty pictures have the wanted share."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from .inspection.findings import PairLook


def sampling_weights(looks: Sequence[PairLook], *, balance: bool, empty_share: float | None) -> np.ndarray | None:
    """Chances of the pictures to be drawn; None if each is to be seen once an epoch.

    Args:
        looks: Of all training pictures.
        balance: Draw a picture more often the rarer its rarest class is: by the square root of one over the share of
            pictures that have the class, as the repeat factors of LVIS (Gupta et al., 2019).
        empty_share: Share of the draws that are pictures without foreground; None leaves it as the other weights have
            it. It does nothing where all or no pictures are empty.

    Returns:
        ``(pictures,)`` float64 that sums to 1, or None.
    """
    if not balance and empty_share is None:
        return None
    weights = np.ones(len(looks))
    if balance:
        pictures = Counter(one.label for look in looks for one in look.classes)
        for at, look in enumerate(looks):
            if look.classes:
                rarest = min(pictures[one.label] for one in look.classes)
                weights[at] = np.sqrt(len(looks) / rarest)
    empty = np.array([look.foreground == 0 for look in looks])
    if empty_share is not None and empty.any() and not empty.all():
        weights[empty] *= empty_share / weights[empty].sum()
        weights[~empty] *= (1 - empty_share) / weights[~empty].sum()
    return weights / weights.sum()
