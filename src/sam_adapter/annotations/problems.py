"""What is wrong with entries of annotation files."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class AnnotationProblem:
    """Something that is wrong with one entry of an annotation file.

    Attributes:
        path: The file.
        text: The entry and what is wrong with it, a sentence without its full stop.
        cure: What helps, the same.
        image: The image that the entry is about, if it is known; its record is left out.
        remark: The entry is used all the same, and so is its image: something to say, no fault.
        kind: Of the remark.
    """

    path: Path
    text: str
    cure: str
    image: Path | None = None
    remark: bool = False
    kind: str = "odd_annotations"

    def __str__(self) -> str:
        return f"{self.path}: {self.text}. What helps: {self.cure}."


class EntryError(Exception):
    """What is wrong with an entry of an annotation file, without the entry and the file; never seen by a user.

    Args:
        text: Follows the name of the entry: ``has a polygon of 2 points; expected 3 or more``.
        cure: What helps.
        remark: See `AnnotationProblem.remark`.
    """

    def __init__(self, text: str, cure: str, *, remark: bool = False) -> None:
        self.text, self.cure, self.remark = text, cure, remark
        super().__init__(text)
