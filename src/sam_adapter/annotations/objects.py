"""Objects as annotation files outline them: by polygons, run lengths, or a mask file each."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError


@dataclass(frozen=True, eq=False, kw_only=True)
class AnnotatedObject:
    """One object of an image; polygons, run lengths and mask file exclude one another.

    Attributes:
        class_name: As the annotation names it.
        polygons: ``(n, 2)`` float64 XY pixels each, the corner of the first pixel being (0, 0); their union is the
            object.
        run_lengths: What ``pycocotools.mask`` decodes: ``{"size": [H, W], "counts": bytes}``.
        file: A mask of the object alone, at the image's size; the set's table of mask values says what is foreground.
        void: The annotation says nothing about what lies in it.
        entry: Where it stands in its file, for errors: ``annotations[3] (id 17)``.
    """

    class_name: str
    polygons: tuple[np.ndarray, ...] = ()
    run_lengths: dict[str, Any] | None = None
    file: Path | None = None
    void: bool = False
    entry: str = ""

    def area(self, size: tuple[int, int]) -> int:
        """Pixels of the object in an image ``(H, W)``; of an object without `file`."""
        from pycocotools import mask as coco

        return int(coco.area(self._run_lengths(size)))

    def mask(self, size: tuple[int, int]) -> np.ndarray:
        """Where the object is, as COCO's own code fills polygons.

        Args:
            size: ``(H, W)`` of the image.

        Returns:
            ``(H, W)`` bool; of an object without `file`.

        Raises:
            DataError: If the run lengths are of another size.
        """
        from pycocotools import mask as coco

        return coco.decode(self._run_lengths(size)).astype(bool)

    def _run_lengths(self, size: tuple[int, int]) -> Any:
        from pycocotools import mask as coco

        height, width = size
        lengths: Any = self.run_lengths
        if lengths is None:
            flat = [polygon.ravel().tolist() for polygon in self.polygons]
            lengths = coco.merge(coco.frPyObjects(flat, height, width))
        if list(lengths["size"]) != [height, width]:
            had = "x".join(map(str, reversed(lengths["size"])))
            raise DataError(f"{self.entry}: run lengths of {had} pixels for an image of {width}x{height}.")
        return lengths
