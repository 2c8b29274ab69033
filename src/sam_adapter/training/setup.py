"""From the configuration of a run to the module that is trained and the data it is trained on."""

import logging
from statistics import median

from ..config.choices import asked_kinds
from ..config.registry import TASKS, look_up
from ..config.training import TrainConfig
from ..data.datamodule import PairDataModule
from ..errors import ConfigError
from ..segmenter import SamSegmenter
from ..system.machine import Machine
from ..tasks.base import Task
from .lightning_module import TrainingModule
from .starting import starting_from

log = logging.getLogger(__name__)


def module_and_data(config: TrainConfig) -> tuple[TrainingModule, PairDataModule]:
    """Read and split the pairs, load the base, and build the module that Lightning trains on them.

    Args:
        config: The run.

    Returns:
        The module: segmenter, task, losses and optimiser; and the data: training and validation loaders.

    Raises:
        ConfigError: If options do not fit together.
        DataError: If files are faulty.
        CheckpointError: If the base cannot be loaded.
    """
    data = PairDataModule(config)
    machine = Machine.asked(config)
    machine.prepare_process()
    classes = data.reading.classes
    segmenter, start = SamSegmenter.from_config(config, () if classes is None else classes.names), None
    if config.start_from is not None:
        segmenter, start = starting_from(config.start_from, segmenter)
    segmenter.suited_to(machine, for_good=True)
    if segmenter.method.prepare_frozen:
        frozen = " and ".join(name.rstrip(".").rpartition(".")[2] for name in segmenter.backbone.preparing)
        log.info("Embeddings are kept after %s, which stay as the base has them", frozen)
    if machine.attention == "flex" and machine.device.type == "cpu" and not segmenter.leaves_encoder:
        raise ConfigError(
            "attention: PyTorch's FlexAttention cannot be trained through on a CPU; use auto, or blocked, there."
        )
    segmenter.reading = data.reading
    segmenter.tiling = data.tiling
    task: Task = look_up(TASKS, config.task).from_options(config, classes)
    data.make_datasets(segmenter.preprocessing, task)
    module = TrainingModule(
        segmenter, task, config, machine, images=len(data.train_set), start=start, warnings=_warnings(config, data)
    )
    return module, data


def _warnings(config: TrainConfig, data: PairDataModule) -> list[str]:
    """What a user of the adapter should know of the masks that it is trained on."""
    counts = [data.looks[record].objects.count for record in data.train_records]
    middle = median([count for count in counts if count] or [0])
    told_apart = data.reading.classes is not None or data.reading.objects is not None
    if "box" not in asked_kinds(config.prompt) or middle <= 1 or told_apart:
        return []
    told = f"Trained on boxes around all objects of a picture (median {middle:g} objects)"
    return [f"{told}: a box no longer means one object."]
