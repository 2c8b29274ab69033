"""SAM (Kirillov et al., 2023) from `transformers`: its encoder's forward with prompts, and its decoder's."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import SamModel

from ..batch import EncodedImage, Output, Prompt
from ..config.registry import Part
from ..kernels.encoder_block import block_runner
from ..preprocessing import Preprocessing
from ..system.machine import choose_attention
from .base import Backbone, BaseIdentity, BlockPrompts, BlockShape, stacked_prompts
from .family import Family, tensors_sha256
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
    several_masks = tuple(f"sam.mask_decoder.output_hypernetworks_mlps.{mask}." for mask in (1, 2, 3))
    untrained = (
        # The predicted quality, the three masks beside the one that is trained, and what reads an earlier mask.
        *quality,
        *several_masks,
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
        hidden_states, _ = self.run_blocks(pixel_values, block_prompts)
        return EncodedImage({IMAGE_EMBEDDINGS: self.sam.vision_encoder.neck(hidden_states)})

    def run_blocks(
        self, pixel_values: Tensor, block_prompts: BlockPrompts | None, *, kept: int | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Run the image encoder up to its neck.

        Args:
            pixel_values: ``(B, 3, S, S)``.
            block_prompts: See `Backbone.encode`.
            kept: A block whose output is wanted too.

        Returns:
            The input of the neck ``(B, S/P, S/P, C)``, and the output of that block, of the same shape.
        """
        encoder = self.sam.vision_encoder
        patch_embedding = encoder.patch_embed(pixel_values)  # (B, H, W, C)
        hidden_states = patch_embedding
        if encoder.pos_embed is not None:
            hidden_states = patch_embedding + encoder.pos_embed
        if block_prompts is not None:
            block_prompts.start(patch_embedding, hidden_states)
        attention = choose_attention(self.attention, pixel_values.device.type)
        run_block = block_runner(attention, compiled=self.compiled)
        output: Tensor | None = None
        for block, layer in enumerate(encoder.layers):
            if block_prompts is not None:
                hidden_states = block_prompts.before_block(block, hidden_states)
            hidden_states = self.run_block(run_block, layer, hidden_states)
            if block == kept:
                output = hidden_states
        if block_prompts is not None:
            hidden_states = block_prompts.before_neck(hidden_states)
        return hidden_states, output

    def decode_together(
        self, prepared: EncodedImage, prompts: Sequence[Prompt], sparse_tokens: Tensor | None, *, multimask: bool
    ) -> Output:
        """See `Backbone.decode_together`. Every row is an image with one prompt: SAM's "point batch" has length 1."""
        embeddings = prepared[IMAGE_EMBEDDINGS]
        logits, scores = self.sam.mask_decoder(
            **self.decoder_inputs(embeddings, prompts, sparse_tokens), multimask_output=multimask
        )  # (Q, 1, M, 4S/P, 4S/P), (Q, 1, M)
        return Output(logits[:, 0], scores[:, 0])

    def decoder_inputs(
        self, embeddings: Tensor, prompts: Sequence[Prompt], sparse_tokens: Tensor | None
    ) -> dict[str, Tensor | None]:
        """What SAM's mask decoder takes of images and of prompts of one structure, by its own names.

        Args:
            embeddings: ``(Q, D, S/P, S/P)``.
            prompts: See `Backbone.decode_together`.
            sparse_tokens: See there.
        """
        box, points, labels, masks = stacked_prompts(prompts)
        # In half precision the encoding of positions would be off by pixels.
        with torch.autocast(embeddings.device.type, enabled=False):
            sparse, dense = self.sam.prompt_encoder(
                input_points=None if points is None else points[:, None],
                input_labels=None if labels is None else labels[:, None],
                input_boxes=None if box is None else box[:, None],
                input_masks=None if masks is None else masks.float(),
            )  # (Q, 1, n, D), (Q, D, S/P, S/P)
            position = self.sam.get_image_wide_positional_embeddings()
        if sparse_tokens is not None:
            own = sparse_tokens[:, None].to(embeddings.dtype)
            sparse = own if sparse is None else torch.cat([sparse, own], 2)
        return {
            "image_embeddings": embeddings,
            "image_positional_embeddings": position.expand(len(embeddings), -1, -1, -1),
            "sparse_prompt_embeddings": sparse,
            "dense_prompt_embeddings": dense,
        }


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
        """Meta's SAM has an image encoder and a mask decoder; SAM 2 a trunk and a memory too, SAM-HQ one more token."""
        held = list(names)
        later = any(name.startswith(("image_encoder.trunk.", "memory_", "mask_decoder.hf_token.")) for name in held)
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
