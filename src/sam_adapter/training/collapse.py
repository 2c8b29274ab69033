"""A warning when training has collapsed to one answer for every picture."""

import logging
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from ..config.choices import ASKED_KINDS
from .lightning_module import TrainingModule
from .outcome import OF_KIND

log = logging.getLogger(__name__)

NEARLY_ALL = 0.9
ANSWERS = {
    "empty": "nothing, though their masks are not empty. Try a loss that weighs foreground and background alike "
    "(--loss balanced_bce+dice), a lower --lr, a longer --warmup, or a larger --image-size if the objects are small",
    "full": "everything, though their masks are not full. Try a lower --lr, a longer --warmup, and look whether the "
    "masks are inverted ('sam-adapter check')",
}


class CollapseWatch(Callback):
    """Warns once for each kind of prompt when two validations in a row have nearly all answers empty, or full."""

    def __init__(self) -> None:
        self._before: list[str] = []
        self._told: list[str] = []

    def state_dict(self) -> dict[str, Any]:
        """What the last validation showed, for resuming."""
        return {"before": self._before, "told": self._told}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self._before, self._told = state_dict["before"], state_dict["told"]

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare with the validation before."""
        assert isinstance(pl_module, TrainingModule)
        if trainer.sanity_checking:
            return
        found = [
            f"answered_{answer}_{kind}"
            for answer in ANSWERS
            for kind in ASKED_KINDS
            if pl_module.val_scores.get(f"answered_{answer}_{kind}", 0.0) >= NEARLY_ALL
        ]
        for name in found:
            if name in self._before and name not in self._told:
                _, answer, kind = name.split("_")
                share = pl_module.val_scores[name]
                log.warning(
                    "In two validations in a row, %.0f %% of the pictures asked %s were answered with %s.",
                    100 * share,
                    OF_KIND[kind],
                    ANSWERS[answer],
                )
                self._told.append(name)
        self._before = found
