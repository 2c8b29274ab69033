"""What the registries say of their entries is what options, help texts and refusals go by."""

import re
from pathlib import Path
from typing import Any, cast

import pytest

from sam_adapter.config import choices
from sam_adapter.config.arguments import parse
from sam_adapter.config.registry import ALL_PARTS, LOSSES, METHODS, TASKS, MethodEntry
from sam_adapter.config.training import TrainConfig
from sam_adapter.errors import ConfigError


def config(**options: Any) -> TrainConfig:
    return TrainConfig(**{"images": "i", "masks": "m", "model": "tiny", "output": "o", **options})


@pytest.fixture
def entry(monkeypatch: pytest.MonkeyPatch):
    """Puts another entry in the place of method decoder, as options are choices among the names that there are."""
    methods = cast(dict[str, MethodEntry], METHODS)

    def replaced(**known: Any) -> None:
        monkeypatch.setitem(methods, "decoder", MethodEntry(METHODS["decoder"].place, **known))

    return replaced


def test_what_adds_something_can_be_trained_alone(entry):
    with pytest.raises(ConfigError, match="parts: method decoder would train nothing"):
        config(method="decoder", parts=())
    entry(adds=True)
    assert config(method="decoder", parts=()).trained_parts == ()


def test_the_entry_has_the_parts_that_are_trained(entry):
    assert config(method="decoder").trained_parts == ("mask_decoder",)
    entry(parts=("prompt_encoder",))
    assert config(method="decoder").trained_parts == ("prompt_encoder",)
    assert config(method="decoder", parts=["image_encoder"]).trained_parts == ("image_encoder",)
    entry(parts=("prompt_encoder", "mask_decoder"), parts_fixed=True, text="this and that")
    assert config(method="decoder", parts=["mask_decoder", "prompt_encoder"])
    with pytest.raises(ConfigError, match="parts: method decoder trains this and that; choose"):
        config(method="decoder", parts=["mask_decoder"])


def test_parts_can_be_chosen_with_the_methods_that_are_named():
    assert set(config(method="full").trained_parts) == set(ALL_PARTS)
    with pytest.raises(ConfigError, match=r"parts: method full trains all of SAM; choose parts with method decoder\."):
        config(method="full", parts=["mask_decoder"])


def test_embeddings_are_kept_where_neither_an_addition_nor_a_part_changes_the_encoder(entry):
    kept = {"method": "decoder", "embedding_cache": "kept"}
    assert config(**kept).embedding_cache == Path("kept")
    for known in ({"adds": True}, {"adds": False, "parts": ("image_encoder",)}):
        entry(**known)
        with pytest.raises(ConfigError, match="embedding_cache: the image encoder changes"):
            config(**kept)


def test_the_help_shows_all_that_is_registered(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        parse("train", ["--help"])
    text = re.sub(r"-\s+", "-", capsys.readouterr().out)
    found = {name: " ".join(rest.split()) for name, rest in re.findall(r"\n  --(\w+) (.*?)(?=\n  --)", text, re.DOTALL)}
    assert f"Known are {', '.join(LOSSES)}." in found["loss"]
    for option, registry in (("method", METHODS), ("task", TASKS)):
        for name, one in registry.items():
            assert one.text
            assert f"'{name}': {one.text}" in found[option]


def test_a_loss_may_have_digits_in_its_name(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(choices, "LOSSES", {**LOSSES, "focal2": "somewhere:else"})
    assert choices.parse_loss("focal2") == {"focal2": 1.0}
    assert choices.parse_loss("2*focal2+0.5*bce") == {"focal2": 2.0, "bce": 0.5}
    for text in ("2focal2", "2", "focal2*2"):
        with pytest.raises(ConfigError, match="is not a loss"):
            choices.parse_loss(text)
