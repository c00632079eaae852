"""What a run came to: counts, usage, engines and cost in words, and all of it as Markdown."""

from __future__ import annotations

from collections import Counter
from typing import Any

from constitution.pipeline.cost import money
from constitution.pipeline.progress import Pace, Progress
from constitution.records import Run, Usage
from constitution.shown import markdown

LABELS = {
    "prompts": "prompts",
    "cut_answers": "of these with a last answer that was cut off",
    "skipped": "rows of the source that were skipped",
    "turns": "later turns asked",
    "responses": "responses",
    "judgements": "votes",
    "off_label": "of these mostly not on a label",
    "censored": "of these with a label not read but bounded",
    "votes_missing": "votes not counted",
    "votes_spared": "votes not needed",
    "scores": "readings of single answers",
    "scores_off_label": "of these mostly not on a reply",
    "rewards": "rewards",
    "rewards_missing": "of these without value, for want of readings",
    "rewards_other": "of these without value, for other reasons",
    "reference_checks": "references",
    "references_dropped": "of these of which nothing is made",
    "rubrics": "items of prompts' rubrics",
    "rubrics_dropped": "of these not asked",
    "preferences": "preferences",
    "kept": "of these kept",
    "failures": "failures",
    "unsaid": "of these empty, refused, filtered or not asked",
    "open": "prompts to be tried again",
    "lost": "prompts that failed for good",
    "prompt_tokens": "tokens in",
    "cached_tokens": "of these from the prefix cache",
    "completion_tokens": "tokens out",
    "reasoning_tokens": "of these reasoning",
}
"""Names of `Run.counts` in the words of a reader, in the order that they are shown in."""

UNWANTED = (
    *("cut_answers", "skipped", "turns", "off_label", "censored", "votes_missing", "votes_spared", "scores"),
    *("scores_off_label", "rewards", "rewards_missing", "rewards_other", "reference_checks", "references_dropped"),
    *("rubrics", "rubrics_dropped", "unsaid", "open", "lost", "reasoning_tokens"),
)
"""Those of `LABELS` that are shown only where there are any."""

USAGE = ("stage", "model", "calls", "tokens in", "cached", "tokens out")
"""Heads of `usage_rows`."""


def rows(run: Run) -> list[tuple[str, str]]:
    """Name and number for each count; those of things that went wrong only where there are any."""
    shown = {name: run.counts.get(name, 0) for name in LABELS}
    found = {name: f"{n:,}" for name, n in shown.items() if n or name not in UNWANTED}
    found["cached_tokens"] += _share(shown["cached_tokens"], shown["prompt_tokens"])
    listed = [(LABELS[name], number) for name, number in found.items()]
    listed += [("cost", spent)] if (spent := cost(run)) else []
    return [*listed, ("seconds", f"{run.seconds:,.1f}")]


def usage_rows(run: Run) -> list[tuple[str, ...]]:
    """One row per stage and model, in the columns of USAGE."""
    return [
        (
            one.stage,
            one.model,
            f"{one.calls:,}",
            f"{one.prompt_tokens:,}",
            f"{one.cached_tokens:,}" + _share(one.cached_tokens, one.prompt_tokens),
            f"{one.completion_tokens:,}" + (f" ({one.reasoning_tokens:,} reasoning)" if one.reasoning_tokens else ""),
        )
        for one in (*run.usage, *_total(run.usage))
    ]


def engines(run: Run) -> list[str]:
    """A sentence per engine, on its calls, its time, and the further figures that it gave; and one per server of a
    fleet, on the last start."""
    parts = []
    for role, stats in run.engines.items():
        parts.append(f"{role}: {_engine(stats)}")
        served = stats.get("served_models") or {}
        if set(served) - {run.models.get(role, {}).get("name")}:
            parts.append(f"{role}: replies by model: " + ", ".join(f"{name} ({n:,})" for name, n in served.items()))
        fleet = stats.get("endpoints", ())
        if len(fleet) > 1:
            parts += [f"{role} at {_endpoint(endpoint)}" for endpoint in fleet]
    return parts


def events(run: Run) -> list[str]:
    """What went wrong and was mended: in the warehouse, and in the engines, in their words."""
    parts = Counter(f"{role}: {event}" for role, stats in run.engines.items() for event in stats.get("events", ()))
    again = [event + (f" ({times} times)" if times > 1 else "") for event, times in parts.items()]
    return [*(f"damaged: {clause}; made again" for clause in run.repairs), *again]


