"""S-measure, mean E-measure, weighted F-measure and mean absolute error, as papers on camouflage have them.

By ``pysodmetrics``, on the map that those papers score: probabilities written as a picture of 8 bits, and stretched so
that the lowest value of the picture is 0 and the highest 1. Void pixels, which those papers do not have, are left out
of the stretch, and are then background in prediction and target alike; the mean absolute error leaves them out.

S-measure: Fan et al., ICCV 2017. E-measure: Fan et al., IJCAI 2018. Weighted F-measure: Margolin et al., CVPR 2014.
"""

import numpy as np
from py_sod_metrics import MAE, Emeasure, Smeasure, WeightedFmeasure

from .full_size_answer import FullSizeAnswer


def s_measure(answer: FullSizeAnswer) -> float:
    """Structural similarity of objects and regions, from 0 to 1.

    Where there is no foreground it is 1 minus the mean of the map, and where there is nothing else the mean.
    """
    measure = _Smeasure()
    measure.step(stretched(answer), answer.target, normalize=False)
    return float(measure.get_results()["sm"])


def e_measure(answer: FullSizeAnswer) -> float:
    """Enhanced alignment, mean over the 256 thresholds, from 0 to 1.

    Where there is no foreground it is the share of pixels that are left, and where there is nothing else the share that
    are marked. Its formula divides by one pixel less than there are, and may so come to a little more than 1 on tiny
    pictures; here 1 is the most.
    """
    measure = Emeasure()
    measure.step(stretched(answer), answer.target, normalize=False)
    return min(float(measure.get_results()["em"]["curve"].mean()), 1.0)


def weighted_f(answer: FullSizeAnswer) -> float:
    """F-measure (beta 1) in which errors weigh by where they are, from 0 to 1; 0 where there is no foreground."""
    measure = WeightedFmeasure()
    measure.step(stretched(answer), answer.target, normalize=False)
    return float(measure.get_results()["wfm"])


def stretched_mae(answer: FullSizeAnswer) -> float:
    """Mean absolute difference of the stretched map and the target; `counts.mae` is that of the probabilities."""
    pred, target = stretched(answer), answer.target
    if answer.counted is not None:
        pred, target = pred[answer.counted][None], target[answer.counted][None]
    if not target.size:
        return 0.0
    measure = MAE()
    measure.step(pred, target, normalize=False)
    return float(measure.get_results()["mae"])


def stretched(answer: FullSizeAnswer) -> np.ndarray:
    """The map that is scored, ``(H, W)`` float64 from 0 to 1.

    In the arithmetic of ``pysodmetrics``, so that without void it is the very map that its ``normalize=True`` makes. A
    picture of one value stays as it is.
    """
    pred = np.round(answer.probability * 255).astype(np.uint8) / 255
    known = pred if answer.counted is None else pred[answer.counted]
    if known.size and known.max() != known.min():
        pred = (pred - known.min()) / (known.max() - known.min())
    return pred if answer.counted is None else np.where(answer.counted, pred, 0.0)


class _Smeasure(Smeasure):
    """A quarter of the picture without pixels weighs nothing.

    Where the middle of the foreground rounds to the last row or column, there is one; ``pysodmetrics`` gives NaN for it
    (1.6.2), and earlier versions 0 for the whole picture.
    """

    def ssim(self, pred: np.ndarray, gt: np.ndarray) -> float:
        """Similarity of a quarter, ``(h, w)`` each."""
        return super().ssim(pred, gt) if pred.size else 0.0
