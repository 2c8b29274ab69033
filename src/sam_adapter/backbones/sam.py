"""SAM (Kirillov et al., 2023) from `transformers`: load it, resize it, and its encoder's forward with prompts."""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers import SamConfig, SamModel

from ..batch import Output, Prompt, by_group
from ..config.options import Part
from ..errors import CheckpointError, ConfigError
from ..kernels.encoder_block import block_runner, can_go_by_rows
from ..methods.sam_adapter.module import SamAdapter
from ..system.machine import choose_attention
from . import meta_names as meta
from .download import download_folder

log = logging.getLogger(__name__)

ALIASES = {
    "vit_b": "facebook/sam-vit-base",
    "vit_l": "facebook/sam-vit-large",
    "vit_h": "facebook/sam-vit-huge",
}
BUNDLED = {"tiny": Path(__file__).parent / "tiny"}
"""Models that come with the package: a small SAM of 256 pixels, pretrained on generated scenes."""


@dataclass(frozen=True)
class BaseIdentity:
    """Which base model it is.

    Attributes:
        name: What the user called it.
        sha256: Digest of all its tensors before anything was added, resized or trained.
    """

    name: str
    sha256: str


class SamBackbone(nn.Module):
    """A SAM whose encoder takes adapter prompts and whose decoder takes any mixture of prompts in one batch.

    Args:
        sam: The model.
        identity: Which base it is.
    """

    family = "sam"

    def __init__(self, sam: SamModel, identity: BaseIdentity) -> None:
        super().__init__()
        self.sam = sam
        self.identity = identity
        self.attention = "auto"
        self.compiled = False
        self.gradient_checkpointing = False
        vision: Any = sam.config.vision_config
        self.hidden_size: int = vision.hidden_size
        self.depth: int = vision.num_hidden_layers
        self.patch_size: int = vision.patch_size
        self.image_size: int = vision.image_size
        self.embedding_channels: int = vision.output_channels

    def part(self, name: Part) -> nn.Module:
        """One of SAM's three parts."""
        return self.sam.vision_encoder if name == "image_encoder" else getattr(self.sam, name)

    def encode(self, pixel_values: Tensor, adapter: SamAdapter | None = None) -> Tensor:
        """Image encoder, with the adapter's prompts added where they belong.

        Args:
            pixel_values: ``(B, 3, S, S)``.
            adapter: The side path, or None for plain SAM.

        Returns:
            Image embeddings ``(B, D, S/P, S/P)``.
        """
        encoder = self.sam.vision_encoder
        patch_embedding = encoder.patch_embed(pixel_values)  # (B, H, W, C)
        hidden_states = patch_embedding
        if encoder.pos_embed is not None:
            hidden_states = patch_embedding + encoder.pos_embed
        narrow: Sequence[Tensor] = ()
        if adapter is not None:
            narrow = adapter.narrow(adapter.features(pixel_values, patch_embedding, hidden_states))
        by_rows = all(can_go_by_rows(layer, hidden_states) for layer in encoder.layers)
        attention = choose_attention(self.attention, pixel_values.device.type)
        run_block = block_runner(attention, compiled=self.compiled, by_rows=by_rows)
        for block, layer in enumerate(encoder.layers):
            if adapter is not None:
                hidden_states = hidden_states + adapter.prompt(narrow[block], block)
            if self.gradient_checkpointing and torch.is_grad_enabled():
                hidden_states = checkpoint(run_block, layer, hidden_states, use_reentrant=False)
                assert isinstance(hidden_states, Tensor)
            else:
                hidden_states = run_block(layer, hidden_states)
        if adapter is not None and adapter.settings.neck_prompt:
            hidden_states = hidden_states + adapter.prompt(narrow[self.depth], self.depth)
        return encoder.neck(hidden_states)

    def decode(self, image_embeddings: Tensor, prompts: Sequence[Prompt], *, multimask: bool = False) -> Output:
        """Prompt encoder and mask decoder; images whose prompts have the same structure share one batch.

        Args:
            image_embeddings: ``(B, D, h, w)``.
            prompts: One for each image, in pixels of the encoder's input.
            multimask: Three masks for each prompt instead of one.

        Returns:
            Logits and predicted quality for each image.
        """
        on_cpu = image_embeddings.device.type == "cpu"
        if on_cpu:
            image_embeddings = image_embeddings.float()

        def together(members: list[int]) -> Iterator[tuple[Tensor, Tensor]]:
            embeddings = image_embeddings if len(members) == len(prompts) else image_embeddings[members]
            return zip(*self._decode_group(embeddings, [prompts[at] for at in members], multimask), strict=True)

        # The decoder's products are too small for a CPU to gain anything from half precision.
        with torch.autocast("cpu", enabled=False) if on_cpu else nullcontext():
            answers = by_group((prompt.structure for prompt in prompts), together)
        return Output([logits for logits, _ in answers], [scores for _, scores in answers])

    def _decode_group(self, embeddings: Tensor, prompts: list[Prompt], multimask: bool) -> tuple[Tensor, Tensor]:
        """Logits ``(B, N*M, h, w)`` and scores ``(B, N*M)`` for prompts of one structure; M masks a prompt."""

        def stacked(values: list[Tensor | None]) -> Tensor | None:
            given = [value for value in values if value is not None]
            return torch.cat(given).to(embeddings.device) if given else None  # (B*N, ...)

        boxes, points, labels, masks = (
            stacked(list(field)) for field in zip(*(p.tensors for p in prompts), strict=True)
        )
        count = len(prompts[0])
        rows = embeddings if count == 1 else embeddings.repeat_interleave(count, 0)  # (B*N, D, h, w)
        # Every row is an image with one prompt of its own: SAM's "point batch" has length 1.
        sparse, dense = self.sam.prompt_encoder(
            input_points=None if points is None else points[:, None],
            input_labels=None if labels is None else labels[:, None],
            input_boxes=None if boxes is None else boxes[:, None],
            input_masks=masks,
        )
        position = self.sam.get_image_wide_positional_embeddings()
        logits, scores = self.sam.mask_decoder(
            image_embeddings=rows,
            image_positional_embeddings=position.expand(len(rows), -1, -1, -1),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask,
        )  # (B*N, 1, M, h, w), (B*N, 1, M)
        shape = logits.shape[-2:]
        return logits.reshape(len(prompts), -1, *shape), scores.reshape(len(prompts), -1)


