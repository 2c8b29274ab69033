"""Which family a checkpoint of tensors alone is given to."""

from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import SamModel

from conftest import random_sam
from sam_adapter.backbones import load_backbone
from sam_adapter.backbones.families import FAMILIES
from sam_adapter.backbones.sam import SamFamily
from sam_adapter.errors import CheckpointError
from test_convert import meta_name


class Renamed(SamFamily):
    """SAM under other names of tensors."""

    name = "renamed"

    def is_own(self, names: Iterable[str]) -> bool:
        return all(name.startswith("renamed.") for name in names)

    def from_tensors(self, state: dict[str, Tensor], source: str) -> SamModel:
        return super().from_tensors({name.removeprefix("renamed."): one for name, one in state.items()}, source)


META = ("image_encoder.pos_embed", "prompt_encoder.no_mask_embed.weight", "mask_decoder.iou_token.weight")
LATER = ("image_encoder.trunk.pos_embed", "memory_attention.norm.weight", "mask_decoder.iou_token.weight")


HQ = (*META, "mask_decoder.hf_token.weight")


@pytest.mark.parametrize(
    ("names", "own"),
    [
        (HQ, False),
        (META, True),
        (LATER, False),
        (LATER[1:], False),
        (META + LATER[1:], False),
        (META[:2], False),
        ((), False),
    ],
)
def test_sam_knows_its_authors_names(names: tuple[str, ...], own: bool):
    assert SamFamily().is_own(names) == own
    assert SamFamily().is_own(iter(names)) == own


def test_a_checkpoint_is_loaded_by_the_family_that_knows_its_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Also if that stands behind SAM."""
    monkeypatch.setitem(FAMILIES, "renamed", Renamed())
    held = {n: t for n, t in random_sam(heads=8).state_dict().items() if not n.startswith("prompt_encoder.shared_")}
    state = {meta_name(name): tensor.clone() for name, tensor in held.items()}
    save_file(state, tmp_path / "sam.safetensors")
    save_file({f"renamed.{name}": tensor for name, tensor in state.items()}, tmp_path / "renamed.safetensors")
    save_file({name: torch.zeros(1) for name in LATER}, tmp_path / "later.safetensors")
    sam, renamed = (load_backbone(str(tmp_path / f"{name}.safetensors")) for name in ("sam", "renamed"))
    assert sam.identity.sha256 == renamed.identity.sha256
    with pytest.raises(
        CheckpointError, match=r"later.*not a SAM checkpoint: no known family \(sam, .*renamed\) .*trunk"
    ):
        load_backbone(str(tmp_path / "later.safetensors"))
