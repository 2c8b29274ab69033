"""SAM (Kirillov et al., 2023) from `transformers`: its encoder's forward with prompts, and its decoder's."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import SamModel

from ..batch import EncodedImage, Output, Prompt
from ..config.registry import Part
from ..kernels.encoder_block import block_runner
from ..preprocessing import Preprocessing
from ..system.machine import choose_attention
from .base import Backbone, BaseIdentity, BlockPrompts, BlockShape, Family, tensors_sha256
from .sam_files import resize_sam, sam_from_folder, sam_from_meta

IMAGE_EMBEDDINGS = "image_embeddings"
"""What SAM's encoder gives: ``(B, D, S/P, S/P)``."""
SAM_PARTS = ("image_encoder.", "mask_decoder.")
"""How names of tensors begin that each of Meta's checkpoints has."""


class SamBackbone(Backbone):
    """A SAM whose encoder takes block prompts and whose decoder takes any mixture of prompts.

    Args:
        sam: The model.
        identity: Which base it is.
    """

    family = "sam"
    constants = ("sam.shared_image_embedding.",)  # random Fourier features
    quality = ("sam.mask_decoder.iou_prediction_head.",)
    untrained = (
        # The predicted quality, the three masks beside the one that is trained, and what reads an earlier mask.
        *quality,
        *(f"sam.mask_decoder.output_hypernetworks_mlps.{mask}." for mask in (1, 2, 3)),
        "sam.prompt_encoder.mask_embed.",
    )

    def __init__(self, sam: SamModel, identity: BaseIdentity) -> None:
        super().__init__(identity)
        self.sam = sam
        vision: Any = sam.config.vision_config
        prompts: Any = sam.config.prompt_encoder_config
        grid = vision.image_size // vision.patch_size
        self.image_size = vision.image_size
        self.preprocessing = Preprocessing(image_size=vision.image_size)
        self.patch_size = vision.patch_size
        self.mask_input_size = 4 * grid
        self.prompt_width = prompts.hidden_size
        self.blocks = tuple(BlockShape(vision.hidden_size) for _ in range(vision.num_hidden_layers))
        self.encoded_shapes = self.prepared_shapes = {IMAGE_EMBEDDINGS: (vision.output_channels, grid, grid)}

    def part(self, name: Part) -> nn.Module:
        """One of SAM's three parts."""
        return self.sam.vision_encoder if name == "image_encoder" else getattr(self.sam, name)

    def encode(self, pixel_values: Tensor, block_prompts: BlockPrompts | None = None) -> EncodedImage:
        """See `Backbone.encode`; ``image_embeddings`` is ``(B, D, S/P, S/P)``."""
        encoder = self.sam.vision_encoder
        patch_embedding = encoder.patch_embed(pixel_values)  # (B, H, W, C)
        hidden_states = patch_embedding
        if encoder.pos_embed is not None:
            hidden_states = patch_embedding + encoder.pos_embed
        if block_prompts is not None:
            block_prompts.start(patch_embedding, hidden_states)
        attention = choose_attention(self.attention, pixel_values.device.type)
        run_block = block_runner(attention, compiled=self.compiled)
        for block, layer in enumerate(encoder.layers):
            if block_prompts is not None:
                hidden_states = block_prompts.before_block(block, hidden_states)
            if self.gradient_checkpointing and torch.is_grad_enabled():
                hidden_states = checkpoint(run_block, layer, hidden_states, use_reentrant=False)
                assert isinstance(hidden_states, Tensor)
            else:
                hidden_states = run_block(layer, hidden_states)
        if block_prompts is not None:
            hidden_states = block_prompts.before_neck(hidden_states)
        return EncodedImage({IMAGE_EMBEDDINGS: encoder.neck(hidden_states)})

    def decode_together(
        self, prepared: EncodedImage, prompts: Sequence[Prompt], sparse_tokens: Tensor | None, *, multimask: bool
    ) -> Output:
        """See `Backbone.decode_together`. Every row is an image with one prompt: SAM's "point batch" has length 1."""
        embeddings = prepared[IMAGE_EMBEDDINGS]

        def stacked(values: Iterable[Tensor | None]) -> Tensor | None:
            given = [value for value in values if value is not None]
            return torch.stack(given) if given else None  # (Q, ...)

        box, points, labels, masks = (stacked(field) for field in zip(*(p.tensors for p in prompts), strict=True))
        sparse, dense = self.sam.prompt_encoder(
            input_points=None if points is None else points[:, None],
            input_labels=None if labels is None else labels[:, None],
            input_boxes=None if box is None else box[:, None],
            input_masks=masks,
        )  # (Q, 1, n, D), (Q, D, S/P, S/P)
        if sparse_tokens is not None:
            own = sparse_tokens[:, None].to(embeddings.dtype)
            sparse = own if sparse is None else torch.cat([sparse, own], 2)
        position = self.sam.get_image_wide_positional_embeddings()
        logits, scores = self.sam.mask_decoder(
            image_embeddings=embeddings,
            image_positional_embeddings=position.expand(len(embeddings), -1, -1, -1),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask,
        )  # (Q, 1, M, 4S/P, 4S/P), (Q, 1, M)
        return Output(logits[:, 0], scores[:, 0])


class SamFamily(Family):
    """SAM ViT-B, L and H, and the small one that comes with the package."""

    name = "sam"
    model_type = "sam"
    aliases: ClassVar = {
        "vit_b": "facebook/sam-vit-base",
        "vit_l": "facebook/sam-vit-large",
        "vit_h": "facebook/sam-vit-huge",
    }
    bundled: ClassVar = {"tiny": Path(__file__).parent / "tiny"}

    def from_folder(self, folder: Path) -> SamModel:
        """See `Family.from_folder`."""
        return sam_from_folder(folder)

    def is_own(self, names: Iterable[str]) -> bool:
        """Meta's SAM has an image encoder and a mask decoder; SAM 2 has a trunk in its encoder, and a memory."""
        held = list(names)
        later = any(name.startswith(("image_encoder.trunk.", "memory_")) for name in held)
        return not later and all(any(name.startswith(part) for name in held) for part in SAM_PARTS)

    def from_tensors(self, state: dict[str, Tensor], source: str) -> SamModel:
        """See `Family.from_tensors`."""
        return sam_from_meta(state, source)

    def backbone(self, model: SamModel, name: str, *, image_size: int | None) -> SamBackbone:
        """See `Family.backbone`."""
        identity = BaseIdentity(name, tensors_sha256(model))
        vision: Any = model.config.vision_config
        if image_size is not None and image_size != vision.image_size:
            model = resize_sam(model, image_size)
        return SamBackbone(model, identity)
