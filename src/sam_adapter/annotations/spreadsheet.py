"""The text of tables that spreadsheets have saved."""

from pathlib import Path

from ..errors import ConfigError


def read_spreadsheet(path: Path, option: str) -> str:
    """The text of a table in UTF-8 or, as spreadsheets save "Unicode text", in UTF-16.

    Args:
        path: The file.
        option: That names it, for errors.

    Raises:
        ConfigError: If it cannot be read, or is neither.
    """
    try:
        content = path.read_bytes()
        wide = content[:2] in (b"\xff\xfe", b"\xfe\xff")
        return content.decode("utf-16" if wide else "utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{option}: '{path}' cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{option}: '{path}' is no text in UTF-8. Save it as 'CSV UTF-8'.") from error


def separator_of(line: str) -> str | None:
    """What stands between a table's cells, by its first line; None if it has one column, or blanks between them."""
    return next((one for one in ("\t", ";", ",") if one in line), None)
