"""What the values of mask files mean: one table for a whole set, value to background, foreground or void."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

Value = tuple[float, ...]
"""A mask value as it is in the file: ``(v,)``, or ``(red, green, blue)``."""

Storage = Literal["1 bit", "8 bit", "16 bit", "32 bit", "float", "palette", "colour", "alpha"]
"""How a mask file holds its values. Each storage has values of its own: 255 is white in 8 bits and nothing in 16."""

Meaning = Literal["background", "foreground", "void"]
BACKGROUND, FOREGROUND, VOID = 0, 1, 2


@dataclass(frozen=True, kw_only=True)
class ValueTable:
    """What the values of one storage mean.

    Attributes:
        storage: The files it is for.
        rule: ``values``: exactly ``low`` is background and ``high`` foreground. ``half``: cut half way from ``low`` to
            ``high`` (of colours along the line between them). ``nonzero``: all but 0 (or black) is foreground.
        low: Background; None if no file has any, or the rule does not need it.
        high: Foreground; the same.
        void: Values that count neither as background nor as foreground.
    """

    storage: Storage
    rule: Literal["values", "half", "nonzero"]
    low: Value | None = None
    high: Value | None = None
    void: tuple[Value, ...] = ()


@dataclass(frozen=True, kw_only=True)
class MaskTable:
    """What the values of all mask files of a set mean.

    Attributes:
        tables: One for each storage that the files have.
        inverted: Foreground and background are exchanged after the tables.
    """

    tables: tuple[ValueTable, ...]
    inverted: bool = False

    def for_storage(self, storage: Storage) -> ValueTable | None:
        """The table for files of a storage, if the set has any."""
        return next((table for table in self.tables if table.storage == storage), None)

    def to_json(self) -> dict[str, Any]:
        """The table as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave."""
        return cls(tables=tuple(_table(one) for one in values["tables"]), inverted=values["inverted"])


def _table(values: Mapping[str, Any]) -> ValueTable:
    def value(one: Any) -> Value | None:
        return None if one is None else tuple(one)

    return ValueTable(
        storage=values["storage"],
        rule=values["rule"],
        low=value(values["low"]),
        high=value(values["high"]),
        void=tuple(tuple(one) for one in values["void"]),
    )
