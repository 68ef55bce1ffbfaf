"""Line charts on logarithmic axes as plain SVG, readable on a light and on a dark page."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape

WIDTH, HEIGHT = 860, 470
LEFT, RIGHT, TOP, BOTTOM = 64, 200, 46, 50
LABEL_PX = 14  # between two labels

STYLE = """
svg { font: 12px system-ui, sans-serif; }
.page { fill: #ffffff; } text { fill: #24292f; } .quiet { fill: #57606a; }
.grid { stroke: #d8dee4; } .a { --c: #0550ae; } .b { --c: #6e7781; } .c { --c: #bc4c00; } .d { --c: #116329; }
@media (prefers-color-scheme: dark) {
  .page { fill: #0d1117; } text { fill: #e6edf3; } .quiet { fill: #9198a1; }
  .grid { stroke: #2a313c; } .a { --c: #79c0ff; } .b { --c: #9198a1; } .c { --c: #ffa657; } .d { --c: #7ee787; }
}
.line { fill: none; stroke: var(--c); stroke-width: 1.4; } .bold .line { stroke-width: 3; }
.dot { fill: var(--c); } .bar { stroke: var(--c); } .leader { stroke: var(--c); stroke-width: 0.6; opacity: 0.7; }
.name { fill: var(--c); } .bold .name { font-weight: 600; } .dashed .line { stroke-dasharray: 5 4; }
"""


@dataclass(frozen=True)
class Point:
    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Series:
    """`look` is CSS classes: a colour (a to d), `bold`, `dashed`. `label_left`: the name stands before the line.

    With `named_at` the name stands beside that point instead.
    """

    name: str
    points: Sequence[Point]
    look: str = "b"
    label_left: bool = False
    named_at: int | None = None


@dataclass(frozen=True)
class Axis:
    """`low` to `high`; logarithmic, a tick for each power of ten, or linear with the ticks given."""

    title: str
    low: float
    high: float
    unit: str = ""
    ticks: Sequence[float] = field(default_factory=tuple)

    @property
    def marks(self) -> Sequence[float]:
        if self.ticks:
            return self.ticks
        first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
        return [10.0**power for power in range(first, last + 1)]

    def share(self, value: float) -> float:
        """Where a value stands between the ends, 0 to 1."""
        if self.ticks:
            return (value - self.low) / (self.high - self.low)
        return math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)


@dataclass(frozen=True)
class Chart:
    title: str
    x: Axis
    y: Axis
    series: Sequence[Series]

    def svg(self) -> str:
        """The whole file."""
        body = "\n".join([*self._frame(), *self._lines(), *self._names()])
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
            f"<title>{escape(self.title)}</title>\n<style>{STYLE}</style>\n"
            f'<rect class="page" width="{WIDTH}" height="{HEIGHT}" rx="6"/>\n{body}\n</svg>\n'
        )

    def _at(self, point: Point) -> tuple[float, float]:
        return self._across(point.x), self._up(point.y)

    def _across(self, x: float) -> float:
        return LEFT + self.x.share(x) * (WIDTH - LEFT - RIGHT)

    def _up(self, y: float) -> float:
        return HEIGHT - BOTTOM - self.y.share(y) * (HEIGHT - TOP - BOTTOM)

    def _frame(self) -> Iterator[str]:
        right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
        yield f'<text x="{LEFT}" y="26" font-size="15" font-weight="600">{escape(self.title)}</text>'
        for mark in self.y.marks:
            up = self._up(mark)
            yield f'<path class="grid" d="M{LEFT} {up:.1f}H{right}"/>'
            yield _quiet(f"{_number(mark)}{self.y.unit}", f'x="{LEFT - 7}" y="{up + 4:.1f}"', "end")
        for mark in self.x.marks:
            across = self._across(mark)
            yield f'<path class="grid" d="M{across:.1f} {TOP}V{bottom}"/>'
            yield _quiet(f"{_number(mark)}{self.x.unit}", f'x="{across:.1f}" y="{bottom + 17}"')
        yield _quiet(self.x.title, f'x="{(LEFT + right) / 2}" y="{HEIGHT - 12}"')
        yield _quiet(self.y.title, f'transform="translate(14 {(TOP + bottom) / 2}) rotate(-90)"')

    def _lines(self) -> Iterator[str]:
        for one in sorted(self.series, key=lambda series: "bold" in series.look):
            spots = [self._at(point) for point in one.points]
            path = "L".join(f"{across:.1f} {up:.1f}" for across, up in spots)
            bars = "".join(self._bar(point) for point in one.points)
            dots = "".join(f'<circle class="dot" cx="{across:.1f}" cy="{up:.1f}" r="3"/>' for across, up in spots)
            yield f'<g class="{one.look}"><path class="line" d="M{path}"/>{bars}{dots}</g>'

    def _bar(self, point: Point) -> str:
        if point.low is None or point.high is None:
            return ""
        return (
            f'<path class="bar" d="M{self._across(point.x):.1f} {self._up(point.low):.1f}V{self._up(point.high):.1f}"/>'
        )

    def _names(self) -> Iterator[str]:
        """Each name beside the end of its line, moved up or down where it would cover another."""
        for left in (True, False):
            ends = [(one, self._at(one.points[0 if left else -1])) for one in self._named_at_ends(left)]
            ends.sort(key=lambda end: end[1][1])
            places = apart([up for _, (_, up) in ends])
            for (one, (across, up)), place in zip(ends, places, strict=True):
                yield _name(one, across, up, place, left=left)
        for one in self.series:
            if one.named_at is not None:
                across, up = self._at(one.points[one.named_at])
                yield _name(one, across, up, up)

    def _named_at_ends(self, left: bool) -> list[Series]:
        return [one for one in self.series if one.named_at is None and one.label_left is left]


def _name(one: Series, across: float, up: float, place: float, *, left: bool = False) -> str:
    step, anchor = (-14, "end") if left else (14, "start")
    leader = f"M{across:.1f} {up:.1f}L{across + step:.1f} {place:.1f}"
    return (
        f'<g class="{one.look}"><path class="leader" d="{leader}"/>'
        f'<text class="name" x="{across + step * 1.2:.1f}" y="{place + 4:.1f}" text-anchor="{anchor}">'
        f"{escape(one.name)}</text></g>"
    )


def apart(places: Sequence[float], least: float = LABEL_PX) -> list[float]:
    """The same places, in order, with at least so much between two; the whole stays around its middle."""
    spread: list[float] = []
    for place in places:
        spread.append(max(place, spread[-1] + least) if spread else place)
    shift = (sum(spread) - sum(places)) / len(places) if places else 0.0
    return [place - shift for place in spread]


def _quiet(text: str, where: str, anchor: str = "middle") -> str:
    return f'<text class="quiet" {where} text-anchor="{anchor}">{escape(text)}</text>'


def _number(value: float) -> str:
    if value >= 1_000_000:
        return f"{value / 1_000_000:g} M"
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"
