"""All that decides how the files of a set are read; stored with the run and the adapter."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Literal, Self

from pydantic import TypeAdapter, ValidationError

from ...config.choices import Pages
from ..listing import Record
from .brightness import Brightness
from .classes import Classes
from .values import MaskTable, Value


@dataclass(frozen=True, kw_only=True)
class ReadingRules:
    """How pictures and masks of a set are read.

    Attributes:
        masks: What mask values mean; None where no masks were looked at.
        brightness: Scale of pictures of more than 8 bits; None if the set has none.
        pages: Pages of a file with several that are read.
        classes: The classes, of a set whose pixels or objects have classes; None if there are none.
        objects: Of a set with objects, what mask files say of them: a number each, or foreground or classes whose
            connected parts are the objects; or annotations outline them. None if objects are not told apart.
        void_numbers: Of mask files that number objects, the values that say nothing.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    masks: MaskTable | None = None
    brightness: Brightness | None = None
    pages: Pages = "first"
    classes: Classes | None = None
    objects: Literal["numbers", "parts", "outlines"] | None = None
    void_numbers: tuple[Value, ...] = ()

    def known_for(self, record: Record) -> bool:
        """Whether all is decided that an annotation is read by."""
        if record.objects is None:
            if self.objects == "numbers":
                return True
            return self.classes is not None or (self.masks is not None and bool(self.masks.tables))
        return not record.mask_files or (self.masks is not None and bool(self.masks.tables))

    def with_brightness_of(self, other: "ReadingRules | None") -> "ReadingRules":
        """These rules with the brightness that an adapter was trained with, where it has one."""
        if other is None or other.brightness is None:
            return self
        return replace(self, brightness=other.brightness.completed_by(self.brightness))

    def to_json(self) -> dict[str, Any]:
        """The rules as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave.

        Raises:
            ValueError: If a key is missing or unknown, or a value is wrong; all of them in one sentence.
        """
        try:
            rules = TypeAdapter(cls).validate_python(dict(values))
        except ValidationError as error:
            problems = [f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors()]
            raise ValueError("; ".join(problems)) from error
        missing = {"masks", "brightness", "pages"} - set(values)
        if missing:
            raise ValueError(f"{', '.join(sorted(missing))}: missing")
        return rules
