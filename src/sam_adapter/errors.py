"""The errors a user can cause; each says what was expected, what came, where, and what to do."""

from collections.abc import Sequence


def amount(count: int, noun: str, verb: str = "") -> str:
    """A number with its noun, and a verb if it is wanted: ``1 mask has``, ``3 masks have``.

    Args:
        count: How many.
        noun: For one of them; more get an s, or es.
        verb: For several of them: ``have``.
    """
    ending = "es" if noun.endswith("s") else "s"
    words = f"{count} {noun}{'' if count == 1 else ending}"
    return f"{words} {agreed(count, verb)}" if verb else words


def agreed(count: int, verb: str) -> str:
    """A verb as it stands for several, in the form that a number asks for: ``have``, or ``has`` for one."""
    irregular = {"have": "has", "are": "is", "were": "was", "carry": "carries"}
    return verb if count != 1 else irregular.get(verb, f"{verb}s")


def quoted(names: Sequence[str], most: int = 5) -> str:
    """Names as a sentence has them, each in quotes: ``'a', 'b' and 3 more``."""
    shown = ", ".join(f"'{name}'" for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


class SamAdapterError(Exception):
    """Base of all errors that the command line prints without a traceback."""


class ConfigError(SamAdapterError):
    """An option, or a combination of options, that cannot work.

    Args:
        problems: One sentence each; all of them are reported together.
    """

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class DataError(SamAdapterError):
    """An image, a mask or a prompt that cannot be used."""


class CheckpointError(SamAdapterError):
    """Weights that cannot be read, or that do not belong to the model they were given to."""


class OutputError(DataError, OSError):
    """A file that cannot be written; also one of the system's errors, for programs that expect those."""


class ProcessError(SamAdapterError):
    """A run of several processes that lost one of them."""
