"""All that decides how the files of a set are read; stored with the run and the adapter."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from .brightness import Brightness
from .values import MaskTable


@dataclass(frozen=True, kw_only=True)
class ReadingRules:
    """How pictures and masks of a set are read.

    Attributes:
        masks: What mask values mean; None where no masks were looked at.
        brightness: Scale of pictures of more than 8 bits; None if the set has none.
        pages: Pages of a file with several that are read.
    """

    masks: MaskTable | None = None
    brightness: Brightness | None = None
    pages: Literal["first", "all"] = "first"

    def to_json(self) -> dict[str, Any]:
        """The rules as plain JSON values."""
        return {
            "masks": None if self.masks is None else self.masks.to_json(),
            "brightness": None if self.brightness is None else self.brightness.to_json(),
            "pages": self.pages,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave."""
        masks, brightness = values["masks"], values["brightness"]
        return cls(
            masks=None if masks is None else MaskTable.from_json(masks),
            brightness=None if brightness is None else Brightness.from_json(brightness),
            pages=values["pages"],
        )
