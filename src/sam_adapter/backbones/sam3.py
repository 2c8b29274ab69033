"""SAM 3's interactive model (Carion et al., 2025) from `transformers`, for single images, asked by points and boxes.

    pixel_values --> plain ViT with rotary positions --> neck --> image_embeddings, + no-memory embedding   (S/P)
                                                          |-----> finer_0, finer_1                     (4S/P, 2S/P)
    once an image:  conv_s0(finer_0), conv_s1(finer_1)
    a query:        prompt encoder, mask decoder with the finer levels

An image is a video of one frame without memory. The detector, which takes words, is not part of it.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import Sam3TrackerModel

from ..batch import EncodedImage, Output, Prompt
from ..config.registry import Part
from ..kernels.encoder_block import block_runner
from ..preprocessing import Preprocessing
from .base import Backbone, BaseIdentity, BlockPrompts, BlockShape
from .family import Family, tensors_sha256
from .sam3_files import resize_sam3, sam3_from_folder, sam3_from_meta
from .sam3_names import is_sam3

IMAGE_EMBEDDINGS = "image_embeddings"
"""``(B, D, S/P, S/P)`` with the no-memory embedding."""
FINER = ("finer_0", "finer_1")
"""The neck's levels ``(B, D, 4S/P, 4S/P)`` and ``(B, D, 2S/P, 2S/P)``."""
PROJECTED = ("high_resolution_0", "high_resolution_1")
"""The same for the decoder: ``(B, D/8, 4S/P, 4S/P)`` and ``(B, D/4, 2S/P, 2S/P)``."""
LEVELS = 3
"""Of the neck that an image is decoded from; SAM 3 has a coarser one that nothing reads."""
LARGEST_MASK_LOGIT = 32.0
"""The authors' predictor clamps mask logits that it hands out, so that earlier answers come back within these."""


