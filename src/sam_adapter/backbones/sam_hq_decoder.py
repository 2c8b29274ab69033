"""SAM-HQ's mask decoder (Ke et al., 2023), mended, and with the work that is done once an image apart.

`SamHQMaskDecoder.forward` of `transformers` (5.23.0, and all before it that have SAM-HQ) is wrong: it drops the image
tokens that come out of its two-way transformer and upscales the ones that went in, with height and width exchanged. So
the masks do not see the prompts' effect on the image. `docs/upstream.md` has the smallest reproduction, and a test
fails as soon as it is cured there; then `MendedMaskDecoder.forward` can call it.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import SamHQModel
from transformers.models.sam_hq.modeling_sam_hq import SamHQMaskDecoder


class MendedMaskDecoder(SamHQMaskDecoder):
    """The decoder as its authors have it; tensors and their names are the library's."""

    def fused_features(self, image_embeddings: Tensor, early_features: Tensor) -> Tensor:
        """What the mask of high quality takes from the image: the encoder's end and its first global block.

        Args:
            image_embeddings: ``(B, D, h, w)``.
            early_features: ``(B, h, w, C)``, the output of the first block with global attention.

        Returns:
            ``(B, D/8, 4h, 4w)``.
        """
        late = self.encoder_conv2(self.activation(self.encoder_norm(self.encoder_conv1(image_embeddings))))
        early = self.compress_vit_conv1(early_features.permute(0, 3, 1, 2))
        return late + self.compress_vit_conv2(self.activation(self.compress_vit_norm(early)))

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        image_embeddings: Tensor,
        image_positional_embeddings: Tensor,
        sparse_prompt_embeddings: Tensor | None,
        dense_prompt_embeddings: Tensor,
        multimask_output: bool,
        hq_token_only: bool,
        fused_features: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Answer one prompt about each image.

        Args:
            image_embeddings: ``(Q, D, h, w)``.
            image_positional_embeddings: ``(Q, D, h, w)``.
            sparse_prompt_embeddings: ``(Q, 1, n, D)``, or None.
            dense_prompt_embeddings: ``(Q, D, h, w)``, or with 1 for Q.
            multimask_output: Take SAM's mask from the three for ambiguous prompts, the one of best predicted quality.
            hq_token_only: Leave SAM's mask out.
            fused_features: ``(Q, D/8, 4h, 4w)`` from `fused_features`.

        Returns:
            Logits ``(Q, 1, 1, 4h, 4w)`` and predicted quality of SAM's mask ``(Q, 1, 1)``.
        """
        queries, channels, height, width = image_embeddings.shape
        tokens = torch.cat([self.iou_token.weight, self.mask_tokens.weight, self.hq_token.weight])
        tokens = tokens.repeat(queries, 1, 1, 1)  # (Q, 1, masks + 2, D)
        if sparse_prompt_embeddings is not None:
            tokens = torch.cat([tokens, sparse_prompt_embeddings.to(tokens.dtype)], 2)
        answers, image = self.transformer(
            point_embeddings=tokens,
            image_embeddings=image_embeddings + dense_prompt_embeddings,
            image_positional_embeddings=image_positional_embeddings,
            attention_similarity=None,
        )  # (Q, 1, n, D), (Q, 1, h*w, D)
        image = image.transpose(2, 3).reshape(queries, channels, height, width)
        upscaled = self.activation(self.upscale_layer_norm(self.upscale_conv1(image)))
        upscaled = self.activation(self.upscale_conv2(upscaled))  # (Q, D/8, 4h, 4w)
        fine = self.mask_conv2(self.activation(self.mask_norm(self.mask_conv1(upscaled)))) + fused_features
        last = self.num_mask_tokens - 1  # the HQ token is the last of them
        mlps = [*self.output_hypernetworks_mlps, self.hq_mask_mlp]
        weights = [mlp(answers[:, 0, 1 + at]) for at, mlp in enumerate(mlps)]  # each (Q, D/8)
        high_quality = torch.einsum("qc,qchw->qhw", weights[last], fine)[:, None, None]
        scores = self.iou_prediction_head(answers[:, :, 0])  # (Q, 1, masks)
        if multimask_output:
            scores, best = scores[:, :, 1:].max(-1, keepdim=True)  # (Q, 1, 1)
            chosen = torch.stack(weights[1:last], 1).gather(1, best.expand(-1, -1, weights[0].shape[-1]))[:, 0]
        else:
            scores, chosen = scores[:, :, :1], weights[0]
        if hq_token_only:
            return high_quality, scores
        return torch.einsum("qc,qchw->qhw", chosen, upscaled)[:, None, None] + high_quality, scores


class MendedSamHQModel(SamHQModel):
    """`SamHQModel` with the mended decoder."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.mask_decoder = MendedMaskDecoder(config.mask_decoder_config)
