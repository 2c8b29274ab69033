"""Meta's SAM 2 and SAM 2.1 checkpoints: their key names, and what is theirs but not the image model's."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from .meta_names import PARTS_OF_EVERY_SAM

OWN_PARTS = ("image_encoder.trunk.blocks.", "sam_mask_decoder.", "sam_prompt_encoder.")
"""How names of tensors begin that each of the checkpoints has, and no other family's."""
OF_VIDEO = (
    "memory_attention.",
    "memory_encoder.",
    "mask_downsample.",
    "maskmem_tpos_enc",
    "no_mem_pos_enc",
    "no_obj_ptr",
    "no_obj_embed_spatial",
    "obj_ptr_proj.",
    "obj_ptr_tpos_proj.",
)
"""How names of tensors begin that remember earlier frames; an image has none."""

_RENAMED = (
    (r"^image_encoder\.trunk\.", "vision_encoder.backbone."),
    (r"^(vision_encoder\.backbone\.patch_embed)\.proj\.", r"\1.projection."),
    (r"^(vision_encoder\.backbone\.blocks\.\d+)\.norm", r"\1.layer_norm"),
    (r"^image_encoder\.neck\.convs\.(\d+)\.conv\.", r"vision_encoder.neck.convs.\1."),
    (r"^no_mem_embed$", "no_memory_embedding"),
    (r"^sam_prompt_encoder\.", "prompt_encoder."),
    (r"^(prompt_encoder)\.pe_layer\.positional_encoding_gaussian_matrix$", r"\1.shared_embedding.positional_embedding"),
    (r"^sam_mask_decoder\.", "mask_decoder."),
    *PARTS_OF_EVERY_SAM,
    (r"^(mask_decoder\.transformer\..+)\.out_proj\.", r"\1.o_proj."),
)
_LAYER = re.compile(
    r"(vision_encoder\.backbone\.blocks\.\d+\.mlp|mask_decoder\..+)\.layers\.(\d+)\.(weight|bias)$",
)
"""A linear layer of an MLP, whose first and last layers have names of their own in `transformers`."""
_POINTS = re.compile(r"sam_prompt_encoder\.point_embeddings\.(\d+)\.weight$")


def from_sam2_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The image model's tensors under Meta's names → all of `transformers.Sam2Model`'s.

    Names that Meta's checkpoints do not have pass unchanged.
    """
    held = {name: tensor for name, tensor in state.items() if not name.startswith(OF_VIDEO)}
    points = {int(match[1]): held.pop(name) for name in list(held) if (match := _POINTS.match(name))}
    named = {_replaced(name): tensor for name, tensor in held.items()}
    last: dict[str, int] = {}
    for name in named:
        if match := _LAYER.match(name):
            last[match[1]] = max(last.get(match[1], 0), int(match[2]))
    ours = {_of_mlp(name, last): tensor for name, tensor in named.items()}
    if points:
        ours["prompt_encoder.point_embed.weight"] = torch.cat([points[kind] for kind in sorted(points)])
    table = ours.get("prompt_encoder.shared_embedding.positional_embedding")
    if table is not None:
        ours["shared_image_embedding.positional_embedding"] = table
    return ours


def _replaced(name: str) -> str:
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    return name


def _of_mlp(name: str, last: Mapping[str, int]) -> str:
    match = _LAYER.match(name)
    if match is None:
        return name
    layer = int(match[2])
    place = "proj_in" if layer == 0 else "proj_out" if layer == last[match[1]] else f"layers.{layer - 1}"
    return f"{match[1]}.{place}.{match[3]}"
