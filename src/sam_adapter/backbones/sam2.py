r"""SAM 2 and SAM 2.1 (Ravi et al., 2024) from `transformers`, for single images.

    pixel_values --> Hiera trunk, four stages --> FPN neck --> image_embeddings, + no-memory embedding   (S/16)
                                                          \--> finer_0, finer_1                           (S/4, S/8)
    once an image:  conv_s0(finer_0), conv_s1(finer_1)
    a query:        prompt encoder, mask decoder with the finer levels

An image is a video of one frame without memory, as in the authors' image predictor.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import Sam2Model

from ..batch import EncodedImage, Output, Prompt
from ..config.registry import Part
from ..kernels.encoder_block import block_runner
from ..preprocessing import Preprocessing
from .base import Backbone, BaseIdentity, BlockPrompts, BlockShape
from .family import Family, tensors_sha256
from .sam2_files import resize_sam2, sam2_from_folder, sam2_from_meta
from .sam2_names import OWN_PARTS

IMAGE_EMBEDDINGS = "image_embeddings"
"""``(B, D, S/16, S/16)`` with the no-memory embedding."""
FINER = ("finer_0", "finer_1")
"""The neck's levels ``(B, D, S/4, S/4)`` and ``(B, D, S/8, S/8)``."""
PROJECTED = ("high_resolution_0", "high_resolution_1")
"""The same for the decoder: ``(B, D/8, S/4, S/4)`` and ``(B, D/4, S/8, S/8)``."""
PADDING = -1
"""Label of a point that is none."""
LARGEST_MASK_LOGIT = 32.0
"""The authors' predictor clamps mask logits that it hands out, so that earlier answers come back within these."""