def load_backbone(model: str, *, image_size: int | None = None) -> SamBackbone:
    """Load a base SAM.

    Args:
        model: Hugging Face id or local folder, an alias (``vit_b``, ``vit_l``, ``vit_h``), the bundled ``tiny``, or a
            Meta ``.pth`` file.
        image_size: Side of the encoder's square input; position tables are interpolated. None keeps the model's own.

    Returns:
        The backbone in float32, frozen, in eval mode.

    Raises:
        CheckpointError: If the weights are missing or are no SAM.
        ConfigError: If the image size does not fit the patches.
    """
    path = BUNDLED.get(model, Path(model))
    if path.is_file():
        sam = _from_meta(meta.read_tensors(str(path)), str(path))
    elif path.is_dir():
        sam = _from_folder(path)
    elif path.suffix in (".pth", ".pt", ".safetensors") or model.startswith((".", "/", "~")):
        raise CheckpointError(f"model: there is no file or folder '{model}'.")
    else:
        sam = _from_folder(download_folder(ALIASES.get(model, model), alias=model, aliases=ALIASES))
    sam.shared_image_embedding.requires_grad_(False)
    # A file or folder of the user's is remembered by its full path, so that an adapter finds it from anywhere.
    name = str(path.resolve()) if model not in BUNDLED and path.exists() else model
    identity = BaseIdentity(name, tensors_sha256(sam))
    vision: Any = sam.config.vision_config
    if image_size is not None and image_size != vision.image_size:
        sam = resize_sam(sam, image_size)
    return SamBackbone(sam.requires_grad_(False).eval(), identity)