class Sam3Backbone(Backbone):
    """A SAM 3 whose encoder takes block prompts and whose decoder takes any mixture of prompts.

    Args:
        sam: The model.
        identity: Which base it is.
    """

    family = "sam3"
    constants = ("sam.no_memory_embedding",)  # the prompt encoder's no-mask embedding is added to the same tensor
    chooses_attention = False  # without position biases PyTorch's fused kernels do it
    quality = ("sam.mask_decoder.iou_prediction_head.",)
    several_masks = tuple(f"sam.mask_decoder.output_hypernetworks_mlps.{mask}." for mask in (1, 2, 3))
    untrained = (
        # The predicted quality, whether an object is there, the three masks beside the one that is trained, what reads
        # an earlier mask, and the neck's level that nothing reads.
        *quality,
        "sam.mask_decoder.pred_obj_score_head.",
        *several_masks,
        "sam.prompt_encoder.mask_embed.",
        f"sam.vision_encoder.neck.fpn_layers.{LEVELS}.",
    )

    preparing = ("sam.mask_decoder.conv_s0.", "sam.mask_decoder.conv_s1.")

    def __init__(self, sam: Sam3TrackerModel, identity: BaseIdentity) -> None:
        super().__init__(identity)
        self.sam = sam
        vision: Any = sam.config.vision_config
        prompts: Any = sam.config.prompt_encoder_config
        trunk = vision.backbone_config
        grid = prompts.image_size // prompts.patch_size
        self.image_size = prompts.image_size
        self.patch_size = trunk.patch_size
        self.mask_input_size = 4 * grid
        self.prompt_width = prompts.hidden_size
        self.preprocessing = Preprocessing(
            image_size=self.image_size,
            resize="squash",
            mean=(127.5, 127.5, 127.5),
            std=(127.5, 127.5, 127.5),
            interpolation="float32",
            restore="direct",
        )
        self.blocks = tuple(BlockShape(trunk.hidden_size) for _ in range(trunk.num_hidden_layers))
        width = vision.fpn_hidden_size
        self.encoded_shapes = {
            IMAGE_EMBEDDINGS: (width, grid, grid),
            FINER[0]: (width, 4 * grid, 4 * grid),
            FINER[1]: (width, 2 * grid, 2 * grid),
        }
        hidden = prompts.hidden_size
        self.prepared_shapes = {
            IMAGE_EMBEDDINGS: (width, grid, grid),
            PROJECTED[0]: (hidden // 8, 4 * grid, 4 * grid),
            PROJECTED[1]: (hidden // 4, 2 * grid, 2 * grid),
        }
        self._dynamic = sam.mask_decoder.dynamic_multimask_via_stability

    def part(self, name: Part) -> nn.Module:
        """One of SAM 3's three parts."""
        return self.sam.vision_encoder if name == "image_encoder" else getattr(self.sam, name)

    def encode(self, pixel_values: Tensor, block_prompts: BlockPrompts | None = None) -> EncodedImage:
        """See `Backbone.encode`. Block prompts see positions added and normalised, as they enter the first block."""
        encoder: Any = self.sam.vision_encoder
        trunk = encoder.backbone
        embeddings = trunk.embeddings
        height, width = (side // self.patch_size for side in pixel_values.shape[-2:])
        patch_embedding = embeddings.patch_embeddings(pixel_values)  # (B, H*W, C)
        positions = embeddings._tile_position_embeddings(embeddings.position_embeddings, height, width)
        hidden_states = embeddings.dropout(patch_embedding + positions).unflatten(1, (height, width))  # (B, H, W, C)
        hidden_states = trunk.layer_norm(hidden_states)
        if block_prompts is not None:
            block_prompts.start(patch_embedding.unflatten(1, (height, width)), hidden_states)
        run_block = block_runner("plain", compiled=self.compiled)  # which calls the block, as it is not SAM's
        for block, layer in enumerate(trunk.layers):
            if block_prompts is not None:
                hidden_states = block_prompts.before_block(block, hidden_states)
            if self.gradient_checkpointing and torch.is_grad_enabled():
                hidden_states = checkpoint(run_block, layer, hidden_states, use_reentrant=False)
                assert isinstance(hidden_states, Tensor)
            else:
                hidden_states = run_block(layer, hidden_states)
        if block_prompts is not None:
            hidden_states = block_prompts.before_neck(hidden_states)
        fine, half, coarse = (layer(hidden_states.permute(0, 3, 1, 2)) for layer in encoder.neck.fpn_layers[:LEVELS])
        return EncodedImage({IMAGE_EMBEDDINGS: self._without_memory(coarse), FINER[0]: fine, FINER[1]: half})

    def _without_memory(self, coarse: Tensor) -> Tensor:
        """The level that is decoded with what the tracker adds to it where there is no earlier frame.

        `Sam3TrackerModel` of `transformers` (5.23.0, and all before it that have SAM 3) adds it to the last of the
        neck's four levels, which it then drops. `docs/upstream.md` has the smallest reproduction, and a test fails as
        soon as it is cured there.
        """
        return coarse + self.sam.no_memory_embedding.reshape(1, -1, 1, 1)

    def prepare(self, encoded: EncodedImage) -> EncodedImage:
        """See `Backbone.prepare`: the finer levels in the decoder's widths."""
        if PROJECTED[0] in encoded.tensors:
            return encoded
        decoder = self.sam.mask_decoder
        fine, half = (encoded[name] for name in FINER)
        finer = {PROJECTED[0]: decoder.conv_s0(fine), PROJECTED[1]: decoder.conv_s1(half)}
        return EncodedImage({IMAGE_EMBEDDINGS: encoded[IMAGE_EMBEDDINGS], **finer})

    def decode_together(
        self, prepared: EncodedImage, prompts: Sequence[Prompt], sparse_tokens: Tensor | None, *, multimask: bool
    ) -> Output:
        """See `Backbone.decode_together`. Every row is an image with one prompt, in a "point batch" of length 1."""
        embeddings = prepared[IMAGE_EMBEDDINGS]
        # In half precision the encoding of positions would be off by pixels.
        with torch.autocast(embeddings.device.type, enabled=False):
            sparse, dense = self._embedded(prompts, embeddings.device)
            position = self.sam.get_image_wide_positional_embeddings()
        if sparse_tokens is not None:
            sparse = torch.cat([sparse, sparse_tokens[:, None].to(sparse.dtype)], 2)
        decoder = self.sam.mask_decoder
        # `transformers` falls back wherever the decoder is in eval mode, and a decoder that is not trained always is.
        # The three other masks know nothing of learned questions.
        falls_back = self._dynamic and self.falls_back and sparse_tokens is None
        decoder.dynamic_multimask_via_stability = falls_back
        logits, scores, _, objects = decoder(
            image_embeddings=embeddings,
            image_positional_embeddings=position.expand(len(embeddings), -1, -1, -1),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask,
            high_resolution_features=[prepared[name] for name in PROJECTED],
        )  # (Q, 1, M, 4S/P, 4S/P), (Q, 1, M), (Q, 1, 1)
        return Output(logits[:, 0], scores[:, 0], objects[:, 0, 0])

    def _embedded(self, prompts: Sequence[Prompt], device: torch.device) -> tuple[Tensor, Tensor]:
        """Sparse tokens ``(Q, 1, n, D)`` with the padding point, and dense ones ``(Q, D, S/P, S/P)``."""

        def stacked(values: Iterable[Tensor | None]) -> Tensor | None:
            given = [value for value in values if value is not None]
            return torch.stack(given) if given else None  # (Q, ...)

        box, points, labels, masks = (stacked(field) for field in zip(*(p.tensors for p in prompts), strict=True))
        if box is None and points is None:
            # As the authors do: one padding point, after which the prompt encoder puts its own.
            points = torch.zeros(len(prompts), 1, 2, device=device)
            labels = torch.full((len(prompts), 1), -1, device=device)
        return self.sam.prompt_encoder(
            input_points=None if points is None else points[:, None],
            input_labels=None if labels is None else labels[:, None].long(),
            input_boxes=None if box is None else box[:, None],
            input_masks=None if masks is None else masks.float().clamp(-LARGEST_MASK_LOGIT, LARGEST_MASK_LOGIT),
        )


class Sam3Family(Family):
    """SAM 3, and what SAM 3.1 has of it."""

    name = "sam3"
    model_type = "sam3_tracker"
    more_model_types = ("sam3_video",)
    aliases: ClassVar = {"sam3": "facebook/sam3"}
    prepares = True

    def from_folder(self, folder: Path) -> Sam3TrackerModel:
        """See `Family.from_folder`."""
        return sam3_from_folder(folder)

    def is_own(self, names: Iterable[str]) -> bool:
        """Meta's SAM 3 has a trunk in its vision backbone."""
        return is_sam3(names)

    def from_tensors(self, state: dict[str, Tensor], source: str) -> Sam3TrackerModel:
        """See `Family.from_tensors`."""
        return sam3_from_meta(state, source)

    def backbone(self, model: Sam3TrackerModel, name: str, *, image_size: int | None) -> Sam3Backbone:
        """See `Family.backbone`."""
        identity = BaseIdentity(name, tensors_sha256(model))
        own: Any = model.config.prompt_encoder_config
        if image_size is not None and image_size != own.image_size:
            model = resize_sam3(model, image_size)
        return Sam3Backbone(model, identity)
