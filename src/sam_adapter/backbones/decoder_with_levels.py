"""What SAM 2 and SAM 3 have in common: a mask decoder that reads finer levels, asked by points and boxes."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..batch import EncodedImage, Output, Prompt
from ..config.registry import Part
from .base import Backbone, BaseIdentity, stacked_prompts

IMAGE_EMBEDDINGS = "image_embeddings"
"""``(B, D, S/P, S/P)`` with the no-memory embedding; P pixels are one position of it."""
FINER = ("finer_0", "finer_1")
"""The neck's levels ``(B, D, 4S/P, 4S/P)`` and ``(B, D, 2S/P, 2S/P)``."""
PROJECTED = ("high_resolution_0", "high_resolution_1")
"""The same for the decoder: ``(B, D/8, 4S/P, 4S/P)`` and ``(B, D/4, 2S/P, 2S/P)``."""
PADDING = -1
"""Label of a point that is none."""
LARGEST_MASK_LOGIT = 32.0
"""The authors' predictor clamps mask logits that it hands out, so that earlier answers come back within these."""


class DecoderWithLevels(Backbone):
    """A model whose encoder gives `IMAGE_EMBEDDINGS` and `FINER`, and whose decoder is that of SAM 2.

    Args:
        sam: Of `transformers`.
        identity: Which base it is.
    """

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

    def __init__(self, sam: Any, identity: BaseIdentity) -> None:
        super().__init__(identity)
        self.sam = sam
        self._dynamic = sam.mask_decoder.dynamic_multimask_via_stability

    def _set_levels(self, width: int, grid: int) -> None:
        """Say which shapes `encode` and `prepare` give, and which a prompt's mask has.

        Args:
            width: Channels D of the levels.
            grid: Positions of the image embedding on a side, S/P.
        """
        self.mask_input_size = 4 * grid
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

    def part(self, name: Part) -> nn.Module:
        """One of the model's three parts."""
        return self.sam.vision_encoder if name == "image_encoder" else getattr(self.sam, name)

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
        box, points, labels, masks = stacked_prompts(prompts)
        if box is None and points is None:
            # As the authors do: one padding point, after which the prompt encoder puts its own.
            points = torch.zeros(len(prompts), 1, 2, device=device)
            labels = torch.full((len(prompts), 1), PADDING, device=device)
        return self.sam.prompt_encoder(
            input_points=None if points is None else points[:, None],
            input_labels=None if labels is None else labels[:, None].long(),
            input_boxes=None if box is None else box[:, None],
            input_masks=None if masks is None else masks.float().clamp(-LARGEST_MASK_LOGIT, LARGEST_MASK_LOGIT),
        )
