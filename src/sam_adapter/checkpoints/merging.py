"""An adapter folded into its base: a model folder that needs no adapter, and gives the answers of both."""

import logging
import os

from ..backbones import load_backbone
from ..backbones.base import BaseIdentity
from ..config.commands import MergeConfig
from ..errors import ConfigError
from ..segmenter import SamSegmenter
from ..system.writing import remove_leftovers, require_writable, temporary_folder, writing_to
from .adapter import load

log = logging.getLogger(__name__)


def merge(config: MergeConfig) -> BaseIdentity:
    """Write the base of an adapter with the weights that answer as both do.

    Args:
        config: The adapter and the new folder.

    Returns:
        Which base model it is now.

    Raises:
        CheckpointError: If the adapter cannot be loaded.
        ConfigError: If no base can stand for it, or the folder holds something.
    """
    output = config.output
    require_writable(output)
    remove_leftovers(output)
    if output.exists() and any(output.iterdir()):
        raise ConfigError(f"output: '{output}' holds files already. Give a new folder.")
    segmenter = load(config.adapter, model=config.model)
    if segmenter.learned_prompts is not None:
        raise ConfigError(
            f"adapter: {config.adapter} asks with learned prompts of the task '{segmenter.task}', which no base model "
            "holds. Use the adapter as it is (--adapter)."
        )
    if segmenter.adapter is not None:
        try:
            segmenter.adapter.fold()
        except ConfigError as error:
            raise ConfigError(f"adapter: {config.adapter} is of method {segmenter.method.name}: {error}") from error
    for sentence in _left_behind(segmenter):
        log.warning("Warning: %s", sentence)
    with temporary_folder(output) as folder, writing_to(output):
        segmenter.backbone.save(folder)
        for path in sorted(folder.iterdir(), key=lambda path: path.name == "config.json"):  # last: it makes it a model
            os.replace(path, output / path.name)
    return load_backbone(str(output)).identity


def _left_behind(segmenter: SamSegmenter) -> list[str]:
    """What an adapter says of pictures that a base model does not, where it changes answers."""
    sentences, tiling = [], segmenter.tiling
    own, base = segmenter.preprocessing.resize, segmenter.backbone.preprocessing.resize
    if own != base:
        words = {"squash": "squashed to the encoder's square", "pad": "padded"}
        sentences.append(
            f"the adapter has pictures {words[own]}, and a base model of family {segmenter.backbone.family} has them "
            f"{words[base]}, so that answers about pictures that are not square differ."
        )
    if segmenter.reading is not None and segmenter.reading.brightness is not None:
        sentences.append(
            "the adapter has a scale of brightness for pictures of more than 8 bits, and a base model takes it from "
            "the pictures that it is given, so that answers about such pictures differ."
        )
    if tiling is not None:
        sentences.append(
            f"the adapter has pictures in tiles; give '--tile {tiling.tile} --overlap {tiling.overlap}' with the model."
        )
    return sentences
