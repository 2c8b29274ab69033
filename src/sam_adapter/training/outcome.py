"""What a run's last lines say: how the kept adapter stands to the frozen base."""

from collections.abc import Mapping

from ..config.choices import ASKED_KINDS, AskedKind

OF_KIND = {"box": "with a box", "points": "with points", "none": "without a prompt", "mask": "with a mask"}


def comparison(scores: Mapping[str, float], frozen: Mapping[str, float]) -> str:
    """IoU of each kind of prompt, from the frozen base to the adapter: ``IoU box .341 → .412, none .040 → .380``.

    Args:
        scores: Of the adapter, from `OverlapMetrics.compute`.
        frozen: Of the base on the same images; what it lacks is left out.
    """
    parts = [f"{kind} {_change(scores, frozen, f'iou_{kind}')}" for kind in ASKED_KINDS if f"iou_{kind}" in scores]
    told = f"IoU {', '.join(parts)}" if parts else ""
    if "miou" in scores:
        told = f"mIoU of class maps {_change(scores, frozen, 'miou')}; {told}"
    if "empty_correct" in scores:
        empty = f"empty pictures left empty {_change(scores, frozen, 'empty_correct')}"
        told = f"{told}; {empty}" if told else empty
    return told


def worse_than_frozen(scores: Mapping[str, float], frozen: Mapping[str, float]) -> list[str]:
    """A sentence for each kind of prompt, and for class maps, in which the adapter is worse than the frozen base."""
    told = []
    if scores.get("miou", 1.0) < frozen.get("miou", 0.0):
        told.append(
            "The class maps are worse than those of the frozen base: validation mIoU "
            f"{_change(scores, frozen, 'miou')}. Try a lower --lr, fewer --epochs, --ema 0.99 or more pictures."
        )
    return told + [
        f"{OF_KIND[kind].capitalize()} the adapter is worse than the frozen base: validation IoU "
        f"{_change(scores, frozen, f'iou_{kind}')}. {_advice(kind)}"
        for kind in ASKED_KINDS
        if scores.get(f"iou_{kind}", 1.0) < frozen.get(f"iou_{kind}", 0.0)
    ]


def _advice(kind: AskedKind) -> str:
    own = "" if kind == "none" else f", or ask the base itself {OF_KIND[kind]}"
    return f"Try a lower --lr, fewer --epochs, --ema 0.99, --monitor iou_{kind}, more pictures{own}."


def _change(scores: Mapping[str, float], frozen: Mapping[str, float], name: str) -> str:
    before = f"{_number(frozen[name])} → " if name in frozen else ""
    return f"{before}{_number(scores[name])}"


def _number(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")
