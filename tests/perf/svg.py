"""Plots as SVG, drawn by hand: bars by group, and lines. They are read on white and on black."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["bars", "lines"]

_COLOURS = ("#2f6fde", "#e08a1e", "#3a9d5d", "#b4508f", "#7a6ad8", "#c2533f", "#8a8f98")
_INK = "#808080"
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 760, 340, 64, 16, 56, 48


@dataclass(frozen=True, slots=True)
class _Scale:
    """From values to places on the page."""

    low: float
    high: float
    first: float
    last: float

    def __call__(self, value: float) -> float:
        return self.first + (value - self.low) / (self.high - self.low) * (self.last - self.first)


def bars(title: str, unit: str, groups: Mapping[str, Mapping[str, float]]) -> str:
    """A group of bars for each of ``groups``, of a value for each name; each group has a scale of its own."""
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    width = (_WIDTH - _LEFT - _RIGHT) / len(groups)
    marks = list(_legend(names))
    for place, (group, values) in enumerate(groups.items()):
        scale = _Scale(0, max(values.values()) * 1.12, _HEIGHT - _BOTTOM, _TOP)
        bar = width * 0.86 / len(names)
        left = _LEFT + place * width
        marks.append(_text(left + width * 0.43, _HEIGHT - _BOTTOM + 18, f"{group}, {unit}", "middle"))
        for index, name in enumerate(names):
            if name not in values:
                continue
            x, y = left + index * bar, scale(values[name])
            size = f'x="{x:.1f}" y="{y:.1f}" width="{bar * 0.9:.1f}" height="{_HEIGHT - _BOTTOM - y:.1f}"'
            marks.append(f'<rect {size} fill="{_colour(index)}"/>')
            marks.append(_text(x + bar * 0.45, y - 4, _short(values[name]), "middle"))
    marks.append(_rule(_LEFT, _HEIGHT - _BOTTOM, _WIDTH - _RIGHT, _HEIGHT - _BOTTOM))
    return _page(title, marks)


def lines(title: str, x_name: str, y_name: str, series: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """A line through the points of each series."""
    points = [point for line in series.values() for point in line]
    across = _Scale(0, max(x for x, _ in points), _LEFT, _WIDTH - _RIGHT)
    up = _Scale(0, max(y for _, y in points) * 1.1, _HEIGHT - _BOTTOM, _TOP)
    marks = [
        *_legend(list(series)),
        _rule(_LEFT, _TOP, _LEFT, _HEIGHT - _BOTTOM),
        _rule(_LEFT, _HEIGHT - _BOTTOM, _WIDTH - _RIGHT, _HEIGHT - _BOTTOM),
        _text((_LEFT + _WIDTH) / 2, _HEIGHT - 10, x_name, "middle"),
        _text(8, _TOP - 8, y_name, "start"),
    ]
    for part in range(5):
        x, y = across.high * part / 4, up.high * part / 4
        marks.append(_text(across(x), _HEIGHT - _BOTTOM + 16, _short(x), "middle"))
        marks.append(_text(_LEFT - 6, up(y) + 4, _short(y), "end"))
    for index, line in enumerate(series.values()):
        path = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in line)
        marks.append(f'<polyline points="{path}" fill="none" stroke="{_colour(index)}" stroke-width="2"/>')
        marks += [
            f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="3" fill="{_colour(index)}"/>' for x, y in line
        ]
    return _page(title, marks)


def _colour(index: int) -> str:
    return _COLOURS[index % len(_COLOURS)]


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _rule(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{_INK}"/>'


def _legend(names: Sequence[str]) -> Iterable[str]:
    x = float(_LEFT)
    for index, name in enumerate(names):
        yield f'<rect x="{x:.1f}" y="26" width="10" height="10" fill="{_colour(index)}"/>'
        yield _text(x + 14, 35, name, "start")
        x += 26 + 6.4 * len(name)


def _page(title: str, marks: Iterable[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'font-family="sans-serif" font-size="11" fill="{_INK}">'
    )
    return "\n".join(
        [head, f"<title>{escape(title)}</title>", _text(8, 16, title, "start"), *marks, "</svg>\n"]
    )
