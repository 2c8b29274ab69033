"""Settings of what a method adds, read from a description: exact, whatever their dataclass says of that."""

import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Annotated, Any, ClassVar

import pytest
from pydantic import ConfigDict, Field, ValidationError

from sam_adapter.checkpoints import description


@dataclass(frozen=True)
class Inner:
    scale: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Plain:
    """A method's settings, with nothing said about how they are checked."""

    width: Annotated[int, Field(ge=1)]
    neck: bool = True
    sizes: tuple[int, ...] = ()
    inner: Inner = Inner()

    def __post_init__(self) -> None:
        if self.width == 13:
            raise ValueError("13 is no width")


@dataclass(frozen=True, kw_only=True)
class Lax(Plain):
    """Settings that ask to be checked loosely."""

    __pydantic_config__: ClassVar = ConfigDict(strict=False, extra="allow", allow_inf_nan=True)


GOOD: dict[str, Any] = {"width": 2, "neck": False, "sizes": [1, 2], "inner": {"scale": 0.5}}


def read(monkeypatch: pytest.MonkeyPatch, own: type, adapter: dict[str, Any]) -> Any:
    monkeypatch.setattr(description, "method_named", lambda _: SimpleNamespace(settings_type=own))
    found: Any = SimpleNamespace(name="other", adapter=adapter)
    return description.added_settings(found)


both = pytest.mark.parametrize("own", [Plain, Lax])


@both
def test_what_is_given_becomes_the_methods_own_type(monkeypatch: pytest.MonkeyPatch, own: type):
    found = read(monkeypatch, own, GOOD)
    assert type(found) is own
    assert found == own(width=2, neck=False, sizes=(1, 2), inner=Inner(0.5))


@both
@pytest.mark.parametrize(
    ("changes", "place", "kind"),
    [
        ({"neck": "yes"}, ("neck",), "bool_type"),
        ({"neck": 1}, ("neck",), "bool_type"),
        ({"width": "2"}, ("width",), "int_type"),
        ({"width": 0}, ("width",), "greater_than_equal"),
        ({"width": 13}, (), "value_error"),
        ({"more": 1}, ("more",), "unexpected_keyword_argument"),
        ({"sizes": [1.0]}, ("sizes", 0), "int_type"),
        ({"inner": {"scale": math.nan}}, ("inner", "scale"), "finite_number"),
        ({"inner": {"scale": "1"}}, ("inner", "scale"), "float_type"),
    ],
    ids=str,
)
def test_nothing_is_converted_or_left_out(
    monkeypatch: pytest.MonkeyPatch, own: type, changes: dict[str, Any], place: tuple, kind: str
):
    with pytest.raises(ValidationError) as error:
        read(monkeypatch, own, {**GOOD, **changes})
    (problem,) = error.value.errors()
    assert (problem["loc"], problem["type"]) == (place, kind)


@both
def test_a_default_does_not_stand_for_what_a_file_lacks(monkeypatch: pytest.MonkeyPatch, own: type):
    with pytest.raises(ValidationError) as error:
        read(monkeypatch, own, {"width": 0})
    assert {problem["loc"][0] for problem in error.value.errors()} == {"width", "neck", "sizes", "inner"}
