"""The timeline, as SVG inside of the page: bars of what was allowed and denied, a line where a policy came into force. No script."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from stockade.audit.report.gather import UNITS, Generation, Timeline
from stockade.audit.report.html import Markup, tag

BARS = 96
_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 960, 220, 46, 14, 28


def timeline(times: Timeline, generations: Sequence[Generation]) -> Markup:
    """A figure; a sentence where there was nothing."""
    bars = times.bars(BARS)
    if not bars:
        return tag("p", "No attempt is on record in this period.", klass="quiet")
    most = _round(max(allowed + denied for _, allowed, denied in bars))
    begin, step = bars[0][0], (bars[1][0] - bars[0][0] if len(bars) > 1 else timedelta(seconds=times.width))
    plot, tall = _WIDTH - _LEFT - 8, _HEIGHT - _TOP - _BOTTOM
    each = plot / len(bars)
    parts = [*_grid(most, plot, tall)]
    for number, (moment, allowed, denied) in enumerate(bars):
        if not allowed + denied:
            continue
        x, high, low = _LEFT + number * each, allowed / most * tall, denied / most * tall
        bottom = _TOP + tall
        said = tag("title", f"{_stamp(moment)}: {allowed} allowed, {denied} denied")
        width = max(each - (1 if each > 3 else 0), 0.6)
        shapes = [_bar(x, bottom - high, width, high, "allowed"), _bar(x, bottom - high - low, width, low, "refused")]
        parts.append(tag("g", said, *[shape for shape, size in zip(shapes, (high, low), strict=True) if size > 0]))
    for generation in generations[-40:]:
        offset = (datetime.fromisoformat(generation.since) - begin) / (step * len(bars))
        if 0 <= offset <= 1:
            x = _LEFT + offset * plot
            mark = tag("line", x1=f"{x:.1f}", x2=f"{x:.1f}", y1=_TOP - 4, y2=_TOP + tall, klass="generation")
            label = tag("text", f"gen {generation.number}", x=f"{min(x + 4, _WIDTH - 40):.1f}", y=_TOP + 4, klass="mark")
            parts.append(tag("g", tag("title", f"generation {generation.number}: {generation.cause}, {generation.since}"), mark, label))
    parts += _axis(begin, step, len(bars), plot, tall)
    svg = tag(
        "svg", *parts, viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img", aria_label="Attempts over time, allowed and denied", klass="timeline"
    )
    legend = tag("span", tag("i", klass="dot allowed"), "allowed"), tag("span", tag("i", klass="dot refused"), "denied")
    return tag("figure", svg, tag("figcaption", *legend, tag("span", f"one bar is {_span(step)}", klass="quiet")))


def _bar(x: float, y: float, width: float, height: float, kind: str) -> Markup:
    return tag("rect", x=f"{x:.1f}", y=f"{y:.1f}", width=f"{width:.1f}", height=f"{max(height, 0.8):.1f}", klass=kind)


def _grid(most: int, plot: float, tall: float) -> list[Markup]:
    lines = []
    for share in (0, 0.5, 1):
        y, value = _TOP + tall * (1 - share), most * share
        if value == int(value):
            lines.append(tag("line", x1=_LEFT, x2=_LEFT + plot, y1=f"{y:.1f}", y2=f"{y:.1f}", klass="grid"))
            lines.append(tag("text", f"{int(value):,}", x=_LEFT - 6, y=f"{y + 4:.1f}", text_anchor="end", klass="axis"))
    return lines


def _axis(begin: datetime, step: timedelta, count: int, plot: float, tall: float) -> list[Markup]:
    """Whole units of time, at most eight."""
    whole = int((step * count).total_seconds())
    unit = next((each for each in UNITS if whole / each <= 8), UNITS[-1] * (whole // (UNITS[-1] * 8) + 1))
    form = "%H:%M:%S" if unit < 60 else "%H:%M" if unit < 86400 and whole <= 86400 else "%d %b %H:%M" if unit < 86400 else "%d %b"
    labels, since = [], int(begin.timestamp())
    for second in range(-(-since // unit) * unit, since + whole + 1, unit):
        x = _LEFT + plot * (second - since) / whole
        anchor = "start" if x < _LEFT + 20 else "end" if x > _LEFT + plot - 20 else "middle"
        said = datetime.fromtimestamp(second, UTC).strftime(form)
        labels.append(tag("text", said, x=f"{x:.1f}", y=_TOP + tall + 18, text_anchor=anchor, klass="axis"))
    return labels


def _round(most: int) -> int:
    """The next of 2, 4, 6, 8, 10, 20, 40 …: what halves without a rest."""
    size = 1
    while True:
        for step in (2, 4, 6, 8, 10):
            if step * size >= most:
                return step * size
        size *= 10


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def _span(step: timedelta) -> str:
    seconds = int(step.total_seconds())
    for size, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size} {name}{'s' if seconds != size else ''}"
    return f"{seconds} second{'s' if seconds != 1 else ''}"
