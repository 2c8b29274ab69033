"""SAM-HQ (Ke et al., 2023, *Segment Anything in High Quality*) from `transformers`, with a mended decoder.

It is SAM with one more token in its mask decoder. That token's mask reads the image embedding together with the output
of the encoder's first block with global attention; the answer is SAM's mask plus this one.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

from torch import Tensor
from transformers import (
    SamHQConfig,
    SamHQMaskDecoderConfig,
    SamHQPromptEncoderConfig,
    SamHQVisionConfig,
    SamModel,
)

from ..batch import EncodedImage, Output, Prompt
from . import meta_names
from .agreement import Agreement
from .base import BaseIdentity, BlockPrompts
from .family import Family, tensors_sha256
from .model_files import errors_of
from .sam import IMAGE_EMBEDDINGS, SamBackbone
from .sam_files import assembled_sam, resize_sam, sam_from_folder
from .sam_hq_decoder import MendedMaskDecoder, MendedSamHQModel

KIND = "SAM-HQ"
"""What errors call the model."""
EARLY_FEATURES = "early_features"
"""Output of the encoder's first block with global attention: ``(B, S/P, S/P, C)``."""
FUSED_FEATURES = "fused_features"
"""What the mask of high quality takes from the image: ``(B, D/8, 4S/P, 4S/P)``."""

_RENAMED = (
    (r"hf_token\.", "hq_token."),
    (r"hf_mlp\.", "hq_mask_mlp."),
    (r"compress_vit_feat\.0\.", "compress_vit_conv1."),
    (r"compress_vit_feat\.1\.", "compress_vit_norm."),
    (r"compress_vit_feat\.3\.", "compress_vit_conv2."),
    (r"embedding_encoder\.0\.", "encoder_conv1."),
    (r"embedding_encoder\.1\.", "encoder_norm."),
    (r"embedding_encoder\.3\.", "encoder_conv2."),
    (r"embedding_maskfeature\.0\.", "mask_conv1."),
    (r"embedding_maskfeature\.1\.", "mask_norm."),
    (r"embedding_maskfeature\.3\.", "mask_conv2."),
)
"""How names in the mask decoder begin: the authors' and the library's."""


class SamHqBackbone(SamBackbone):
    """A SAM-HQ; see `SamBackbone`.

    All of the mask decoder is trained where SAM's is: the HQ token, its MLP and the convolutions of both feature maps
    are as much part of the answer as SAM's own mask. The authors train these new parts alone and keep SAM's decoder; an
    adapter changes what that decoder reads, so here it follows.

    Args:
        sam: The model.
        identity: Which base it is.
        hq_token_only: Whether answers leave SAM's mask out, as the authors' predictor can.
    """

    family = "sam_hq"
    multimask_outputs = 1
    preparing = tuple(
        f"sam.mask_decoder.{features}_{module}."
        for features in ("encoder", "compress_vit")
        for module in ("conv1", "norm", "conv2")
    )

    def __init__(self, sam: MendedSamHQModel, identity: BaseIdentity, *, hq_token_only: bool = False) -> None:
        super().__init__(cast(SamModel, sam), identity)
        self.hq_token_only = hq_token_only
        vision: Any = sam.config.vision_config
        self.first_global = min(vision.global_attn_indexes)
        grid = self.image_size // self.patch_size
        fused = sam.mask_decoder.hidden_size // 8
        self.prepared_shapes = {**self.encoded_shapes, FUSED_FEATURES: (fused, 4 * grid, 4 * grid)}
        self.encoded_shapes = {**self.encoded_shapes, EARLY_FEATURES: (grid, grid, vision.hidden_size)}

    def encode(self, pixel_values: Tensor, block_prompts: BlockPrompts | None = None) -> EncodedImage:
        """See `Backbone.encode`; `IMAGE_EMBEDDINGS` and `EARLY_FEATURES`."""
        hidden_states, early = self.run_blocks(pixel_values, block_prompts, kept=self.first_global)
        assert early is not None
        return EncodedImage({IMAGE_EMBEDDINGS: self.sam.vision_encoder.neck(hidden_states), EARLY_FEATURES: early})

    def prepare(self, encoded: EncodedImage) -> EncodedImage:
        """See `Backbone.prepare`; the two feature maps become one."""
        if FUSED_FEATURES in encoded.tensors:
            return encoded
        embeddings = encoded[IMAGE_EMBEDDINGS]
        fused = self._decoder.fused_features(embeddings, encoded[EARLY_FEATURES])
        return EncodedImage({IMAGE_EMBEDDINGS: embeddings, FUSED_FEATURES: fused})

    def decode_together(
        self, prepared: EncodedImage, prompts: Sequence[Prompt], sparse_tokens: Tensor | None, *, multimask: bool
    ) -> Output:
        """See `Backbone.decode_together`; with several masks in mind, the one of best predicted quality is given."""
        inputs: Any = self.decoder_inputs(prepared[IMAGE_EMBEDDINGS], prompts, sparse_tokens)
        logits, scores = self._decoder(
            **inputs,
            multimask_output=multimask,
            hq_token_only=self.hq_token_only,
            fused_features=prepared[FUSED_FEATURES],
        )
        return Output(logits[:, 0], scores[:, 0])

    @property
    def _decoder(self) -> MendedMaskDecoder:
        decoder = self.sam.mask_decoder
        assert isinstance(decoder, MendedMaskDecoder)
        return decoder


