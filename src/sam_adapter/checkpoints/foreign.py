"""The existing implementations' adapter files → our adapter folder.

Two are known: full state dicts of the paper's authors, and the partial files of the second public implementation
(with or without the ``module.`` of its distributed runs).
"""

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ..backbones import Backbone, load_backbone
from ..backbones import meta_names as meta
from ..backbones.sam import SamBackbone
from ..config.commands import ConvertConfig
from ..errors import CheckpointError
from ..methods.base import MethodSettings
from ..methods.sam_adapter.module import AdapterSettings
from ..preprocessing import Preprocessing
from ..segmenter import SamSegmenter
from ..system.writing import remove_leftovers, require_writable

_PAPER = "image_encoder.prompt_generator."
_SECOND = "image_encoder.task_adapter_"
_SAM = "backbone.sam."
_CARRIED = {
    "pe_layer.positional_encoding_gaussian_matrix": f"{_SAM}shared_image_embedding.positional_embedding",
    "no_mask_embed.weight": f"{_SAM}prompt_encoder.no_mask_embed.weight",
}
"""Tensors that the paper's authors keep outside SAM's prompt encoder, where loading SAM's weights misses them: random
in every run, frozen, and part of what their decoder was trained with."""


def import_adapter(base: str, adapter: Path) -> SamSegmenter:
    """Read a foreign adapter onto its base.

    Args:
        base: The SAM that it was trained on, as in `load_backbone`.
        adapter: The file.

    Returns:
        A segmenter that gives the foreign implementation's outputs.

    Raises:
        CheckpointError: If the file is of neither implementation, or belongs to another base.
    """
    if not adapter.is_file():
        raise CheckpointError(f"adapter: there is no file '{adapter}'.")
    state = {name.removeprefix("module."): tensor for name, tensor in meta.read_tensors(str(adapter)).items()}
    try:
        if any(name.startswith(_PAPER) for name in state):
            return _from_paper(_sam_of(base, _image_size(state)), state, str(adapter))
        if any(name.startswith(_SECOND) for name in state):
            return _from_second(_sam_of(base), state)
    except KeyError as error:
        raise CheckpointError(f"{adapter}: incomplete, it has no tensor {error}.") from error
    raise CheckpointError(
        f"{adapter}: expected tensors named '{_PAPER}...' (the paper's authors) or '{_SECOND}...' (the second "
        f"implementation), found {', '.join(sorted(state)[:3]) or 'none'}."
    )


def _sam_of(base: str, image_size: int | None = None) -> Backbone:
    """The base, which both implementations know as a SAM alone."""
    backbone = load_backbone(base, image_size=image_size)
    if backbone.family != SamBackbone.family:
        raise CheckpointError(
            f"base: both implementations adapt SAM, and '{base}' is of family {backbone.family}. Give the SAM that the "
            "adapter was trained on."
        )
    return backbone


def convert(config: ConvertConfig) -> SamSegmenter:
    """Import a foreign adapter and write it as an adapter folder."""
    from .adapter import save_adapter

    require_writable(config.output)
    remove_leftovers(config.output)
    segmenter = import_adapter(config.base, config.adapter)
    save_adapter(config.output, segmenter)
    return segmenter


def _from_second(backbone: Backbone, state: Mapping[str, Tensor]) -> SamSegmenter:
    up = state["image_encoder.task_adapter_up.weight"]  # (C, R)
    high, embedding = "image_encoder.HFC_tune.", "image_encoder.patch_embed_tune."
    down = state["image_encoder.task_adapter_blocks.0.down_projection.weight"]  # (R, T)
    settings = AdapterSettings(
        tune_dim=down.shape[1],
        hidden_dim=up.shape[1],
        embedding_from="after_position",
        neck_prompt=True,
        use_high_frequency=f"{high}weight" in state,
        use_embedding=f"{embedding}weight" in state,
    )
    named = {}
    for name, tensor in state.items():
        name = name.replace(high, "adapter.high_frequency_tune.").replace(embedding, "adapter.embedding_tune.")
        name = re.sub(r"image_encoder\.task_adapter_blocks\.(\d+)\.down_projection\.", r"adapter.down.\1.", name)
        named[name.replace("image_encoder.task_adapter_up.", "adapter.shared_up.")] = tensor
    ours = _sam_names(named)
    method = MethodSettings(name="sam_adapter", parts=("mask_decoder",), adapter=settings).carrying_untrained(
        ours, backbone
    )
    segmenter = SamSegmenter(backbone, method, Preprocessing(image_size=backbone.image_size), prompt="box")
    segmenter.load_trained_state(ours)
    return segmenter


def _from_paper(backbone: Backbone, state: Mapping[str, Tensor], source: str) -> SamSegmenter:
    _require_same_encoder(backbone, state, source)
    up = state[f"{_PAPER}shared_mlp.weight"]  # (C, R)
    settings = AdapterSettings(
        tune_dim=state[f"{_PAPER}embedding_generator.weight"].shape[0],
        hidden_dim=up.shape[1],
        embedding_from="before_position",
        neck_prompt=False,
        adapter_init="paper",
        misread_embedding=True,
    )
    named = {}
    for name, tensor in state.items():
        if name in _CARRIED:
            named[_CARRIED[name]] = tensor
        elif name.startswith("mask_decoder."):
            named[name] = tensor
        elif name.startswith(_PAPER):
            own = name.removeprefix(_PAPER).replace("embedding_generator.", "embedding_tune.")
            own = own.replace("prompt_generator.proj.", "high_frequency_tune.").replace("shared_mlp.", "shared_up.")
            own = re.sub(r"lightweight_mlp_(\d+)\.0\.", r"down.\1.", own)
            # The convolution's weights (T, 3, P, P) in the order of our flattened patches.
            named[f"adapter.{own}"] = tensor.flatten(1) if tensor.ndim == 4 else tensor
    ours = _sam_names(named)
    method = MethodSettings(
        name="sam_adapter", parts=("mask_decoder",), adapter=settings, carried=tuple(_CARRIED.values())
    ).carrying_untrained(ours, backbone)
    preprocessing = Preprocessing(image_size=backbone.image_size, resize="squash")
    segmenter = SamSegmenter(backbone, method, preprocessing, prompt="none")
    segmenter.load_trained_state(ours)
    return segmenter


def _sam_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Meta's names of SAM's tensors → ours; the others pass."""
    ours = {name: tensor for name, tensor in state.items() if name.startswith(("adapter.", _SAM))}
    theirs = meta.from_meta_names({name: tensor for name, tensor in state.items() if name not in ours})
    return {**ours, **{f"{_SAM}{name}": tensor for name, tensor in theirs.items()}}


def _image_size(state: Mapping[str, Tensor]) -> int:
    patch = state["image_encoder.patch_embed.proj.weight"].shape[-1]
    return state["image_encoder.pos_embed"].shape[1] * patch


def _require_same_encoder(backbone: Backbone, state: Mapping[str, Tensor], source: str) -> None:
    """The encoder in a full checkpoint was frozen, so it must be the base's."""
    theirs = {
        name: tensor
        for name, tensor in state.items()
        if name.startswith("image_encoder.") and not name.startswith(_PAPER)
    }
    own = {name.removeprefix("sam."): tensor for name, tensor in backbone.state_dict().items()}
    for name, tensor in meta.from_meta_names(theirs).items():
        if name not in own or own[name].shape != tensor.shape or not own[name].equal(tensor.float()):
            raise CheckpointError(
                f"{source}: its '{name}' is not that of the base '{backbone.identity.name}' "
                f"(SHA-256 {backbone.identity.sha256}). Give the SAM it was trained on as --base."
            )
