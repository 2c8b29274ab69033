"""Remarks about classes and annotated objects: what its owner should know although nothing is faulty."""

from collections.abc import Sequence

from ...annotations.listing import Listing, Record
from ...annotations.reading.classes import Classes
from ...errors import amount
from .findings import PairLook, Remark

_RARE = 0.02
"""Share of the pictures below which a class is called rare."""
_FEW = 3
"""Pictures below which it is called so in a set of any size."""
_OVERLAP = 0.01
_SHOWN = 5


def class_remarks(pairs: Sequence[tuple[Record, PairLook]], classes: Classes | None) -> list[Remark]:
    """What should be known of the classes and objects of a set."""
    found = [*_absent_and_rare(pairs, classes), *_pieces(pairs)]
    if overlapping := tuple(record.shown for record, look in pairs if look.overlap > _OVERLAP):
        text = (
            f"in {amount(len(overlapping), 'picture')} annotated objects overlap; where they do, the later one of the "
            "file counts"
        )
        cure = "nothing, if that is meant; else order or cut the objects"
        found.append(Remark("overlapping_objects", tuple(dict.fromkeys(overlapping)), text, cure))
    return found


def listing_remarks(listing: Listing) -> list[Remark]:
    """What is odd in annotation files though it is read all the same."""
    found = []
    if listing.unlisted:
        text = (
            f"the annotations do not speak of {amount(len(listing.unlisted), 'image')} of the folder; they are left out"
        )
        found.append(Remark("unlisted_images", tuple(listing.unlisted), text, "nothing, if that is meant"))
    odd = [one for one in listing.problems if one.remark]
    for kind, cure in dict.fromkeys((one.kind, one.cure) for one in odd):
        alike = [one for one in odd if (one.kind, one.cure) == (kind, cure)]
        more = f" and {len(alike) - _SHOWN} more entries" if len(alike) > _SHOWN else ""
        text = "; ".join(one.text for one in alike[:_SHOWN]) + more
        found.append(Remark(kind, tuple(dict.fromkeys(one.path for one in alike)), text, cure))
    return found


def _absent_and_rare(pairs: Sequence[tuple[Record, PairLook]], classes: Classes | None) -> list[Remark]:
    if classes is None or not pairs:
        return []
    pictures = {
        name: [record.shown for record, look in pairs if any(one.label == label for one in look.classes)]
        for label, name in enumerate(classes.names, start=1)
    }
    remarks = []
    if absent := [name for name, files in pictures.items() if not files]:
        text = f"no picture has the {'class' if len(absent) == 1 else 'classes'} {', '.join(absent)}"
        remarks.append(Remark("unused_classes", (), text, "leave them out of --classes, if they are not needed"))
    limit = max(_RARE * len(pairs), _FEW)
    rare = {name: files for name, files in pictures.items() if 0 < len(files) < limit}
    if rare and len(pairs) > _FEW:
        named = ", ".join(f"{name} ({len(files)})" for name, files in rare.items())
        text = f"few pictures have the {'class' if len(rare) == 1 else 'classes'} {named}"
        files = tuple(dict.fromkeys(file for files in rare.values() for file in files))
        remarks.append(Remark("rare_classes", files, text, "train with '--balance', or annotate more of them"))
    return remarks


def _pieces(pairs: Sequence[tuple[Record, PairLook]]) -> list[Remark]:
    files, count = [], 0
    for record, _ in pairs:
        pieces = sum(len(one.polygons) > 1 and not one.void for one in record.objects or ())
        if pieces:
            files.append(record.shown)
            count += pieces
    if not count:
        return []
    text = f"{amount(count, 'annotated object', 'consist')} of several outlines; they count as one object each"
    return [Remark("objects_in_pieces", tuple(dict.fromkeys(files)), text)]
