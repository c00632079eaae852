"""The report's plots: rows → SVG text, drawn by matplotlib.

Each plot is narrow, about as wide as a phone, with its text as text and its ink in the page's own colours, so that it
is read on any screen, by day and by night. The same rows give the same bytes.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from constitution.audit.words import UNITS, tick

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, Any]]

WIDTH = 400
"""Width of every plot, in CSS pixels."""
ROW = 24
"""Height of one line of a chart, in CSS pixels."""

SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's colours, which colour-blind readers can tell apart; each goes with a marker of its own."""
MARKERS = ("o", "s", "D", "^", "v", "P")

# Colours that stand for the page's own, and are replaced by them.
_INK, _MUTED, _LINE = "#010203", "#040506", "#070809"
_CSS = {_INK: "currentColor", _MUTED: "var(--muted)", _LINE: "var(--line)"}

_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a dollar in a principle's id is a dollar
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _LINE,
    "axes.labelcolor": _MUTED,
    "axes.axisbelow": True,
    "grid.color": _LINE,
    "text.color": _INK,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "xtick.labelcolor": _MUTED,
    "ytick.labelcolor": _INK,
    "legend.frameon": False,
}

Write = Callable[[float], str]
"""How a value is written."""


def intervals(
    rows: Rows, label: str, group: str = "", *, write: Write, line: float | None = None, bars: bool = False
) -> list[str]:
    """A line per row: its value, its 95 % interval and the number, under its `label`.

    rows: with value, low, high and the columns `label` and `group`. line: where a reader looks from, drawn through the
    chart; bars begin there.
    """
    groups = _distinct(rows, group) if group else [""]
    colour = {name: place for place, name in enumerate(groups)}
    drawn: list[tuple[float, Mapping[str, Any]]] = []
    middles: dict[str, float] = {}
    height = 0.0
    for text in _distinct(rows, label):
        here = [row for row in rows if str(row[label]) == text]
        places = [height + 0.5 + 0.72 * place for place in range(len(here))]
        drawn += zip(places, here, strict=True)
        middles[text] = (places[0] + places[-1]) / 2
        height = places[-1] + 0.5
    legend = 20 * -(-len(groups) // 2) if len(groups) > 1 else 0
    with _drawing(ROW * height + 30 + legend) as (figure, written):
        axes = figure.add_subplot()
        for at, row in drawn:
            _interval(axes, row, at, colour[str(row[group]) if group else ""], line if bars else None)
            axes.annotate(
                write(row["value"]), (1.02, at), xycoords=axes.get_yaxis_transform(), va="center", annotation_clip=False
            )
        if line is not None:
            axes.axvline(line, color=_MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
        axes.set_yticks(list(middles.values()), [_short(text or "all") for text in middles])
        axes.set_ylim(height, 0)
        axes.tick_params(left=False)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x", linewidth=0.6)
        axes.xaxis.set_major_locator(_locator())
        axes.xaxis.set_major_formatter(tick(write))
        if len(groups) > 1:
            _legend(figure, groups)
    return written


def reliability(rows: Rows) -> list[str]:
    """Observed against predicted, a drawing per judge and a line per stage; on the diagonal a label means what it says.

    rows: judge, stage, predicted, observed, n.
    """
    drawings = []
    for judge in _distinct(rows, "judge"):
        own = [row for row in rows if row["judge"] == judge]
        stages = _distinct(own, "stage")
        with _drawing(WIDTH + 10) as (figure, written):
            axes = figure.add_subplot()
            axes.plot([0, 1], [0, 1], color=_MUTED, linewidth=1, linestyle=(0, (4, 3)))
            for which, stage in enumerate(stages):
                bins = [row for row in own if row["stage"] == stage]
                x, y = [row["predicted"] for row in bins], [row["observed"] for row in bins]
                colour, marker = _mark(which)
                axes.plot(x, y, color=colour, marker=marker, markersize=5, linewidth=1.5)
            axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
            axes.set_xlabel("predicted probability")
            axes.set_ylabel("observed share")
            axes.grid(linewidth=0.6)
            axes.set_title(_short(judge or "all", 40), loc="left", fontsize=11)
            _legend(figure, stages)
        drawings += written
    return drawings


def heat(rows: Rows) -> list[str]:
    """Phi of each two principles' votes as a square of colours: green votes alike, brown against each other.

    rows: principle, other, value.
    """
    names = sorted({str(row[side]) for row in rows for side in ("principle", "other")})
    found = {(str(row["principle"]), str(row["other"])): row["value"] for row in rows}
    grid = [[found.get((one, two), found.get((two, one))) for two in names] for one in names]
    with _drawing(WIDTH + 10) as (figure, written):
        import matplotlib
        import numpy as np

        axes = figure.add_subplot()
        values = np.array([[np.nan if value is None else value for value in line] for line in grid], np.float64)
        colours = matplotlib.colormaps["BrBG"].with_extremes(bad="none")
        mesh = axes.pcolormesh(values, cmap=colours, vmin=-1, vmax=1, linewidth=0)
        if len(names) <= 10:
            for y, line in enumerate(grid):
                for x, value in enumerate(line):
                    if value is not None:
                        ink = "#ffffff" if abs(value) > 0.6 else "#222222"
                        axes.text(
                            x + 0.5,
                            y + 0.5,
                            f"{value:.2f}".replace("-", "−"),
                            ha="center",
                            va="center",
                            fontsize=9,
                            color=ink,
                        )
        else:
            edges = np.linspace(-1, 1, 21)
            figure.colorbar(mesh, ax=axes, location="top", shrink=0.6, aspect=30, boundaries=edges, ticks=[-1, 0, 1])
        places = [place + 0.5 for place in range(len(names))]
        axes.set_xticks(places, [_short(name, 16) for name in names], rotation=90)
        axes.set_yticks(places, [_short(name, 16) for name in names])
        axes.tick_params(length=0, labelcolor=_INK)
        axes.set(ylim=(len(names), 0), aspect="equal")
        for spine in axes.spines.values():
            spine.set_visible(False)
    return written


def rounds(rows: Rows, *, panels: Mapping[str, Write]) -> list[str]:
    """A panel per figure over the rounds, with its interval. rows: what, round, value, low, high."""
    shown = [name for name in _distinct(rows, "what") if name in panels]
    with _drawing(150 * len(shown)) as (figure, written):
        for place, name in enumerate(shown):
            axes = figure.add_subplot(len(shown), 1, place + 1)
            line = sorted((row for row in rows if row["what"] == name), key=lambda row: int(row["round"]))
            x, y = [int(row["round"]) for row in line], [row["value"] for row in line]
            low = [_end(row, "low") for row in line]
            high = [_end(row, "high") for row in line]
            axes.fill_between(x, low, high, color=SERIES[0], alpha=0.2, linewidth=0)
            axes.vlines(x, low, high, color=SERIES[0], linewidth=1.5)
            axes.plot(x, y, color=SERIES[0], marker="o", markersize=5, linewidth=1.5)
            for at, value, top in zip(x, y, high, strict=True):
                axes.annotate(
                    panels[name](value), (at, top), xytext=(0, 4), textcoords="offset points", ha="center", fontsize=10
                )
            axes.margins(x=0.15, y=0.3)
            axes.set_xticks(x, [f"round {number}" for number in x])
            if panels[name] is UNITS["share"]:
                axes.set_ylim(0, 1.2)
                axes.set_yticks([0, 0.5, 1])
            else:
                axes.yaxis.set_major_locator(_locator(3))
            axes.yaxis.set_major_formatter(tick(panels[name]))
            axes.tick_params(axis="y", labelcolor=_MUTED)
            axes.grid(axis="y", linewidth=0.6)
            axes.set_title(name, loc="left", fontsize=11)
    return written


def _interval(axes: Axes, row: Mapping[str, Any], at: float, which: int, bar_from: float | None) -> None:
    colour, marker = _mark(which)
    if bar_from is not None:
        axes.barh(at, row["value"] - bar_from, left=bar_from, height=0.55, color=colour, alpha=0.35, linewidth=0)
    axes.hlines(at, _end(row, "low"), _end(row, "high"), color=colour, linewidth=2)
    axes.plot([row["value"]], [at], color=colour, marker=marker, markersize=6, linestyle="none")


def _mark(which: int) -> tuple[str, str]:
    """Colour and marker of a series."""
    return SERIES[which % len(SERIES)], MARKERS[which % len(MARKERS)]


def _end(row: Mapping[str, Any], end: str) -> float:
    """An end of the row's interval; of one that has none, its value."""
    return float(row["value"] if row[end] is None else row[end])


def _legend(figure: Figure, names: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    marks = [
        Line2D([], [], color=SERIES[which % len(SERIES)], marker=MARKERS[which % len(MARKERS)], linewidth=2)
        for which in range(len(names))
    ]
    texts = [_short(name or "all", 26) for name in names]
    figure.legend(marks, texts, loc="outside upper left", ncols=2, labelcolor=_INK, handlelength=1.4, columnspacing=1.2)


def _locator(most: int = 4) -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(most)


def _distinct(rows: Rows, column: str) -> list[str]:
    """The column's values in the order that they come in."""
    return list(dict.fromkeys(str(row[column]) for row in rows))


def _short(text: str, most: int = 24) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


@contextmanager
def _drawing(height: float) -> Iterator[tuple[Figure, list[str]]]:
    """A figure to draw on, and a list that holds its SVG when the block is left."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    written: list[str] = []
    # Text is laid out by a font of matplotlib's and shown in one of the reader's: a sign that the first has not is no
    # matter.
    with rc_context(_SETTINGS), warnings.catch_warnings(action="ignore"):
        figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=72, layout="constrained", facecolor="none")
        yield figure, written
        for axes in figure.axes:
            axes.set_facecolor("none")
        written.append(_svg(figure))


def _svg(figure: Figure) -> str:
    """The drawing as an element of the page: no size of its own, the page's font and colours, no id but those that the
    drawing refers to, which are of its content."""
    from matplotlib import rc_context

    plain: dict[str, Any] = {"Date": None, "Creator": None, "Format": None, "Type": None}
    # Ids are digests of what they name and of this salt: two drawings of one page share one only where that is equal.
    with rc_context({"svg.hashsalt": "constitution"}), io.StringIO() as file:
        figure.savefig(file, format="svg", metadata=plain)
        text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2)
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r" font-family: [^;\"]*;?", "", text)
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", text)
    for colour, name in _CSS.items():
        text = text.replace(colour, name)
    return text
