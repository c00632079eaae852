"""The report's drawings as SVG: in the page's own colours and fonts, the same bytes for the same rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

from constitution.audit.kinds import Rows, Unit, interval, written

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
"""Okabe and Ito's, which colour-blind readers can tell apart; each goes with its own dash pattern."""
_DASHES = ("none", "6 3", "2 2", "8 2 2 2", "1 3")
_WIDTH, _HEIGHT = 160, 16
"""Size of a line of intervals, in CSS pixels."""


def scale(rows: Rows, null: float | None) -> tuple[float, float] | None:
    """The least and the greatest that a table's intervals show; None: it has none."""
    ends = [row[end] for row in rows for end in ("value", "low", "high") if row[end] is not None]
    if all(row["low"] is None for row in rows) or min(ends) == max(ends) == null:
        return None
    ends += [] if null is None else [null]
    return (min(ends), max(ends)) if min(ends) < max(ends) else None


def line(row: Mapping[str, Any], ends: tuple[float, float], null: float | None) -> str:
    """One row's value and 95 % interval between the table's ends; a dashed line at `null`."""

    def at(value: float) -> str:
        return f"{6 + (value - ends[0]) / (ends[1] - ends[0]) * (_WIDTH - 12):.1f}"

    value, low, high = row["value"], row["low"], row["high"]
    parts = [] if null is None else [f'<line class="null" x1="{at(null)}" x2="{at(null)}" y1="0" y2="{_HEIGHT}"/>']
    if low is not None and high is not None:
        parts.append(f'<line class="interval" x1="{at(low)}" x2="{at(high)}" y1="8" y2="8"/>')
    if value is not None:
        parts.append(f'<circle cx="{at(value)}" cy="8" r="4"/>')
    return f'<svg class="line" viewBox="0 0 {_WIDTH} {_HEIGHT}" aria-hidden="true">{"".join(parts)}</svg>'


def axis(ends: tuple[float, float], unit: Unit) -> str:
    """What the ends of a table's lines are."""
    return f"{interval(*ends, unit)}{' log-odds' * (unit == 'log-odds')}"


def reliability(rows: Rows) -> list[str]:
    """A diagram per judge: observed share against predicted probability, a line per stage. rows: judge, stage,
    predicted, value, n."""
    drawings = []
    for judge in dict.fromkeys(row["judge"] for row in rows):
        own = [row for row in rows if row["judge"] == judge]
        parts = ['<path class="null" d="M40 300 L320 20"/>', *_axes("predicted probability", "observed share")]
        parts += _ticks(
            [(share, f"{share:.0%}") for share in (0, 0.5, 1)], [(share, f"{share:.0%}") for share in (0, 0.5, 1)]
        )
        stages = list(dict.fromkeys(row["stage"] for row in own))
        for place, stage in enumerate(stages):
            bins = [row for row in own if row["stage"] == stage]
            said = f"{stage}, n = {sum(row['n'] for row in bins) // 2:,} pairs"
            parts += _path(place, [(row["predicted"], row["value"]) for row in bins], said)
        drawings.append(_drawing(340, 356 + 18 * len(stages), judge or "all judges", parts))
    return drawings


def curves(rows: Rows) -> list[str]:
    """A diagram per source of rewards: what the best of n by it is worth, a line per `seen by`, and intervals; n by
    its logarithm. A line in another unit than rewards (gold) has its own diagram. rows: chosen by, seen by, best of,
    value, low, high, n."""
    drawings = []
    for source, gold in sorted({(row["chosen by"], row["seen by"] == "gold") for row in rows}):
        own = [row for row in rows if row["chosen by"] == source and (row["seen by"] == "gold") == gold]
        ends = [row[end] for row in own for end in ("value", "low", "high") if row[end] is not None]
        low, high = min(ends), max(*ends, min(ends) + 1e-09)
        most = max(row["best of"] for row in own)
        at = {n: math.log2(n) / math.log2(max(most, 2)) for n in sorted({row["best of"] for row in own})}
        parts = _axes("n", "gold" if gold else "worth")
        parts += _ticks(
            [(x, str(n)) for n, x in at.items()], [(0, written(low, "number")), (1, written(high, "number"))]
        )
        lines = sorted({row["seen by"] for row in own})
        for place, seen_by in enumerate(lines):
            line = [row for row in own if row["seen by"] == seen_by]
            points = [(at[row["best of"]], (row["value"] - low) / (high - low)) for row in line]
            parts += _path(place, points, f"seen by {seen_by}, n = {max(row['n'] for row in line):,} groups")
            for row in line:
                if row["low"] is not None:
                    x, (y, end) = (
                        40 + 280 * at[row["best of"]],
                        (300 - 280 * (row[each] - low) / (high - low) for each in ("low", "high")),
                    )
                    parts.append(
                        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y:.1f}" y2="{end:.1f}" stroke="{_colour(place)}"/>'
                    )
        drawings.append(_drawing(340, 356 + 18 * len(lines), f"best of n by {source}", parts))
    return drawings


