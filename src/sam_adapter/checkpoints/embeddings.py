"""Image embeddings on disk: an encoder that is not trained needs to see each picture only once."""

import hashlib
import logging
import math
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from ..annotations.listing import Record
from ..annotations.reading.brightness import Brightness
from ..backbones.families import FAMILIES
from ..config.commands import NO_CACHE, EvaluateConfig
from ..config.training import TrainConfig
from ..data.dataset import PairDataset, PictureDataset
from ..data.embedding_file import write_encoded
from ..data.loading import picture_loader, worker_count
from ..errors import ConfigError, OutputError, amount
from ..segmenter import SamSegmenter
from ..system.machine import Machine
from ..system.writing import remove_leftovers, require_writable, temporary_folder
from ..tiling.grid import Tiling
from .adapter import read_adapter_config

log = logging.getLogger(__name__)


def embedding_files(
    folder: Path,
    records: Sequence[Record],
    segmenter: SamSegmenter,
    machine: Machine,
    *,
    brightness: Brightness | None,
) -> dict[tuple[Path, int], Path]:
    """Where the embedding of each image lies or will lie.

    The name follows from all that the embedding depends on: the image's bytes and page, the base model, the
    preprocessing, the scale of deep pictures and the precision. One folder may serve many runs and data sets.

    Args:
        folder: Of all embeddings.
        records: The images.
        segmenter: What encodes them.
        machine: Precision.
        brightness: Scale of deep pictures, that of the data set which the embeddings are for.

    Returns:
        Image and page to file.
    """
    backbone = segmenter.backbone
    form = "prepared " if backbone.preparing and segmenter.method.keeps_prepared else ""
    base = f"{backbone.family} {backbone.identity.sha256}"
    setting = f"{form}{base} {segmenter.preprocessing} {brightness} {machine.precision}"
    files = {}
    for record in records:
        start = f"{setting} {record.page} ".encode()
        digest = hashlib.sha256(start + record.image.read_bytes()).hexdigest()
        files[record.picture] = folder / digest[:2] / f"{digest}.safetensors"
    return files


