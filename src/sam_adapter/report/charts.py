"""Line charts as inline SVG: they follow the page's light or dark colours and need nothing from the network."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 480, 300
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 12, 44


@dataclass(frozen=True)
class Series:
    """One line.

    Attributes:
        name: In the legend.
        points: ``(x, y)`` pairs in the order they are joined.
        mark: Position of a point to mark with a dot.
        mark_label: What the dot means.
    """

    name: str
    points: Sequence[tuple[float, float]]
    mark: int | None = None
    mark_label: str = ""


@dataclass(frozen=True)
class Axis:
    """One axis.

    Attributes:
        label: What it measures, with its unit.
        low: Smallest value.
        high: Largest value.
        whole: Ticks at whole numbers only.
    """

    label: str
    low: float = 0.0
    high: float = 1.0
    whole: bool = False

    def ticks(self) -> list[float]:
        """Round values, four to eight of them."""
        span = self.high - self.low
        power = 10.0
        while power > span:
            power /= 10
        while power * 10 <= span:
            power *= 10
        steps = (power / 5, power / 2, power, 2 * power)
        step = next(step for step in steps if span / step <= 7 and (step >= 1 or not self.whole))
        first = -(-self.low // step)
        count = int((self.high - first * step) / step + 1e-9) + 1
        return [(first + index) * step for index in range(count)]

    def place(self, value: float, start: float, end: float) -> float:
        """Where a value lies between two pixels."""
        return start + (value - self.low) / max(self.high - self.low, 1e-12) * (end - start)


def line_chart(series: Sequence[Series], *, title: str, x: Axis, y: Axis) -> str:
    """A chart with a legend.

    Args:
        series: The lines.
        title: Above the chart; with the names of the lines it is what a screen reader says.
        x: Horizontal axis.
        y: Vertical axis.

    Returns:
        A ``figure`` element.
    """
    spoken = f"{title}. Lines: {', '.join(one.name for one in series)}. Across: {x.label}; up: {y.label}."
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(spoken)}">', *_grid(x, y)]
    for number, one in enumerate(series):
        placed = [(x.place(a, LEFT, WIDTH - RIGHT), y.place(b, HEIGHT - BOTTOM, TOP)) for a, b in one.points]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in placed)
        parts.append(f'<polyline class="line c{number % 6}" points="{path}"/>')
        if len(placed) == 1 or one.mark is not None:
            a, b = placed[one.mark or 0]
            parts.append(f'<circle class="dot c{number % 6}" cx="{a:.1f}" cy="{b:.1f}" r="5"/>')
    parts.append("</svg>")
    legend = "".join(
        f'<li><svg viewBox="0 0 28 10" aria-hidden="true"><path class="line c{number % 6}" d="M1 5H27"/></svg>'
        f"{escape(one.name)}{f' <small>({escape(one.mark_label)})</small>' if one.mark_label else ''}</li>"
        for number, one in enumerate(series)
    )
    return (
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption>{"".join(parts)}'
        f'<ul class="legend">{legend}</ul></figure>'
    )


def _grid(x: Axis, y: Axis) -> list[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for value in x.ticks():
        place = x.place(value, LEFT, right)
        parts.append(f'<path class="grid" d="M{place:.1f} {TOP}V{bottom}"/>')
        parts.append(f'<text x="{place:.1f}" y="{bottom + 16}" text-anchor="middle">{value:g}</text>')
    for value in y.ticks():
        place = y.place(value, bottom, TOP)
        parts.append(f'<path class="grid" d="M{LEFT} {place:.1f}H{right}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{place + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    middle = (LEFT + right) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x.label)}</text>')
    height = (TOP + bottom) / 2
    parts.append(
        f'<text x="13" y="{height}" text-anchor="middle" transform="rotate(-90 13 {height})">{escape(y.label)}</text>'
    )
    return parts
