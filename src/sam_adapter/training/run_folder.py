"""The folder of a training run: what lies in it, whether a run may start or go on there."""

import csv
import logging
from pathlib import Path

from ..checkpoints.adapter import CONFIG_FILE, FORMER_FILES, WEIGHTS_FILE
from ..checkpoints.peft_folder import remove_peft_folder
from ..config.training import TrainConfig
from ..errors import ConfigError
from ..system.processes import is_main_process
from ..system.writing import written_beside

log = logging.getLogger(__name__)

LAST = "last.ckpt"
METRICS = "metrics.csv"
CONFIG = "config.yaml"

MAY_CHANGE = frozenset(
    {"output", "resume", "overwrite", "epochs", "devices", "nodes", "strategy", "accelerator", "attention", "compile"}
    | {"workers", "embedding_cache", "dry_run", "logger", "project", "run_name", "patience"}
)
"""Options that may differ when a run is continued; the number of processes between two epochs alone.

`last_checkpoint.require_same_place` sees to that.
"""


def prepare_output(config: TrainConfig) -> Path | None:
    """Check the output folder; nothing is written yet.

    Returns:
        The checkpoint to go on from, if the run is to be continued and got as far as that.

    Raises:
        ConfigError: If the folder holds another run, or there is nothing to go on from.
    """
    last = config.output / LAST
    if config.resume:
        if last.is_file():
            _require_same_run(config)
            return last
        if not (config.output / CONFIG).is_file():
            raise ConfigError(f"resume: there is no '{last}'. Leave --resume out to start a run.")
        _require_same_run(config)
        if is_main_process():
            log.warning("The run was stopped before its first checkpoint; it starts from the beginning.")
        return None
    if is_main_process() and (last.exists() or (config.output / "adapter").exists()) and not config.overwrite:
        raise ConfigError(
            f"output: '{config.output}' already holds a run. Go on with it (--resume true), write over it "
            "(--overwrite true), or choose another folder."
        )
    return None


def clear_output(config: TrainConfig) -> None:
    """Make the folder with its config.yaml, and take away what an earlier run left if this one starts anew."""
    if config.overwrite or not (config.output / LAST).exists():
        remove_peft_folder(config.output / "adapter")
        for name in (LAST, METRICS, *(f"adapter/{file}" for file in (CONFIG_FILE, WEIGHTS_FILE, *FORMER_FILES))):
            (config.output / name).unlink(missing_ok=True)
    text = config.but(resume=False, overwrite=False).to_yaml()
    with written_beside(config.output / CONFIG, durable=True) as partial:
        partial.write_text(text, encoding="utf-8")


def read_metrics(path: Path) -> list[dict[str, str]]:
    """Rows of a metrics.csv; none if there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _require_same_run(config: TrainConfig) -> None:
    path = config.output / CONFIG
    if not path.is_file():
        if is_main_process():
            log.warning(
                "'%s' is not there, so the options given now cannot be compared with those that the run was started "
                "with. It goes on with the ones given now; stop it if they are others, and put the file back.",
                path,
            )
        return
    before = TrainConfig.from_yaml(path)
    changed = [
        f"{name}: was {getattr(before, name)}, is {getattr(config, name)}"
        for name in vars(before)
        if name not in MAY_CHANGE and getattr(before, name) != getattr(config, name)
    ]
    if (before.embedding_cache is None) != (config.embedding_cache is None) and config.augment != "none":
        was, now = before.embedding_cache, config.embedding_cache
        changed.append(f"embedding_cache: was {was}, is {now}; without it images are augmented")
    if changed:
        raise ConfigError(
            f"resume: the run was started with other options; give the same ones, for example with '--config {path}'.",
            *changed,
        )
