"""Train once, score with a box and without a prompt; what the comparisons in this folder share."""

import json
import time
from pathlib import Path
from typing import Any

from sam_adapter import EvaluateConfig, TrainConfig, evaluate, train

RATES = {"sam_adapter": 1e-3, "decoder": 1e-3, "full": 2e-4}
"""Learning rate for each method."""


def trained_and_scored(data: Path, run: Path, *, model: str = "tiny", **options: Any) -> dict[str, dict[str, Any]]:
    """Metrics by prompt of one run; whatever is already there is not done again.

    Args:
        data: Holds ``train`` and ``test``, each with ``images`` and ``masks``.
        run: Folder of the run.
        model: The base.
        options: Further options of `TrainConfig`, and how the scoring computes; none at all scores the frozen base.

    Returns:
        ``metrics.json`` for the prompts ``box`` and ``none``, with the training's ``seconds``.
    """
    if options and not (run / "seconds.txt").exists():
        began = time.perf_counter()
        config = TrainConfig(
            images=data / "train/images",
            masks=data / "train/masks",
            model=model,
            output=run,
            **{"prompt": "mixed", "batch_size": 4, "overwrite": True, **options},
        )
        train(config)
        (run / "seconds.txt").write_text(f"{time.perf_counter() - began:.0f}")
    result = {}
    for prompt in ("box", "none"):
        output = run / prompt
        if not (output / "metrics.json").exists():
            chosen: dict[str, Any] = {"adapter": run / "adapter"} if options else {"model": model}
            chosen |= {name: options[name] for name in ("accelerator", "precision", "attention") if name in options}
            evaluate(
                EvaluateConfig(
                    images=data / "test/images",
                    masks=data / "test/masks",
                    prompt=prompt,
                    batch_size=4,
                    output=output,
                    **chosen,
                )
            )
        result[prompt] = json.loads((output / "metrics.json").read_text())
        result[prompt]["seconds"] = (run / "seconds.txt").read_text() if options else "0"
    return result
