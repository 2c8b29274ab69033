"""The errors a user can cause; each says what was expected, what came, where, and what to do."""


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
