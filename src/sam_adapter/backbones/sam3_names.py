"""Meta's SAM 3 and SAM 3.1 checkpoints: their key names, and what of them belongs to the interactive image model.

A checkpoint holds a detector, which finds objects by words, and a tracker, which is asked by points and boxes and
follows objects through videos; both read one trunk, each through convolutions of its own. Here only the trunk, the
tracker's convolutions and its prompt encoder and mask decoder are taken.
"""

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from ..errors import CheckpointError
from . import meta_names

TRUNK = "vision_backbone.trunk."
"""What stands in the name of each tensor of the trunk, and of no other family's."""
_CONVOLUTIONS = ("interactive_convs", "sam2_convs")
_PROMPT_ENCODERS = ("interactive_sam_prompt_encoder", "sam_prompt_encoder")
_MASK_DECODERS = ("interactive_sam_mask_decoder", "sam_mask_decoder")
_NO_MEMORY = ("interactivity_no_mem_embed", "no_mem_embed")
"""SAM 3.1 has parts of its own for single images, named first; SAM 3 uses the tracker's."""
NECK = "neck."

_RENAMED = (
    (r"^trunk\.patch_embed\.proj\.", "vision_encoder.backbone.embeddings.patch_embeddings.projection."),
    (r"^trunk\.pos_embed$", "vision_encoder.backbone.embeddings.position_embeddings"),
    (r"^trunk\.ln_pre\.", "vision_encoder.backbone.layer_norm."),
    (r"^trunk\.blocks\.(\d+)\.norm", r"vision_encoder.backbone.layers.\1.layer_norm"),
    (r"^trunk\.blocks\.(\d+)\.attn\.proj\.", r"vision_encoder.backbone.layers.\1.attention.o_proj."),
    (r"^trunk\.blocks\.(\d+)\.attn\.", r"vision_encoder.backbone.layers.\1.attention."),
    (r"^trunk\.blocks\.", "vision_encoder.backbone.layers."),
    (r"^neck\.(\d+)\.conv_1x1\.", r"vision_encoder.neck.fpn_layers.\1.proj1."),
    (r"^neck\.(\d+)\.conv_3x3\.", r"vision_encoder.neck.fpn_layers.\1.proj2."),
    (r"^neck\.(\d+)\.dconv_2x2(?:_0)?\.", r"vision_encoder.neck.fpn_layers.\1.scale_layers.0."),
    (r"^neck\.(\d+)\.dconv_2x2_1\.", r"vision_encoder.neck.fpn_layers.\1.scale_layers.2."),
    (r"^no_mem_embed$", "no_memory_embedding"),
    (r"^(mask_decoder\.transformer\..+)\.out_proj\.", r"\1.o_proj."),
    (r"^(mask_decoder\.transformer\.layers\.\d+\.mlp)\.lin1\.", r"\1.proj_in."),
    (r"^(mask_decoder\.transformer\.layers\.\d+\.mlp)\.lin2\.", r"\1.proj_out."),
)
"""From the names of `image_parts`, the prompt encoder's and decoder's in SAM's, to the library's."""


def is_sam3(names: Iterable[str]) -> bool:
    """Whether some of these names are of a SAM 3's trunk."""
    return any(TRUNK in name for name in names)


def image_parts(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the interactive image model alone, under short names whatever stands before Meta's.

    Returns:
        ``trunk.``, ``neck.``, ``prompt_encoder.``, ``mask_decoder.`` with Meta's names behind them, and
        ``no_mem_embed``.

    Raises:
        CheckpointError: If a part is not there.
    """
    parts = {
        "trunk.": (TRUNK.removesuffix("."),),
        NECK: tuple(f"vision_backbone.{one}" for one in _CONVOLUTIONS),
        "prompt_encoder.": _PROMPT_ENCODERS,
        "mask_decoder.": _MASK_DECODERS,
        "no_mem_embed": _NO_MEMORY,
    }
    found: dict[str, Tensor] = {}
    for short, theirs in parts.items():
        for one in theirs:
            end = "" if short == "no_mem_embed" else r"\.(.+)"
            pattern = re.compile(rf"(?:.+\.)?{re.escape(one)}{end}$")
            held = {short + "".join(match.groups()): name for name in state if (match := pattern.match(name))}
            if held:
                found.update({name: state[own] for name, own in held.items()})
                break
        else:
            raise CheckpointError(
                f"it has no tensors named {' or '.join(repr(one) for one in theirs)}, a part of SAM 3 that answers to "
                "points and boxes. Expected Meta's sam3.pt, with the detector and the tracker."
            )
    return found


def from_sam3_names(parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `image_parts` gave → all tensors of `transformers.Sam3TrackerModel`.

    Names that Meta's checkpoints do not have pass unchanged.
    """
    ours: dict[str, Tensor] = {}
    for name, tensor in meta_names.from_meta_names(parts).items():
        for pattern, replacement in _RENAMED:
            name = re.sub(pattern, replacement, name)
        if name.endswith((".attention.qkv.weight", ".attention.qkv.bias")):
            for own, part in zip("qkv", tensor.chunk(3), strict=True):
                ours[name.replace(".qkv.", f".{own}_proj.")] = part
        elif not name.endswith(".attention.freqs_cis"):  # computed from the configuration
            ours[name] = tensor
    positions = "vision_encoder.backbone.embeddings.position_embeddings"
    if positions in ours:
        ours[positions] = without_class_token(ours[positions])
    points = sorted(name for name in ours if re.fullmatch(r"prompt_encoder\.point_embed\.\d+\.weight", name))
    if points:
        ours["prompt_encoder.point_embed.weight"] = torch.cat([ours.pop(name) for name in points])
    table = ours.get("shared_image_embedding.positional_embedding")
    if table is not None:
        ours["prompt_encoder.shared_embedding.positional_embedding"] = table
    return ours


def without_class_token(positions: Tensor) -> Tensor:
    """A table of positions ``(1, n*n, C)`` from one that may begin with the class token's."""
    square = int(positions.shape[1] ** 0.5) ** 2 == positions.shape[1]
    return positions if square else positions[:, 1:]
