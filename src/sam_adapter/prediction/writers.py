"""Threads that write predictions while the next batch is computed."""

import itertools
import logging
import re
from collections import deque
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Self

import numpy as np
from PIL import Image

from ..annotations.reading.brightness import Brightness
from ..annotations.reading.files import read_image
from ..annotations.reading.pictures import Picture
from ..config.choices import Save
from ..config.commands import PredictConfig
from ..errors import agreed, amount, quoted
from ..report.drawing import overlay_bands
from ..report.legend import draw_legend
from ..system.writing import written_beside
from ..tasks.base import AnyPrediction
from ..tasks.object_prediction import ObjectPrediction
from .objects import ObjectTables

log = logging.getLogger(__name__)

WRITERS = 4
"""Threads that write results; compressing the overlay of a photograph takes longer than a GPU takes to encode it."""
PNG_LEVELS = {"masks": 6, "overlays": 1, "probabilities": 6}
"""Effort of zlib. A photograph takes three times as long at 6 as at 1 and gets an eighth smaller."""


class Writers:
    """Threads that write results while the next batch is computed.

    A thread's error is raised here, in the order of the pictures. After it, or Ctrl-C, files that are being written are
    finished and no further one is begun. Tables of objects that an earlier run left are removed when writing begins;
    its other files are written over, and those that are not are named.

    Args:
        config: What to write and where.
        total: Pictures in all.
        progress: Called with (pictures written, total).
        brightness: Scale of deep pictures, for overlays.
    """

    def __init__(
        self,
        config: PredictConfig,
        total: int,
        progress: Callable[[int, int], None] | None,
        brightness: Brightness | None,
    ) -> None:
        self._brightness = brightness
        self.written: list[Path] = []
        self._config = config
        self._total = total
        self._progress = progress
        self._most_waiting = config.batch_size + WRITERS
        self._waiting: deque[Future[list[Path]]] = deque()
        self._files: set[Path] = set()
        self._pool = ThreadPoolExecutor(WRITERS)
        self._objects = ObjectTables(config.output)

    def write(self, prediction: AnyPrediction, picture: Picture) -> None:
        """Have a result on the CPU written, after waiting until not too many are in memory."""
        self._collect(self._most_waiting - 1)
        self._waiting.append(self._pool.submit(self._write, prediction, picture))

    def _collect(self, most: int) -> None:
        while self._waiting and (len(self._waiting) > most or self._waiting[0].done()):
            files = self._waiting.popleft().result()
            self._files.update(files)
            self.written.append(files[0])
            if self._progress is not None:
                self._progress(len(self.written), self._total)

    def _write(self, prediction: AnyPrediction, picture: Picture) -> list[Path]:
        # Once, if at all: what is known of objects and what is drawn both need it.
        pixels = cache(lambda: read_image(picture.path, self._brightness, page=picture.page, max_pixels=None))
        if isinstance(prediction, ObjectPrediction):
            self._objects.add(picture.name, picture.path.name, prediction, pixels())
        return _write(prediction, picture.name, self._config, pixels)

    def __enter__(self) -> Self:
        self._objects.remove()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._collect(0)
                self._objects.write()
                _name_older(self._config.output, self._files)
        finally:
            self._pool.shutdown(cancel_futures=True)


def _write(prediction: AnyPrediction, own: str, config: PredictConfig, pixels: Callable[[], np.ndarray]) -> list[Path]:
    """Write the results of the picture that they are named after; the files, those of the first kind first."""
    files = []
    for kind in config.saved:
        made = _made(kind, prediction, pixels)
        for suffix, image in zip(file_names(made), made.values(), strict=True):
            name = f"{own}/{suffix}" if suffix else own
            wide = image.mode == "I"  # more objects than 16 bits hold
            file = config.output / kind / f"{name}.{'tif' if wide else 'png'}"
            with written_beside(file) as partial:
                if wide:
                    image.save(partial, format="TIFF", compression="tiff_deflate")
                else:
                    image.save(partial, format="PNG", compress_level=PNG_LEVELS[kind])
            files.append(file)
    return files


def _name_older(output: Path, written: Collection[Path]) -> None:
    """Say which results of an earlier run lie beside those that were written."""
    there = (file for kind in Save.__args__ for file in (output / kind).rglob("*") if file.suffix in (".png", ".tif"))
    older = sorted(file.relative_to(output).as_posix() for file in there if file not in written)
    if older:
        log.warning(
            "output: %s of an earlier run %s in '%s' beside the new ones (%s). It may have had another adapter or "
            "task: remove them, or choose another --output.",
            amount(len(older), "file"),
            agreed(len(older), "stay"),
            output,
            quoted(older),
        )


def _made(kind: str, prediction: AnyPrediction, pixels: Callable[[], np.ndarray]) -> dict[str, Image.Image]:
    """What one kind of result shows, by name; the name is empty where there is one picture."""
    if kind == "probabilities":
        return {
            name: Image.fromarray(np.round(one.numpy().astype(np.float64) * 65535).astype(np.uint16))
            for name, one in prediction.probability_maps().items()
        }
    if kind == "overlays":
        regions, image = prediction.regions(), pixels()
        drawn = Image.new("RGB", image.shape[1::-1])
        colours = [kind.colour for kind in regions.kinds]
        for rows, band in overlay_bands(image, regions.labels, colours, width=regions.outline):
            drawn.paste(Image.fromarray(band), (0, rows.start))
        draw_legend(drawn, [(kind.name, kind.colour) for kind in regions.shown if kind.name and kind.colour])
        return {"": drawn}
    values, palette = prediction.values()
    image = Image.fromarray(values)
    if palette is not None:
        image = Image.fromarray(values, mode="P")
        image.putpalette(palette.tobytes())
    return {"": image}


def file_names(names: Iterable[str]) -> list[str]:
    """Names of classes as files may have them; a name that another one has taken, in any case, gets a number."""
    taken: set[str] = set()
    found = []
    for name in names:
        plain = re.sub(r'[/\\:*?"<>|\0]', "_", name)
        numbered = (f"{plain}_{number}" for number in itertools.count(2))
        own = next(one for one in itertools.chain([plain], numbered) if one.casefold() not in taken)
        taken.add(own.casefold())
        found.append(own)
    return found
