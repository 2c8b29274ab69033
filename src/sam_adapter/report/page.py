"""One HTML file with everything inside: tables that sort, galleries and charts, in light and dark."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path

from ..system.writing import written_beside
from .drawing import FALSE_NEGATIVE, FALSE_POSITIVE, TRUE_POSITIVE, VOID
from .figures import Picture

Cell = str | int | float | None


@dataclass(frozen=True)
class Case:
    """One image of a gallery with all that is shown of it.

    Attributes:
        title: Which image it is, and how it was answered.
        pictures: Side by side.
    """

    title: str
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        title: Its heading.
        text: Plain text below the heading.
        body: HTML made by the functions here or in `charts`.
    """

    title: str
    text: str
    body: str


def page(title: str, lead: str, sections: Sequence[Section]) -> str:
    """The whole page.

    Args:
        title: Heading, also the name of the tab.
        lead: Plain text below it.
        sections: In order.

    Returns:
        HTML that refers to nothing outside itself.
    """
    folder = files("sam_adapter.report")
    style, script = ((folder / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    parts = [
        f"<section><h2>{escape(one.title)}</h2><p>{escape(one.text)}</p>{one.body}</section>"
        if one.text
        else f"<section><h2>{escape(one.title)}</h2>{one.body}</section>"
        for one in sections
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{escape(title)}</h1>\n<p>{escape(lead)}</p>\n" + "\n".join(parts) + "\n</main>\n"
        f"<script>\n{script}</script>\n</body>\n</html>\n"
    )


def write_page(path: Path, content: str) -> None:
    """Write the page; at every moment the file is complete."""
    with written_beside(path) as partial:
        partial.write_text(content, encoding="utf-8")


def table(
    headers: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    *,
    caption: str,
    sortable: bool = False,
    tall: bool = False,
) -> str:
    """A table; the first column names the row.

    Args:
        headers: One a column.
        rows: Cells; fractions get three decimals, None a dash.
        caption: What a screen reader calls it.
        sortable: Whether a click on a header sorts by that column; others become a list for each row where the screen
            is narrow.
        tall: Whether it scrolls by itself, for tables with many rows.
    """

    def head(text: str) -> str:
        inside = f'<button type="button">{escape(text)}</button>' if sortable else escape(text)
        return f'<th scope="col">{inside}</th>'

    labels = [None if sortable else header for header in headers[1:]]
    body = "".join(
        f'<tr><th scope="row">{escape(str(row[0]))}</th>{"".join(map(_cell, row[1:], labels))}</tr>' for row in rows
    )
    kind = f' class="{"sortable" if sortable else "stacking"}"'
    return (
        f'<div class="scroll{" tall" if tall else ""}" tabindex="0" role="region" aria-label="{escape(caption)}">'
        f"<table{kind}><caption>{escape(caption)}</caption><thead><tr>{''.join(map(head, headers))}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def gallery(cases: Sequence[Case]) -> str:
    """Rows of pictures."""
    return "".join(
        f'<article class="case">{f"<h3>{escape(case.title)}</h3>" if case.title else ""}<div class="row">'
        f"{''.join(map(_figure, case.pictures))}</div></article>"
        for case in cases
    )


def charts_row(*charts: str) -> str:
    """Charts side by side where there is room."""
    return f'<div class="charts">{"".join(charts)}</div>'


def legend(*meanings: tuple[tuple[int, int, int], str]) -> str:
    """Colours and what they mean, side by side."""
    items = "".join(
        f'<li><span class="swatch" style="background:rgb{colour}"></span>{escape(meaning)}</li>'
        for colour, meaning in meanings
    )
    return f'<ul class="legend">{items}</ul>'


def error_legend(*, void: bool = False) -> str:
    """What the colours of `drawing.error_map` mean.

    Args:
        void: Whether the stripes of the void are among them.
    """
    meanings = (
        (TRUE_POSITIVE, "found (true positive)"),
        (FALSE_POSITIVE, "wrongly marked (false positive)"),
        (FALSE_NEGATIVE, "missed (false negative)"),
    )
    items = "".join(
        f'<li><span class="swatch" style="background:rgb{colour}"></span>{meaning}</li>' for colour, meaning in meanings
    )
    if void:
        stripes = f"repeating-linear-gradient(135deg,rgb{VOID} 0 3px,#222 3px 6px)"
        items += f'<li><span class="swatch" style="background:{stripes}"></span>void, not scored</li>'
    return f'<ul class="legend">{items}</ul>'


def commands(lines: Sequence[tuple[str, str]]) -> str:
    """Commands to copy, each with a word of what it is for."""
    return "".join(f"<p>{escape(purpose)}</p><pre><code>{escape(command)}</code></pre>" for purpose, command in lines)


def _cell(value: Cell, label: str | None) -> str:
    start = "<td" if label is None else f'<td data-label="{escape(label)}"'
    if value is None:
        return f'{start} data-value="-1">–</td>'
    if isinstance(value, str):
        return f"{start}>{escape(value)}</td>"
    shown = f"{value:,}" if isinstance(value, int) else f"{value:.3f}"
    return f'{start} data-value="{value}">{shown}</td>'


def _figure(picture: Picture) -> str:
    return (
        f'<figure><img src="{picture.data_uri()}" alt="{escape(picture.alt)}" loading="lazy" '
        f'width="{picture.pixels.shape[1]}" height="{picture.pixels.shape[0]}">'
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
    )
