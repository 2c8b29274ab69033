"""The schema of ``sam_adapter.json``: every field with its type and range, and the way from older formats.

Sizes are bounded here, before anything is built from them, so that no description can ask for more memory than a real
adapter needs.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import fields, make_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_type_hints

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from ..annotations.reading.classes import MOST_CLASSES
from ..annotations.reading.rules import ReadingRules
from ..backbones.families import FAMILIES
from ..config.choices import AskedKind, Interpolation, PromptKind, Resize, Restore
from ..config.registry import METHODS, TASKS, Part
from ..config.tiles import SMALLEST_TILE
from ..errors import CheckpointError
from ..methods.base import MethodSettings, method_named
from ..preprocessing import Preprocessing
from ..tiling.grid import Tiling

FORMAT = 5
LARGEST_FILE = 4 << 20
"""Bytes of the longest description that is read; real ones have a few thousand."""

Share = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(min_length=1, max_length=4096)]
Scores = dict[Name, float]
Level = Annotated[float, Field(ge=-1e6, le=1e6)]
Spread = Annotated[float, Field(ge=1e-3, le=1e6)]


_STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


def _among(names: Iterable[str]) -> Callable[[str], str]:
    """A check that a value is one of some names."""

    def check(value: str) -> str:
        if value not in names:
            raise ValueError(f"input should be one of {', '.join(names)}")
        return value

    return check


class _Fields(BaseModel):
    """Fields that are all known, of exactly their type, and finite."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class _Method(_Fields):
    """See `MethodSettings`; the settings of what it adds are checked by `added_settings`."""

    name: Annotated[str, AfterValidator(_among((*METHODS, "none")))]
    parts: Annotated[tuple[Part, ...], Field(max_length=3)]
    adapter: dict[str, Any] | None
    carried: Annotated[tuple[Name, ...], Field(max_length=10_000)]
    prepare_frozen: bool

    @model_validator(mode="after")
    def _adapter_belongs_to_its_method(self) -> Self:
        if (method_named(self.name).settings_type is None) != (self.adapter is None):
            raise ValueError("'adapter' has the settings of what the method adds, and is null if it adds nothing")
        return self


class _Base(_Fields):
    """See `BaseIdentity`."""

    family: Annotated[str, AfterValidator(_among(FAMILIES))]
    name: Name
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Preprocessing(_Fields):
    """See `Preprocessing`."""

    image_size: Annotated[int, Field(ge=1, le=4096)]
    resize: Resize
    interpolation: Interpolation
    restore: Restore
    mean: tuple[Level, Level, Level]
    std: tuple[Spread, Spread, Spread]

    @model_validator(mode="after")
    def _padding_is_undone_in_the_square(self) -> Self:
        if self.restore == "direct" and self.resize == "pad":
            raise ValueError("'restore' should be 'square' where 'resize' is 'pad'")
        return self


class _Tiles(_Fields):
    """See `Tiling`."""

    tile: Annotated[int, Field(ge=SMALLEST_TILE, le=65_536)]
    overlap: Annotated[int, Field(ge=0, le=65_535)]

    @model_validator(mode="after")
    def _overlap_is_less(self) -> Self:
        if self.overlap >= self.tile:
            raise ValueError(f"'overlap' should be less than 'tile', which is {self.tile}")
        return self


class Description(_Fields):
    """What an adapter folder says about itself.

    Attributes:
        format: Version of this schema.
        method: What was added and trained, with all settings.
        base: The SAM it belongs to.
        preprocessing: How pictures become the encoder's input.
        reading: How files become pictures and masks; None for the program's own rules.
        task: What it is asked.
        prompt: Kind of prompt it was trained with.
        threshold: Probability above which a pixel is foreground.
        best_thresholds: The best one on validation for each kind of prompt.
        core_rise: The best one on validation, see `split_objects`; None takes no peaks.
        classes: Names of what the masks show.
        class_tokens: Tokens of the learned prompt of each class; 0 if classes have none.
        tiles: How pictures were cut in training; None, and not written, where they were whole.
        scores: Validation scores of the adapter.
        frozen_scores: Those of its base without the adapter, on the same pictures.
        epoch: Which epoch it comes from, counted from 1; None if it was not trained here.
        epochs: How many the run was to have.
        warnings: What its user should know, a sentence each.
        versions: Of the program and the libraries that wrote it.
    """

    format: Literal[5] = FORMAT
    method: _Method
    base: _Base
    preprocessing: _Preprocessing
    reading: ReadingRules | None
    task: Annotated[str, AfterValidator(_among(TASKS))] = "binary"
    prompt: PromptKind
    threshold: Share
    best_thresholds: dict[AskedKind, Share]
    core_rise: Annotated[float, Field(gt=0, le=1)] | None
    classes: Annotated[tuple[Name, ...], Field(max_length=MOST_CLASSES)]
    class_tokens: Annotated[int, Field(ge=0, le=256)]
    tiles: _Tiles | None = None
    scores: Scores
    frozen_scores: Scores
    epoch: Annotated[int, Field(ge=0, le=10**9)] | None
    epochs: Annotated[int, Field(ge=0, le=10**9)] | None
    warnings: tuple[str, ...]
    versions: dict[Name, Name]

    @property
    def method_settings(self) -> MethodSettings:
        """How it was trained."""
        method = self.method
        return MethodSettings(
            name=method.name,
            parts=method.parts,
            adapter=added_settings(method),
            carried=method.carried,
            prepare_frozen=method.prepare_frozen,
        )

    @property
    def preprocessing_settings(self) -> Preprocessing:
        """How pictures become its input."""
        return Preprocessing(**self.preprocessing.model_dump())

    @property
    def tiling(self) -> Tiling | None:
        """How pictures are cut."""
        return None if self.tiles is None else Tiling(**self.tiles.model_dump())

    def to_json(self) -> str:
        """The text of the file."""
        left_out = {"tiles"} if self.tiles is None else None
        return json.dumps(self.model_dump(mode="json", exclude=left_out), indent=2) + "\n"


