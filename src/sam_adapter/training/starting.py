"""Starting a run from the weights of an adapter, on the same base and with the same method."""

from pathlib import Path
from typing import Any

from torch import Tensor

from ..checkpoints.adapter import described_classes, read_adapter_config, read_adapter_weights
from ..errors import CheckpointError
from ..methods.base import BACKBONE, MethodSettings, method_named
from ..segmenter import SamSegmenter


def starting_from(folder: Path, segmenter: SamSegmenter) -> tuple[SamSegmenter, dict[str, Tensor]]:
    """Check that a run may start from an adapter.

    Args:
        folder: The adapter.
        segmenter: As the run is configured; its weights are left as they are.

    Returns:
        The segmenter, able to hold all of the adapter's tensors, and the weights, for `load_trained_state`.

    Raises:
        CheckpointError: If the adapter is damaged, or has another base or method than the run.
    """
    description = read_adapter_config(folder)
    own, theirs = segmenter.backbone.identity, description.base
    if own.sha256 != theirs.sha256:
        raise CheckpointError(
            f"start_from: {folder} was trained on the base '{theirs.name}' with SHA-256 {theirs.sha256}, but --model "
            f"'{own.name}' has {own.sha256}. Start from an adapter of this base, or give that base."
        )
    state = read_adapter_weights(folder)
    method = description.method_settings.carrying_untrained(state, segmenter.backbone)
    _require_same_method(folder, method, segmenter.method)
    if description.task != segmenter.task:
        raise CheckpointError(
            f"start_from: {folder} was trained for the task '{description.task}', the run has '{segmenter.task}'. "
            "Start from an adapter of the same task."
        )
    _require_same_classes(folder, described_classes(description), segmenter.class_names)
    if segmenter.adapter is not None:
        segmenter.adapter.remove()  # the base gets it anew
    begun = SamSegmenter(
        segmenter.backbone,
        method,
        segmenter.preprocessing,
        task=segmenter.task,
        prompt=segmenter.prompt,
        class_names=segmenter.class_names,
        class_tokens=description.class_tokens or segmenter.class_tokens,
        multimask=segmenter.multimask,
    )
    if begun.multimask:  # an adapter that was trained without has them as the base has
        several = tuple(f"{BACKBONE}{name}" for name in begun.backbone.several_masks)
        state = {name: one for name, one in begun.trained_state().items() if name.startswith(several)} | state
    size, own_size = description.preprocessing.image_size, segmenter.preprocessing.image_size
    try:
        begun.require_fitting(state)
    except CheckpointError as error:
        if size == own_size or "image_encoder" not in method.parts:
            raise
        raise CheckpointError(
            f"start_from: {folder} was trained at image size {size}, the run has {own_size}, and an image encoder that "
            f"was trained fits its own size alone. Give '--image-size {size}'."
        ) from error
    return begun, state


def _require_same_method(folder: Path, theirs: MethodSettings, own: MethodSettings) -> None:
    ours, expected = _compared(own), _compared(theirs)
    if ours["method"] != expected["method"]:
        raise CheckpointError(
            f"start_from: {folder} was trained with '--method {expected['method']}', and the run has "
            f"'--method {ours['method']}'. Give the run the same."
        )
    different = [
        f"{name} is {expected.get(name)} there and {ours.get(name)} here"
        for name in ours | expected
        if ours.get(name) != expected.get(name)
    ]
    if different:
        raise CheckpointError(
            f"start_from: {folder} was trained with another method: {'; '.join(different)}. Give the run the same."
        )


def _require_same_classes(folder: Path, theirs: tuple[str, ...], own: tuple[str, ...]) -> None:
    if own != theirs:
        raise CheckpointError(
            f"start_from: {folder} was trained on the classes {', '.join(theirs) or 'none'}, the run has "
            f"{', '.join(own) or 'none'}. Name the same classes in the same order in --classes."
        )


def _compared(method: MethodSettings) -> dict[str, Any]:
    """The method's name, its parts, and the settings that `Method.compared` gives."""
    own = method_named(method.name).compared(method.adapter)
    return {"method": method.name, "parts": sorted(method.parts), **own}