@torch.no_grad()
def encode_missing(
    files: Mapping[tuple[Path, int], Path],
    segmenter: SamSegmenter,
    machine: Machine,
    *,
    brightness: Brightness | None,
    batch_size: int,
    workers: int,
    processes: int = 1,
    rank: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Encode the images whose embedding is not there yet; what is done stays done if it is interrupted.

    Args:
        files: From `embedding_files`.
        segmenter: On its device already.
        machine: Precision.
        brightness: As it was given to `embedding_files`.
        batch_size: Images a step.
        workers: Reading processes, -1 by the cores.
        processes: Several share the work.
        rank: Which of them this is.
        progress: Called with (images encoded, images to encode).

    Raises:
        ConfigError: If the disk has no room for them.
        DataError: If an image cannot be read.
    """
    # By file, as two images may be the same; shared out before looking, as the others are writing already.
    images = {file: image for image, file in files.items()}
    missing = [file for file in sorted(images)[rank::processes] if not file.is_file()]
    if not missing:
        return
    _require_room(missing[0].parents[1], len(missing) * processes, segmenter, machine)
    log.info("Encoding %s once, to be kept", amount(len(missing), "image"))
    dataset = PictureDataset(
        [images[file][0] for file in missing],
        segmenter.preprocessing,
        pages=[images[file][1] for file in missing],
        brightness=brightness,
        max_pixels=None,
    )
    workers = worker_count(workers, processes=processes)
    pin = segmenter.device.type == "cuda"
    for batch, errors in picture_loader(dataset, batch_size=batch_size, workers=workers, pin=pin):
        if errors:
            raise errors[0]
        with machine.autocast():
            encoded = segmenter.encode_to_keep(batch.to(segmenter.device).pixel_values)
        dtype = _dtype(machine)
        for index, one in zip(batch.indices, encoded.with_each(lambda x: x.to(dtype).cpu()).unstack(), strict=True):  # noqa: B023
            write_encoded(missing[index], one)
        if progress is not None:
            progress(max(batch.indices) + 1, len(missing))


def embeddings_of(
    dataset: PairDataset, segmenter: SamSegmenter, config: TrainConfig, machine: Machine, *, processes: int, rank: int
) -> dict[tuple[Path, int], Path]:
    """Files of the embeddings of a data set's images in the run's cache, each read as the data set reads it.

    Args:
        dataset: Of training, or of validation.
        segmenter: On its device already.
        config: The run; it has an `embedding_cache`.
        machine: Precision.
        processes: Several share the work; each comes back when its own part is done.
        rank: Which of them this is.

    Returns:
        Image and page to file.
    """
    assert config.embedding_cache is not None
    brightness = dataset.reading.brightness
    files = embedding_files(config.embedding_cache, dataset.records, segmenter, machine, brightness=brightness)
    size, workers = config.batch_size, config.workers
    encode_missing(
        files,
        segmenter,
        machine,
        brightness=brightness,
        batch_size=size,
        workers=workers,
        processes=processes,
        rank=rank,
    )
    return files


def shared_embeddings(
    folder: Path,
    records: Sequence[Record],
    segmenter: SamSegmenter,
    config: EvaluateConfig,
    machine: Machine,
    progress: Callable[[int, int], None] | None,
) -> dict[tuple[Path, int], Path] | None:
    """Files of image embeddings in an `embedding_folder`, made if need be.

    Returns:
        Image and page to file; None if they were not asked for and there is no room for them.
    """
    brightness = None if segmenter.reading is None else segmenter.reading.brightness
    files = embedding_files(folder, records, segmenter, machine, brightness=brightness)
    size, workers = config.batch_size, config.workers
    try:
        encode_missing(
            files, segmenter, machine, brightness=brightness, batch_size=size, workers=workers, progress=progress
        )
    except (ConfigError, OutputError) as error:
        if config.embedding_cache is not None:
            raise
        log.warning("Each model encodes the images itself, as embeddings cannot be kept: %s", error)
        return None
    return files


@contextmanager
def embedding_folder(config: EvaluateConfig) -> Iterator[Path | None]:
    """The folder for image embeddings that was asked for, or a temporary one where several models can share them.

    Models share embeddings if they leave the encoder of one base as it is: the frozen one, and adapters of its decoder.
    None is kept of what is seen in tiles.

    Raises:
        ConfigError: If a folder was asked for, and an adapter sees pictures in tiles.
    """
    adapters = [] if config.adapter is None else [config.adapter, *config.compare]
    descriptions = [read_adapter_config(adapter) for adapter in adapters]
    whole = [Tiling.asked(config.tile, config.overlap, one.tiling) is None for one in descriptions]
    if config.embedding_cache is not None and not all(whole):
        raise ConfigError(NO_CACHE)
    scales = [None if one.reading is None else one.reading.brightness for one in descriptions]
    encoders = [
        f"{one.base.sha256} {one.preprocessing} {scale}" for one, scale in zip(descriptions, scales, strict=True)
    ]
    # What is kept is prepared, if the model leaves that to the base as well.
    unchanged = [
        (encoder, not FAMILIES[one.base.family].prepares or one.method_settings.keeps_prepared)
        for encoder, one, as_whole in zip(encoders, descriptions, whole, strict=True)
        if one.method_settings.leaves_encoder and as_whole
    ]
    frozen = [(encoder, True) for encoder in encoders[: config.with_frozen] if whole[0]]
    sharing = max(Counter(unchanged + frozen).values(), default=0)
    if config.embedding_cache is not None or sharing < 2:
        yield config.embedding_cache
        return
    log.info("%d models have the same image encoder: each image is encoded once for them", sharing)
    with temporary_folder(config.output) as folder:
        yield folder


def _dtype(machine: Machine) -> torch.dtype:
    """The type of the precision's products: what the encoder gives on a CPU, and the decoder rounds to on a GPU."""
    return {"32": torch.float32, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}[machine.precision]


def _require_room(folder: Path, count: int, segmenter: SamSegmenter, machine: Machine) -> None:
    backbone = segmenter.backbone
    shapes = backbone.prepared_shapes if segmenter.method.keeps_prepared else backbone.encoded_shapes
    numbers = sum(math.prod(shape) for shape in shapes.values())
    needed = count * numbers * _dtype(machine).itemsize
    require_writable(folder, "embedding_cache")
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ConfigError(
            f"embedding_cache: {count} embeddings need {needed / 1e9:.1f} GB, but '{folder}' has {free / 1e9:.1f} GB "
            "free. Choose a folder on another disk, a smaller --image-size, or leave the cache out."
        )