def beside(run: Run) -> list[str]:
    """A sentence on what of the source was not taken as it is."""
    skipped, cut = run.counts.get("skipped", 0), run.counts.get("cut_answers", 0)
    said = []
    if skipped:
        rows = "One row of the source was" if skipped == 1 else f"{skipped:,} rows of the source were"
        said.append(f"{rows} skipped: the table `skipped` says which, and why.")
    if cut:
        ended = "One prompt ended" if cut == 1 else f"{cut:,} prompts ended"
        said.append(f"{ended} with an answer, which was cut off and is kept in `prompts.cut_answer`.")
    return said


def cost(run: Run) -> str:
    """`9.98 USD`; empty without prices."""
    return "" if run.cost is None else f"{money(run.cost)} {(run.recipe.get('budget') or {}).get('currency', 'USD')}"


def figures(progress: Progress, pace: Pace) -> str:
    """Prompts and tokens a second, what goes wrong, cost and time left."""
    parts = [f"{pace.prompts():,.1f}/s", f"{pace.tokens():,.0f} tokens/s"]
    parts.append(f"{progress.rows['failures'] - progress.rows['unsaid']:,} failures")
    if off := progress.rows["off_label"]:
        parts.append(f"{off:,} votes not on a label")
    if censored := progress.rows["censored"]:
        parts.append(f"{censored:,} votes bounded")
    cost = progress.cost
    if cost is not None:
        parts.append(f"{money(cost)} {progress.currency}")
    return " · ".join([*parts, f"{duration(pace.left(progress))} left"])


def duration(seconds: float | None) -> str:
    """h:mm:ss; None: not known."""
    if seconds is None:
        return "-:--:--"
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def report(run: Run) -> str:
    state = "finished" if run.finished_at else "not finished: starting it again resumes from here"
    lines = [
        f"# {run.run_id}",
        "",
        f"Constitution {markdown(run.constitution)}, {state}.",
        *([f"Stopped by its {markdown(run.stopped)}."] if run.stopped else []),
        "",
        "| | |",
        "|---|--:|",
        *(f"| {name} | {number} |" for name, number in rows(run)),
        "",
    ]
    if run.usage:
        lines += [_line(USAGE), "|---|---|--:|--:|--:|--:|", *(_line(row) for row in usage_rows(run)), ""]
    parts = [f"{role}: {facts.get('name', '?')} ({facts.get('engine', '?')})" for role, facts in run.models.items()]
    lines += [f"- {markdown(sentence)}" for sentence in (*parts, *engines(run), *events(run))]
    return "\n".join(lines)


def _line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(map(markdown, cells))} |"


def _share(part: int, whole: int) -> str:
    return f" ({part / whole:.0%})" if part and whole else ""


def _total(usage: tuple[Usage, ...]) -> tuple[Usage, ...]:
    """The sum, where there is something to sum."""
    if len(usage) < 2:
        return ()
    names = ("calls", "prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens")
    return (Usage("all", "", *(sum(getattr(one, name) for one in usage) for name in names)),)


def _engine(stats: dict[str, Any]) -> str:
    parts = [
        f"{stats.get('calls', 0):,} calls ({stats.get('failures', 0):,} failed)",
        f"at most {stats.get('most_in_flight', 0):,} in flight or waiting at once",
        f"open for {stats.get('open_seconds', 0.0):,.1f} s, busy for {stats.get('busy_seconds', 0.0):,.1f} of them",
    ]
    known = {"calls", "failures", "most_in_flight", "busy_seconds", "open_seconds"}
    own = {name: value for name, value in stats.items() if name not in known and isinstance(value, int | float | str)}
    return ", ".join([*parts, *(f"{name.replace('_', ' ')} {_figure(value)}" for name, value in own.items())])


def _endpoint(stats: dict[str, Any]) -> str:
    parts = [f"{stats['base_url']}: {stats['calls']:,} calls ({stats['failures']:,} failed)"]
    if stats["outages"]:
        parts.append(f"out of service for {stats['out_of_service_seconds']:,.1f} s")
    return ", ".join([*parts, stats["state"]])


def _figure(value: float | str) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)
