"""How well edges agree: boundary IoU, and the 95 % Hausdorff distance.

Both score the mask at its threshold; void pixels are background in prediction and target alike.
"""

import cv2
import numpy as np
from scipy.spatial import KDTree

from .full_size_answer import FullSizeAnswer

DILATION_RATIO = 0.02
"""Width of the boundary of `boundary_iou`, in diagonals of the picture."""
SQUARE = np.ones((3, 3), np.uint8)
CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)


def boundary_iou(answer: FullSizeAnswer) -> float:
    """IoU of the pixels of both masks that lie near their own edges; 1 where both are empty, 0 where one is.

    Cheng et al., "Boundary IoU", CVPR 2021: near is within 2 % of the picture's diagonal, in rows and columns, and the
    picture's border is an edge.
    """
    height, width = answer.target.shape
    depth = max(round(DILATION_RATIO * float(np.hypot(height, width))), 1)
    ours, theirs = (_eroded_by(mask, SQUARE, depth) for mask in (answer.mask, answer.target))
    union = int((ours | theirs).sum())
    return int((ours & theirs).sum()) / union if union else 1.0


def hd95(answer: FullSizeAnswer) -> float:
    """The distance, in mm, within which 95 % of the outermost pixels of each mask have one of the other's.

    The 95th percentile, interpolated, of the distances from the outermost pixels of both masks together to the nearest
    of the other, as in ``medpy``; MONAI takes the percentile of each direction and of these the larger. Outermost are
    pixels with background above, below, left or right, or the picture's border. 0 where both masks are empty; where one
    is, the picture's diagonal.
    """
    # Counted from 1: at a coordinate of 0 the KDTree of scipy 1.17 ends the process where denormal numbers are flushed.
    edges = [
        (np.argwhere(_eroded_by(mask, CROSS, 1)) + 1) * np.asarray(answer.spacing)
        for mask in (answer.mask, answer.target)
    ]
    if not all(map(len, edges)):
        diagonal = float(np.hypot(*(np.asarray(answer.target.shape) * answer.spacing)))
        return diagonal if any(map(len, edges)) else 0.0
    ours, theirs = edges
    distances = np.concatenate([KDTree(theirs).query(ours)[0], KDTree(ours).query(theirs)[0]])
    return float(np.percentile(distances, 95))


def _eroded_by(mask: np.ndarray, element: np.ndarray, times: int) -> np.ndarray:
    """What an erosion takes away of a mask; outside the picture is background. ``(H, W)`` bool."""
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    return mask & ~cv2.erode(padded, element, iterations=times)[1:-1, 1:-1].astype(bool)