class SamHqFamily(Family):
    """SAM-HQ ViT-B, L and H."""

    name = "sam_hq"
    model_type = "sam_hq"
    aliases: ClassVar = {
        "sam_hq_b": "syscv-community/sam-hq-vit-base",
        "sam_hq_l": "syscv-community/sam-hq-vit-large",
        "sam_hq_h": "syscv-community/sam-hq-vit-huge",
    }

    prepares = True

    def from_folder(self, folder: Path) -> MendedSamHQModel:
        """See `Family.from_folder`."""
        return sam_from_folder(
            folder, config_type=SamHQConfig, model_type=MendedSamHQModel, kind=KIND, more=_require_early_features
        )

    def is_own(self, names: Iterable[str]) -> bool:
        """SAM-HQ's authors call its token 'hf_token'."""
        return "mask_decoder.hf_token.weight" in set(names)

    def from_tensors(self, state: dict[str, Tensor], source: str) -> MendedSamHQModel:
        """See `Family.from_tensors`."""
        with errors_of(source, KIND):
            named = {_renamed(name): tensor for name, tensor in state.items()}
            own = meta_names.from_meta_names(named)
            return assembled_sam(MendedSamHQModel, _inferred_config(state), own, kind=KIND)

    def backbone(self, model: MendedSamHQModel, name: str, *, image_size: int | None) -> SamHqBackbone:
        """See `Family.backbone`."""
        identity = BaseIdentity(name, tensors_sha256(model))
        vision: Any = model.config.vision_config
        if image_size is not None and image_size != vision.image_size:
            model = resize_sam(model, image_size, kind=KIND)
        return SamHqBackbone(model, identity)


def _require_early_features(own: Agreement) -> None:
    """The decoder reads the first block with global attention."""
    global_blocks = "vision_config.global_attn_indexes"
    own.require(bool(own[global_blocks]), global_blocks, "at least one block")
    own.equal("mask_decoder_config.vit_dim", "vision_config.hidden_size")


def _renamed(name: str) -> str:
    for pattern, replacement in _RENAMED:
        name = re.sub(rf"^mask_decoder\.{pattern}", f"mask_decoder.{replacement}", name)
    return name


def _inferred_config(state: Mapping[str, Tensor]) -> SamHQConfig:
    vision, prompt, decoder = meta_names.inferred(state)
    width = state["mask_decoder.compress_vit_feat.0.weight"].shape[0]
    return SamHQConfig(
        vision_config=SamHQVisionConfig(**vision),
        prompt_encoder_config=SamHQPromptEncoderConfig(**prompt),
        mask_decoder_config=SamHQMaskDecoderConfig(**decoder, vit_dim=width),
    )
