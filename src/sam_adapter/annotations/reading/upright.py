"""A picture in Pillow's memory, and the orientation that is applied to what is copied out of it."""

from typing import NamedTuple

from PIL import Image

from .raster import Raster, raster_of_image


class UprightImage(NamedTuple):
    """A loaded image with its EXIF orientation.

    Attributes:
        image: As it is stored.
        orientation: 1 is upright.
    """

    image: Image.Image
    orientation: int = 1

    @property
    def deep(self) -> bool:
        """Whether it has more than 8 bits a channel."""
        return self.image.mode[0] in "IF"

    @property
    def is_picture(self) -> bool:
        """Whether it is upright and grey or RGB of 8 bits: what SAM wants, but for the repeated grey."""
        return self.image.mode in ("L", "RGB") and not 2 <= self.orientation <= 8

    @property
    def height(self) -> int:
        """Number of upright rows."""
        return self.image.width if self.orientation in (5, 6, 7, 8) else self.image.height

    def raster(self) -> Raster:
        """All its numbers, upright."""
        return raster_of_image(self.image).turned(self.orientation)

    def rows(self, top: int, bottom: int) -> Raster:
        """The numbers of some upright rows, which are columns of an image that lies on its side."""
        width, height = self.image.size
        if self.orientation in (3, 4):
            box = (0, height - bottom, width, height - top)
        elif self.orientation in (5, 6):
            box = (top, 0, bottom, height)
        elif self.orientation in (7, 8):
            box = (width - bottom, 0, width - top, height)
        else:
            box = (0, top, width, bottom)
        return raster_of_image(self.image.crop(box)).turned(self.orientation)
