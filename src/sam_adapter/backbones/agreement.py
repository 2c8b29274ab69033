"""Fields of a model's ``config.json`` must agree, so that a damaged one is refused before a forward pass."""

from functools import reduce
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, amount

MOST_BLOCKS = 1000
LARGEST_SIDE = 4096
PROMPTS, DECODER = "prompt_encoder_config", "mask_decoder_config"


class Agreement:
    """Collects the fields of a configuration that do not fit the others.

    Args:
        config: Of a SAM; fields are named by their path in it, with dots.
        file: That it was read from.
    """

    def __init__(self, config: Any, file: Path) -> None:
        self._config, self._file = config, file
        self._wrong: list[str] = []

    def __getitem__(self, path: str) -> Any:
        return reduce(getattr, path.split("."), self._config)

    def require_sensible(self, *, blocks: int, side: object) -> None:
        """Refuse sizes that no real model has.

        Raises:
            CheckpointError: If there are too many blocks or pixels, or none.
        """
        if not (0 < blocks <= MOST_BLOCKS and isinstance(side, int) and 0 < side <= LARGEST_SIDE):
            raise CheckpointError(
                f"{self._file}: expected at most {MOST_BLOCKS} blocks and square images of at most {LARGEST_SIDE} "
                f"pixels, got {blocks} and {side}."
            )

    def require(self, holds: bool, path: str, expected: str) -> None:
        """Note a field unless something holds of it."""
        if not holds:
            self._wrong.append(f"'{path}' is {self[path]}, expected {expected}")

    def equal(self, path: str, other: str) -> None:
        """Note a field that differs from another one."""
        self.require(self[path] == self[other], path, f"{self[other]} as '{other}' is")

    def multiple(self, path: str, other: str) -> None:
        """Note a field that another one does not divide."""
        number = self[other]
        self.require(number > 0 and self[path] % number == 0, path, f"a multiple of '{other}', which is {number}")

    def blocks_of(self, path: str, count: int) -> None:
        """Note a list of blocks that names some that are not there."""
        self.require(all(0 <= block < count for block in self[path]), path, f"numbers of blocks from 0 to {count - 1}")

    def decoder(self, embedding: str) -> None:
        """What holds for the prompt encoder and the mask decoder of every SAM.

        Args:
            embedding: The field with the channels of the image embedding.
        """
        for part in (PROMPTS, DECODER):
            self.equal(f"{part}.hidden_size", embedding)
        width, rate = self[f"{DECODER}.hidden_size"], self[f"{DECODER}.attention_downsample_rate"]
        heads = f"{DECODER}.num_attention_heads"
        within = width // rate if rate > 0 else 0
        self.require(
            within > 0 and within * rate == width, f"{DECODER}.attention_downsample_rate", f"to divide {width}"
        )
        if within:
            self.require(
                self[heads] > 0 and within % self[heads] == 0, heads, f"to divide {within}, its narrowest width"
            )

    def finish(self) -> None:
        """Refuse what was noted.

        Raises:
            CheckpointError: If anything was.
        """
        if self._wrong:
            raise CheckpointError(
                f"{self._file}: {amount(len(self._wrong), 'field', 'contradict')} others: {'; '.join(self._wrong)}. "
                "Copy or fetch it again."
            )
