r"""SAM 2 and SAM 2.1 (Ravi et al., 2024) from `transformers`, for single images.

    pixel_values --> Hiera trunk, four stages --> FPN neck --> image_embeddings, + no-memory embedding   (S/16)
                                                          \--> finer_0, finer_1                           (S/4, S/8)
    once an image:  conv_s0(finer_0), conv_s1(finer_1)
    a query:        prompt encoder, mask decoder with the finer levels

An image is a video of one frame without memory, as in the authors' image predictor.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor
from transformers import Sam2Model

from ..batch import EncodedImage
from ..kernels.encoder_block import block_runner
from ..preprocessing import Preprocessing
from .base import BaseIdentity, BlockPrompts, BlockShape
from .decoder_with_levels import FINER, IMAGE_EMBEDDINGS, DecoderWithLevels
from .family import Family, tensors_sha256
from .sam2_files import resize_sam2, sam2_from_folder, sam2_from_meta
from .sam2_names import OWN_PARTS


class Sam2Backbone(DecoderWithLevels):
    """A SAM 2 whose encoder takes block prompts and whose decoder takes any mixture of prompts.

    Args:
        sam: The model.
        identity: Which base it is.
    """

    family = "sam2"

    def __init__(self, sam: Sam2Model, identity: BaseIdentity) -> None:
        super().__init__(sam, identity)
        vision: Any = sam.config.vision_config
        prompts: Any = sam.config.prompt_encoder_config
        trunk = vision.backbone_config
        self.image_size = prompts.image_size
        self.patch_size = trunk.patch_stride[0]
        self.prompt_width = prompts.hidden_size
        self.preprocessing = Preprocessing(
            image_size=self.image_size, resize="squash", interpolation="float32", restore="direct"
        )
        self.blocks = _block_shapes(sam)
        self._set_levels(vision.fpn_hidden_size, prompts.image_size // prompts.patch_size)

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
            hidden_states = self.run_block(run_block, layer, hidden_states)
            if block in trunk.stage_ends:
                stages.append(hidden_states)
        if block_prompts is not None:
            stages[-1] = block_prompts.before_neck(stages[-1])
        levels, _ = self.sam.vision_encoder.neck(tuple(stages))  # the coarsest first
        coarse, half, fine = levels[-self.sam.num_feature_levels :]
        embeddings = coarse + self.sam.no_memory_embedding.reshape(1, -1, 1, 1)
        return EncodedImage({IMAGE_EMBEDDINGS: embeddings, FINER[0]: fine, FINER[1]: half})


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
