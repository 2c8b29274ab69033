"""What is refused before anything is scored: adapters that answer different questions, options that do not fit."""

from ..checkpoints.adapter import described_classes, read_adapter_config
from ..checkpoints.description import Description
from ..config.choices import asked_kinds, known_thresholds
from ..config.commands import NO_CACHE, EvaluateConfig
from ..errors import ConfigError
from ..tiling.grid import Tiling


def require_comparable(config: EvaluateConfig) -> Description | None:
    """Refuse before any work answers to different questions, and a best threshold that is not known.

    Raises:
        ConfigError: With all that does not fit.

    Returns:
        What the first adapter says about itself; None if there is none.
    """
    if config.adapter is None:
        Tiling.asked(config.tile, config.overlap, None)
        return None
    described = {adapter: read_adapter_config(adapter) for adapter in (config.adapter, *config.compare)}
    first = described[config.adapter]
    own, classes = first.task, described_classes(first)
    problems = [
        f"compare: '{adapter}' has the task '{one.task}' and '{config.adapter}' has '{own}'; evaluate them apart."
        for adapter, one in described.items()
        if one.task != own
    ]
    problems += [
        f"compare: '{adapter}' has the classes {', '.join(described_classes(one))}, '{config.adapter}' "
        f"{', '.join(classes)}; evaluate them apart."
        for adapter, one in described.items()
        if one.task == own and described_classes(one) != classes
    ]
    if config.task is not None and config.task != own:
        problems.append(
            f"task: the adapter '{config.adapter}' has the task '{own}', got '{config.task}'; leave it out."
        )
    tilings = [Tiling.asked(config.tile, config.overlap, one.tiling) for one in described.values()]
    if config.embedding_cache is not None and any(tilings):
        problems.append(NO_CACHE)
    for adapter, one in described.items() if config.threshold == "best" else ():
        known = one.best_thresholds
        if missing := [kind for kind in asked_kinds(config.prompt) if kind not in known]:
            kinds = " and ".join(missing)
            problems.append(f"threshold: '{adapter}' has no best threshold for {kinds} {known_thresholds(known)}")
    problems += [] if config.task else config.task_problems(own)
    if problems:
        raise ConfigError(*problems)
    return first