def tensors_sha256(model: nn.Module) -> str:
    """Digest of all parameters by name, shape and float32 value; the same for a model from any file format."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.named_parameters()):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().float().contiguous().cpu().numpy().data)
    return digest.hexdigest()


def resize_sam(sam: SamModel, image_size: int) -> SamModel:
    """The same SAM for another input size.

    The absolute position table is interpolated bicubically and the relative tables of the global blocks linearly, as
    SAM does at run time.

    Raises:
        ConfigError: If the size is no multiple of the patch size.
    """
    config: Any = SamConfig.from_dict(sam.config.to_dict())  # its parts are typed as optional dictionaries
    patch = config.vision_config.patch_size
    if image_size < patch or image_size % patch:
        low = max(image_size // patch, 1) * patch
        raise ConfigError(
            f"image_size: expected a multiple of the model's patch size {patch}, got {image_size}; "
            f"the nearest are {low} and {low + patch}."
        )
    grid = image_size // patch
    config.vision_config.image_size = image_size
    config.prompt_encoder_config.image_size = image_size
    config.prompt_encoder_config.image_embedding_size = grid
    state = sam.state_dict()
    table = state.get("vision_encoder.pos_embed")
    if table is not None:
        resized = functional.interpolate(table.permute(0, 3, 1, 2), (grid, grid), mode="bicubic")
        state["vision_encoder.pos_embed"] = resized.permute(0, 2, 3, 1).contiguous()
    for block in config.vision_config.global_attn_indexes:
        for axis in ("h", "w"):
            name = f"vision_encoder.layers.{block}.attn.rel_pos_{axis}"
            if name in state:
                resized = functional.interpolate(state[name].T[None], 2 * grid - 1, mode="linear")
                state[name] = resized[0].T.contiguous()
    return _assembled(config, state)


def _from_meta(state: dict[str, Tensor], source: str) -> SamModel:
    try:
        return _assembled(meta.infer_config(state), meta.from_meta_names(state))
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from error
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{source}: its tensors' shapes are not those of a SAM ({error}).") from error


def _assembled(config: SamConfig, state: dict[str, Tensor]) -> SamModel:
    """A SAM with these tensors, without drawing random weights first."""
    with torch.device("meta"):
        sam = SamModel(config)
    table = state["shared_image_embedding.positional_embedding"]
    state = {**state, "prompt_encoder.shared_embedding.positional_embedding": table}
    wanted = {name: tensor.shape for name, tensor in sam.state_dict().items()}
    wrong = [f"'{name}' is missing" for name in sorted(wanted.keys() - state.keys())]
    wrong += [f"'{name}' is not part of SAM" for name in sorted(state.keys() - wanted.keys())]
    wrong += [
        f"'{name}' has shape {tuple(state[name].shape)}, expected {tuple(shape)}"
        for name, shape in wanted.items()
        if name in state and state[name].shape != shape
    ]
    if wrong:
        raise CheckpointError(f"{len(wrong)} tensors do not fit a SAM of this size: {'; '.join(wrong[:8])}.")
    # Copies, so that nothing shares memory with the file or with the model it came from.
    sam.load_state_dict({name: tensor.detach().float().clone() for name, tensor in state.items()}, assign=True)
    sam.tie_weights()
    return sam


def _require_weights(config: SamConfig, folder: Path) -> None:
    """Compare what a configuration asks for with what the files hold, before memory is taken for it."""
    vision: Any = config.vision_config
    if not (0 < vision.num_hidden_layers <= 1000 and 0 < vision.image_size <= 4096):
        raise CheckpointError(
            f"{folder / 'config.json'}: expected at most 1000 layers and images of at most 4096 pixels, got "
            f"{vision.num_hidden_layers} and {vision.image_size}."
        )
    with torch.device("meta"):
        wanted = sum(parameter.numel() for parameter in SamModel(config).parameters())
    held = sum(path.stat().st_size for path in folder.iterdir() if path.suffix in (".safetensors", ".bin"))
    if wanted > held:  # a byte for each number is the least
        raise CheckpointError(
            f"{folder}: config.json asks for {wanted} parameters, but the weights have {held} bytes. One of the files "
            "is damaged or of another model; copy or fetch it again."
        )


def _from_folder(folder: Path) -> SamModel:
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder}: expected a model folder with config.json and model.safetensors.")
    try:
        config = SamConfig.from_pretrained(folder)
        if config.model_type != "sam":
            raise CheckpointError(f"{folder}: expected a model of type 'sam', got '{config.model_type}'.")
        _require_weights(config, folder)
        # The library's own bar counts tensors, not bytes; only fetching shows a bar here.
        transformers.utils.logging.disable_progress_bar()
        loaded: Any = SamModel.from_pretrained(
            folder, config=config, dtype=torch.float32, local_files_only=True, output_loading_info=True
        )
    except CheckpointError:
        raise
    except Exception as error:  # a damaged config.json or model.safetensors shows in many ways
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise CheckpointError(f"{folder}: cannot be loaded as a SAM ({reason}). Copy or fetch it again.") from error
    sam, info = loaded
    missing = sorted(info["missing_keys"])
    if missing or info["mismatched_keys"]:
        raise CheckpointError(f"{folder}: tensors missing or of the wrong shape: {', '.join(missing[:8])}.")
    return sam
