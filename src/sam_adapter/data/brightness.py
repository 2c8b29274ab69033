"""One scale from the numbers in pictures of more than 8 bits to brightness 0-255, for a whole set."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

Span = tuple[float, float]
"""The values that become 0 and 255; what lies outside is cut off."""


@dataclass(frozen=True, kw_only=True)
class Brightness:
    """The scale of a set; pictures of 8 bits are taken as they are.

    Attributes:
        integer: For integers of more than 8 bits; None if the set has none.
        floating: For floating point; the same.
        no_data: Values that stand for missing pixels; they become black, as NaN and infinities do.
    """

    integer: Span | None = None
    floating: Span | None = None
    no_data: tuple[float, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The scale as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave."""

        def span(pair: Any) -> Span | None:
            return None if pair is None else (float(pair[0]), float(pair[1]))

        return cls(
            integer=span(values["integer"]),
            floating=span(values["floating"]),
            no_data=tuple(float(value) for value in values["no_data"]),
        )
