"""What a source of annotations gives: records of images with their annotation, and all that does not fit."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .objects import AnnotatedObject
from .problems import AnnotationProblem, EntryError


@dataclass(frozen=True)
class Record:
    """One image and its annotation."""

    name: str
    """Path below the folder without extension, ``/`` between folders: ``day1/img_07``; with ``--pages all`` a page
    after the first has its number behind it: ``day1/stack_page2``."""
    image: Path
    mask: Path
    """File, or folder of files, that holds its annotation."""
    page: int = 0
    """Page of both files, counted from 0."""
    objects: tuple[AnnotatedObject, ...] | None = field(default=None, compare=False, repr=False)
    """What the annotation outlines, in the order in which it is painted; None if ``mask`` is a picture of values."""

    @property
    def picture(self) -> tuple[Path, int]:
        """The image's file and page."""
        return self.image, self.page

    @property
    def shown(self) -> Path:
        """The file that remarks about its annotation name: of several images with one annotation file, the image."""
        return self.mask if self.objects is None else self.image

    @property
    def mask_files(self) -> tuple[Path, ...]:
        """The pictures of values that hold its annotation, if any do."""
        if self.objects is None:
            return (self.mask,)
        return tuple(one.file for one in self.objects if one.file is not None)

    @property
    def files(self) -> tuple[Path, ...]:
        """All that it is read from: image, annotation, and the masks of single objects."""
        return tuple(dict.fromkeys((self.image, self.mask, *self.mask_files)))


@dataclass
class Listing:
    """What a source holds.

    Attributes:
        records: Complete pairs, sorted by name.
        images_without_mask: Images that no mask belongs to.
        masks_without_image: Masks that no image belongs to.
        duplicates: Files that share one name.
        ignored: Number of files that are no pictures.
        loops: Symbolic links that lead back to a folder above them.
        unlisted: Images in the folder that the annotation file does not speak of; they are counted as ignored.
        class_names: Classes of the annotated objects in the order of the source, without a background; empty where
            masks are pictures of values.
        problems: What is wrong with annotation files, each with the file.
        groups: Name of a record to the group that it belongs to, where the source has groups.
    """

    records: list[Record] = field(default_factory=list)
    images_without_mask: list[Path] = field(default_factory=list)
    masks_without_image: list[Path] = field(default_factory=list)
    duplicates: list[list[Path]] = field(default_factory=list)
    ignored: int = 0
    loops: list[Path] = field(default_factory=list)
    unlisted: list[Path] = field(default_factory=list)
    class_names: tuple[str, ...] = ()
    problems: list[AnnotationProblem] = field(default_factory=list)
    groups: Mapping[str, str] = field(default_factory=dict)

    def note(self, path: Path, entry: str, error: EntryError, image: Path | None = None) -> None:
        """Add what is wrong with one entry of a file.

        Args:
            path: The file.
            entry: Where in it, for example ``annotations[3] (id 17)``.
            error: What is wrong.
            image: That the entry is about.
        """
        text = f"{entry} {error.text}" if entry else error.text
        self.problems.append(AnnotationProblem(path, printable(text), error.cure, image, remark=error.remark))


def printable(text: str) -> str:
    """Text that can be printed and written as UTF-8, whatever bytes a file's name has."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
