"""What a user is told about pictures that no prompt is given for."""

import logging
from collections.abc import Collection
from pathlib import Path

from ..config.commands import PredictConfig
from ..config.registry import TASKS
from ..errors import ConfigError, amount
from ..segmenter import SamSegmenter

log = logging.getLogger(__name__)

GIVEN = {"box": "boxes", "points": "points", "mask": "masks"}
"""Kinds of prompt that a user gives, several of each in words."""


def require_prompts(
    config: PredictConfig, segmenter: SamSegmenter, pictures: Collection[Path], prompted: Collection[Path]
) -> None:
    """Say how many pictures have no prompt, and what that means for an adapter that has always had one.

    Args:
        config: Of the command.
        segmenter: What predicts.
        pictures: All of them.
        prompted: Those that prompts are given for.

    Raises:
        ConfigError: If the adapter finds objects, and has never been trained to find them without prompts.
    """
    bare = [path for path in dict.fromkeys(pictures) if path not in prompted]
    if not bare:
        return
    if config.prompts:
        log.warning(
            "prompts: '%s' names %s of %d; the others are answered without a prompt.",
            config.prompts,
            amount(len(set(pictures)) - len(bare), "picture"),
            len(set(pictures)),
        )
    if (segmenter.adapter is None and segmenter.learned_prompts is None) or segmenter.prompt not in GIVEN:
        return
    kind = GIVEN[segmenter.prompt]
    without = f"the adapter was trained with {kind} alone, and {amount(len(bare), 'picture')} of {len(pictures)} "
    without += "would be answered without a prompt"
    if TASKS[segmenter.task].objects and not config.grid:
        raise ConfigError(
            f"prompts: {without}, which it has not learned. Give --prompts FILE with {kind} for each picture, or "
            "--grid N to ask at points everywhere, or train an adapter with '--prompt mixed'."
        )
    if not config.grid:
        log.warning(
            "prompts: %s, which it has not learned. Give --prompts FILE with %s for each picture, or train an adapter "
            "with '--prompt mixed'.",
            without,
            kind,
        )