def _colour(place: int) -> str:
    return COLOURS[place % len(COLOURS)]


def _path(place: int, shares: Sequence[tuple[float, float]], said: str) -> list[str]:
    """A line through points, which are shares of both axes, and what it is, below the diagram."""
    points = [(40 + 280 * x, 300 - 280 * y) for x, y in shares]
    colour, dash = _colour(place), _DASHES[place % len(_DASHES)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    y = 352 + 18 * place
    return [
        f'<polyline points="{path}" stroke="{colour}" stroke-dasharray="{dash}"/>',
        *(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points),
        f'<line x1="40" x2="70" y1="{y - 4}" y2="{y - 4}" stroke="{colour}" stroke-dasharray="{dash}"/>',
        f'<text x="78" y="{y}">{escape(said)}</text>',
    ]


def heat(rows: Rows) -> list[str]:
    """Phi of each two principles as a square of colours. rows: principle, other principle, value, n."""
    names = sorted({str(row["principle"]) for row in rows})
    values = {(str(row["principle"]), str(row["other principle"])): row["value"] for row in rows}
    left, side = 130, max(26, min(44, 360 // len(names)))
    parts = []
    for y, one in enumerate(names):
        parts.append(f'<text x="{left - 6}" y="{y * side + side / 2 + 4}" text-anchor="end">{_short(one)}</text>')
        bottom = len(names) * side + 8
        turned = f'transform="rotate(45 {left + y * side + side / 2} {bottom})"'
        parts.append(f'<text x="{left + y * side + side / 2}" y="{bottom}" {turned}>{_short(one)}</text>')
        for x, other in enumerate(names):
            value = values.get((one, other))
            if value is None:
                continue
            colour = COLOURS[2] if value > 0 else COLOURS[1]
            where = f'x="{left + x * side}" y="{y * side}" width="{side - 1}" height="{side - 1}"'
            parts.append(f'<rect {where} fill="{colour}" fill-opacity="{abs(value) / 2:.2f}"/>')
            where = f'x="{left + x * side + side / 2}" y="{y * side + side / 2 + 4}"'
            parts.append(f'<text {where} text-anchor="middle">{written(value, "number")}</text>')
    n = sorted({row["n"] for row in rows})
    title = f"φ, n = {n[0]:,} to {n[-1]:,} pairs" if len(n) > 1 else f"φ, n = {n[0]:,} pairs"
    return [_drawing(left + len(names) * side + 90, len(names) * side + 110, title, parts)]


def _axes(x: str, y: str) -> list[str]:
    return [
        '<path class="axis" d="M40 20 V300 H320"/>',
        f'<text x="180" y="332" text-anchor="middle">{x}</text><text x="40" y="12">{y}</text>',
    ]


def _ticks(along: Sequence[tuple[float, str]], up: Sequence[tuple[float, str]]) -> list[str]:
    """Shares of each axis, and what is written there."""
    return [
        *(f'<text x="{40 + 280 * share:.1f}" y="316" text-anchor="middle">{said}</text>' for share, said in along),
        *(f'<text x="34" y="{304 - 280 * share:.1f}" text-anchor="end">{said}</text>' for share, said in up),
    ]


def _drawing(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    text = f'<text class="title" x="0" y="14">{escape(title)}</text>'
    moved = f'<g transform="translate(0 24)">{"".join(parts)}</g>'
    return f'<svg class="drawing" viewBox="0 0 {width} {height + 24}" width="{width}">{text}{moved}</svg>'


def _short(name: str, most: int = 18) -> str:
    return escape(name if len(name) <= most else name[: most - 1] + "…")
