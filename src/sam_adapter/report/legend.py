"""Names of classes beside their colours, drawn on a picture."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from .drawing import Colour

_SHARE = 36
"""Lines of text that would fill the longer side of a picture."""


def draw_legend(picture: Image.Image, named: Sequence[tuple[str, Colour]]) -> None:
    """Draw a legend in the upper left corner of a picture; nothing if there is nothing to name.

    Args:
        picture: In RGB.
        named: Names and their colours, from above to below.
    """
    if not named:
        return
    height = max(round(max(picture.size) / _SHARE), 9)
    font, gap = ImageFont.load_default(height), max(height // 3, 2)
    width = round(max(font.getlength(name) for name, _ in named)) + height + 3 * gap
    box = (0, 0, min(width, picture.width), min(len(named) * (height + gap) + gap, picture.height))
    ground = Image.blend(picture.crop(box), Image.new("RGB", (box[2], box[3])), 0.65)
    picture.paste(ground, box)
    draw = ImageDraw.Draw(picture)
    for line, (name, colour) in enumerate(named):
        top = gap + line * (height + gap)
        draw.rectangle((gap, top, gap + height, top + height), fill=colour, outline=(255, 255, 255))
        draw.text((2 * gap + height, top + height / 2), name, (255, 255, 255), font, anchor="lm")
