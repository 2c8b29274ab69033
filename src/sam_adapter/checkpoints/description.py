"""The schema of ``adapter_config.json``: every field with its type and range, and the way from older formats.

Sizes are bounded here, before anything is built from them, so that no description can ask for more memory than a real
adapter needs.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..annotations.reading.rules import ReadingRules
from ..config.options import Method, Part, PromptKind, Resize
from ..errors import CheckpointError
from ..methods.base import MethodSettings
from ..methods.sam_adapter.module import AdapterSettings
from ..preprocessing import Preprocessing

FORMAT = 2
LARGEST_FILE = 4 << 20
"""Bytes of the longest description that is read; real ones have a few thousand."""

Share = Annotated[float, Field(ge=0, le=1)]
Width = Annotated[int, Field(ge=1, le=65536)]
Name = Annotated[str, Field(min_length=1, max_length=4096)]
Scores = dict[Name, float]
Level = Annotated[float, Field(ge=-1e6, le=1e6)]
Spread = Annotated[float, Field(ge=1e-3, le=1e6)]


class _Fields(BaseModel):
    """Fields that are all known, of exactly their type, and finite."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class _Adapter(_Fields):
    """See `AdapterSettings`."""

    tune_dim: Width
    hidden_dim: Width
    high_frequency_rate: Share
    embedding_from: Literal["before_position", "after_position"]
    neck_prompt: bool
    activation: Literal["gelu", "relu", "silu"]
    use_high_frequency: bool
    use_embedding: bool
    share_up: bool
    adapter_init: Literal["default", "paper", "zero"]
    misread_embedding: bool

    @model_validator(mode="after")
    def _has_an_input(self) -> Self:
        if not (self.use_high_frequency or self.use_embedding):
            raise ValueError("one of use_high_frequency and use_embedding must be true")
        return self


class _Method(_Fields):
    """See `MethodSettings`."""

    name: Literal[Method, "none"]
    parts: Annotated[tuple[Part, ...], Field(max_length=3)]
    adapter: _Adapter | None
    carried: Annotated[tuple[Name, ...], Field(max_length=10_000)]

    @model_validator(mode="after")
    def _adapter_belongs_to_its_method(self) -> Self:
        if (self.name == "sam_adapter") != (self.adapter is not None):
            raise ValueError("method sam_adapter needs the settings of its adapter, and no other method has any")
        return self


class _Base(_Fields):
    """See `BaseIdentity`."""

    family: Literal["sam"]
    name: Name
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Preprocessing(_Fields):
    """See `Preprocessing`."""

    image_size: Annotated[int, Field(ge=1, le=4096)]
    resize: Resize
    mean: tuple[Level, Level, Level]
    std: tuple[Spread, Spread, Spread]


class Description(_Fields):
    """What an adapter folder says about itself.

    Attributes:
        format: Version of this schema.
        method: What was added and trained, with all settings.
        base: The SAM it belongs to.
        preprocessing: How pictures become the encoder's input.
        reading: How files become pictures and masks; None for the program's own rules.
        prompt: Kind of prompt it was trained with.
        threshold: Probability above which a pixel is foreground.
        best_thresholds: The best one on validation for each kind of prompt.
        classes: Names of what the masks show.
        scores: Validation scores of the adapter.
        frozen_scores: Those of its base without the adapter, on the same pictures.
        epoch: Which epoch it comes from, counted from 1; None if it was not trained here.
        epochs: How many the run was to have.
        warnings: What its user should know, a sentence each.
        versions: Of the program and the libraries that wrote it.
    """

    format: Literal[2] = FORMAT
    method: _Method
    base: _Base
    preprocessing: _Preprocessing
    reading: ReadingRules | None
    prompt: PromptKind
    threshold: Share
    best_thresholds: dict[Literal["box", "points", "none"], Share]
    classes: tuple[Name, ...]
    scores: Scores
    frozen_scores: Scores
    epoch: Annotated[int, Field(ge=0, le=10**9)] | None
    epochs: Annotated[int, Field(ge=0, le=10**9)] | None
    warnings: tuple[str, ...]
    versions: dict[Name, Name]

    @property
    def method_settings(self) -> MethodSettings:
        """How it was trained."""
        adapter = self.method.adapter
        return MethodSettings(
            name=self.method.name,
            parts=self.method.parts,
            adapter=AdapterSettings(**adapter.model_dump()) if adapter else None,
            carried=self.method.carried,
        )

    @property
    def preprocessing_settings(self) -> Preprocessing:
        """How pictures become its input."""
        return Preprocessing(**self.preprocessing.model_dump())

    def to_json(self) -> str:
        """The text of the file."""
        return json.dumps(self.model_dump(mode="json"), indent=2) + "\n"


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
    try:
        # As JSON, because there lists may stand for tuples while nothing else is converted.
        return Description.model_validate_json(json.dumps(values))
    except ValidationError as error:
        problems = [_sentence(problem) for problem in error.errors(include_url=False, include_context=False)]
        shown = [*problems[:20], *([f"and {len(problems) - 20} more."] if len(problems) > 20 else [])]
        raise CheckpointError("\n".join(f"{path}: {one}" for one in shown)) from error


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


def _sentence(problem: Any) -> str:
    """One of pydantic's findings as a sentence."""
    place = ".".join(str(part) for part in problem["loc"]) or "the description"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "missing":
        return f"{place} is missing."
    if problem["type"] == "extra_forbidden":
        return f"{place} is not known."
    return f"{place}: {message[0].lower()}{message[1:]}, got {_shown(problem['input'])}."


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _from_1(values: dict[str, Any]) -> dict[str, Any]:
    """Format 1 knew neither rules of reading nor the frozen base's scores, the epoch, warnings, or best thresholds."""
    added = {"reading": None, "best_thresholds": {}, "frozen_scores": {}, "epoch": None, "epochs": None, "warnings": []}
    return {**added, **values, "format": 2}


MIGRATIONS = (_from_1,)
"""From each format to the next, the first from format 1."""