def read_description(path: Path) -> Description:
    """Read and check a description; one of an older format is migrated.

    Raises:
        CheckpointError: With all fields that are missing, unknown, of a wrong type or out of range.
    """
    values = _json_object(path)
    found = values.get("format")
    if type(found) is not int or found < 1:
        raise CheckpointError(
            f"{path}: not an adapter description; expected 'format' to be a whole number from 1 to {FORMAT}, "
            f"got {_shown(found)}."
        )
    if found > FORMAT:
        raise CheckpointError(
            f"{path}: adapter format {found} is newer than this program knows ({FORMAT}); upgrade sam-adapter."
        )
    for migrate in MIGRATIONS[found - 1 :]:
        values = migrate(values)
    place: list[str] = []
    try:
        # As JSON, because there lists may stand for tuples while nothing else is converted.
        description = Description.model_validate_json(json.dumps(values))
        place = ["method", "adapter"]
        added_settings(description.method)
    except ValidationError as error:
        problems = [_sentence(one, place) for one in error.errors(include_url=False, include_context=False)]
        shown = [*problems[:20], *([f"and {len(problems) - 20} more."] if len(problems) > 20 else [])]
        raise CheckpointError("\n".join(f"{path}: {one}" for one in shown)) from error
    return description


def added_settings(method: _Method) -> Any:
    """The settings of what a method adds, as its own type.

    Every field must be given and be of exactly its type, whatever that type says of unknown or converted values.

    Raises:
        ValidationError: If fields are missing, unknown, of a wrong type or out of range.
    """
    own = method_named(method.name).settings_type
    if own is None or method.adapter is None:
        return None
    hints = get_type_hints(own, include_extras=True)
    required: list[tuple[str, Any]] = [(field.name, hints[field.name]) for field in fields(own)]

    def together(given: Any) -> None:
        own(**vars(given))  # what its own __post_init__ says

    strict = {"__pydantic_config__": _STRICT, "__post_init__": together}
    given = TypeAdapter(make_dataclass("Given", required, namespace=strict)).validate_json(json.dumps(method.adapter))
    return own(**vars(given))


def _json_object(path: Path) -> dict[str, Any]:
    try:
        if (size := path.stat().st_size) > LARGEST_FILE:
            raise CheckpointError(f"{path}: expected at most {LARGEST_FILE} bytes of description, got {size}.")
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be read as JSON ({error}). Copy or train the adapter again.") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: expected a JSON object, got {_shown(values)}.")
    return values


def _sentence(problem: Any, prefix: list[str]) -> str:
    """One of pydantic's findings as a sentence."""
    place = ".".join([*prefix, *(str(part) for part in problem["loc"])]) or "the description"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] in ("missing", "missing_keyword_only_argument", "missing_argument"):
        return f"{place} is missing."
    if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{place} is not known."
    return f"{place}: {message[0].lower()}{message[1:]}, got {_shown(problem['input'])}."


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _from_1(values: dict[str, Any]) -> dict[str, Any]:
    """Format 1 knew neither rules of reading nor the frozen base's scores, the epoch, warnings, or best thresholds."""
    added = {"reading": None, "best_thresholds": {}, "frozen_scores": {}, "epoch": None, "epochs": None, "warnings": []}
    return {**added, **values, "format": 2}


def _from_2(values: dict[str, Any]) -> dict[str, Any]:
    """Format 2 knew no learned prompts."""
    return {"class_tokens": 0, **values, "format": 3}


def _from_3(values: dict[str, Any]) -> dict[str, Any]:
    """Format 3 knew one interpolation and way back, nothing frozen in a trained part, and embeddings read once."""
    added = {
        "preprocessing": {"interpolation": "uint8", "restore": "square"},
        "method": {"prepare_frozen": False},
    }
    merged = {name: {**new, **own} for name, new in added.items() if isinstance(own := values.get(name), dict)}
    method = merged.get("method", {})
    if method.get("name") == "sam_adapter" and isinstance(adapter := method.get("adapter"), dict):
        merged["method"] = {**method, "adapter": {"embedding_read": "once", **adapter}}
    return {**values, **merged, "format": 4}


def _from_4(values: dict[str, Any]) -> dict[str, Any]:
    """Format 4 split objects where their cores do not touch."""
    return {"core_rise": None, **values, "format": 5}


MIGRATIONS = (_from_1, _from_2, _from_3, _from_4)
"""From each format to the next, the first from format 1."""