class Sam2Backbone(Backbone):
    """A SAM 2 whose encoder takes block prompts and whose decoder takes any mixture of prompts.

    Args:
        sam: The model.
        identity: Which base it is.
    """

    family = "sam2"
    constants = ("sam.no_memory_embedding",)  # the prompt encoder's no-mask embedding is added to the same tensor
    chooses_attention = False  # without position biases PyTorch's fused kernels do it
    quality = ("sam.mask_decoder.iou_prediction_head.",)
    several_masks = tuple(f"sam.mask_decoder.output_hypernetworks_mlps.{mask}." for mask in (1, 2, 3))
    preparing = ("sam.mask_decoder.conv_s0.", "sam.mask_decoder.conv_s1.")
    untrained = (
        # The predicted quality, whether an object is there, the three masks beside the one that is trained, and what
        # reads an earlier mask.
        *quality,
        "sam.mask_decoder.pred_obj_score_head.",
        *several_masks,
        "sam.prompt_encoder.mask_embed.",
    )

    def __init__(self, sam: Sam2Model, identity: BaseIdentity) -> None:
        super().__init__(identity)
        self.sam = sam
        vision: Any = sam.config.vision_config
        prompts: Any = sam.config.prompt_encoder_config
        trunk = vision.backbone_config
        self.image_size = prompts.image_size
        self.patch_size = trunk.patch_stride[0]
        grid = prompts.image_size // prompts.patch_size
        self.mask_input_size = 4 * grid
        self.prompt_width = prompts.hidden_size
        self.preprocessing = Preprocessing(
            image_size=self.image_size, resize="squash", interpolation="float32", restore="direct"
        )
        self.blocks = _block_shapes(sam)
        width = vision.fpn_hidden_size
        coarse, half, fine = ((grid * finer, grid * finer) for finer in (1, 2, 4))
        self.encoded_shapes = {
            IMAGE_EMBEDDINGS: (width, *coarse),
            FINER[0]: (width, *fine),
            FINER[1]: (width, *half),
        }
        self.prepared_shapes = {
            IMAGE_EMBEDDINGS: (width, *coarse),
            PROJECTED[0]: (width // 8, *fine),
            PROJECTED[1]: (width // 4, *half),
        }
        self._dynamic = sam.mask_decoder.dynamic_multimask_via_stability

    def part(self, name: Part) -> nn.Module:
        """One of SAM 2's three parts."""
        return self.sam.vision_encoder if name == "image_encoder" else getattr(self.sam, name)

    def encode(self, pixel_values: Tensor, block_prompts: BlockPrompts | None = None) -> EncodedImage:
        """See `Backbone.encode`; the neck takes the output of every stage, and `before_neck` sees the last one's."""
        trunk: Any = self.sam.vision_encoder.backbone
        patch_embedding = trunk.patch_embed(pixel_values)  # (B, H, W, C)
        hidden_states = patch_embedding + trunk._get_pos_embed(patch_embedding.shape[1:3])
        if block_prompts is not None:
            block_prompts.start(patch_embedding, hidden_states)
        run_block = block_runner("plain", compiled=self.compiled)  # which calls the block, as it is not SAM's
        stages = []
        for block, layer in enumerate(trunk.blocks):
            if block_prompts is not None:
                hidden_states = block_prompts.before_block(block, hidden_states)
            if self.gradient_checkpointing and torch.is_grad_enabled():
                hidden_states = checkpoint(run_block, layer, hidden_states, use_reentrant=False)
                assert isinstance(hidden_states, Tensor)
            else:
                hidden_states = run_block(layer, hidden_states)
            if block in trunk.stage_ends:
                stages.append(hidden_states)
        if block_prompts is not None:
            stages[-1] = block_prompts.before_neck(stages[-1])
        levels, _ = self.sam.vision_encoder.neck(tuple(stages))  # the coarsest first
        coarse, half, fine = levels[-self.sam.num_feature_levels :]
        embeddings = coarse + self.sam.no_memory_embedding.reshape(1, -1, 1, 1)
        return EncodedImage({IMAGE_EMBEDDINGS: embeddings, FINER[0]: fine, FINER[1]: half})

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
        )  # (Q, 1, M, S/4, S/4), (Q, 1, M), (Q, 1, 1)
        return Output(logits[:, 0], scores[:, 0], objects[:, 0, 0])

    def _embedded(self, prompts: Sequence[Prompt], device: torch.device) -> tuple[Tensor, Tensor]:
        """Sparse tokens ``(Q, 1, n, D)`` with the padding point, and dense ones ``(Q, D, S/16, S/16)``."""

        def stacked(values: Iterable[Tensor | None]) -> Tensor | None:
            given = [value for value in values if value is not None]
            return torch.stack(given) if given else None  # (Q, ...)

        box, points, labels, masks = (stacked(field) for field in zip(*(p.tensors for p in prompts), strict=True))
        if box is None and points is None:
            # As the authors do: one padding point, after which the prompt encoder puts its own.
            points = torch.zeros(len(prompts), 1, 2, device=device)
            labels = torch.full((len(prompts), 1), PADDING, device=device)
        return self.sam.prompt_encoder(
            input_points=None if points is None else points[:, None],
            input_labels=None if labels is None else labels[:, None],
            input_boxes=None if box is None else box[:, None],
            input_masks=None if masks is None else masks.float().clamp(-LARGEST_MASK_LOGIT, LARGEST_MASK_LOGIT),
        )


def _block_shapes(sam: Sam2Model) -> tuple[BlockShape, ...]:
    """By the width of each block's input: the first block of a stage still takes the grid of the stage before."""
    trunk: Any = sam.vision_encoder.backbone
    shapes, stage = [], 0
    for block in trunk.blocks:
        shapes.append(BlockShape(block.dim, stage))
        stage += block.query_stride is not None
    return tuple(shapes)


class Sam2Family(Family):
    """SAM 2 and SAM 2.1: Hiera tiny, small, base plus and large."""

    name = "sam2"
    model_type = "sam2"
    more_model_types = ("sam2_video",)
    prepares = True
    aliases: ClassVar = {
        f"{version}_{short}": f"facebook/{version}-hiera-{size}"
        for version in ("sam2", "sam2.1")
        for short, size in (("t", "tiny"), ("s", "small"), ("b+", "base-plus"), ("l", "large"))
    }

    def from_folder(self, folder: Path) -> Sam2Model:
        """See `Family.from_folder`."""
        return sam2_from_folder(folder)

    def is_own(self, names: Iterable[str]) -> bool:
        """Meta's SAM 2 has a trunk in its image encoder, and SAM's two other parts under names of their own."""
        held = list(names)
        return all(any(name.startswith(part) for name in held) for part in OWN_PARTS)

    def from_tensors(self, state: dict[str, Tensor], source: str) -> Sam2Model:
        """See `Family.from_tensors`."""
        return sam2_from_meta(state, source)

    def backbone(self, model: Sam2Model, name: str, *, image_size: int | None) -> Sam2Backbone:
        """See `Family.backbone`."""
        identity = BaseIdentity(name, tensors_sha256(model))
        own: Any = model.config.prompt_encoder_config
        if image_size is not None and image_size != own.image_size:
            model = resize_sam2(model, image_size)
        return Sam2Backbone(model, identity)
