"""What a run came to, as a Markdown table."""

from __future__ import annotations

from constitution.records import Run

LABELS = {
    "prompts": "prompts",
    "responses": "responses",
    "judgements": "votes",
    "preferences": "preferences",
    "kept": "of these kept",
    "failures": "failures",
    "unsaid": "of these empty output or refused critiques",
    "open": "prompts to be tried again",
    "lost": "prompts that failed for good",
    "prompt_tokens": "tokens in",
    "cached_tokens": "of these from the prefix cache",
    "completion_tokens": "tokens out",
}
"""Names of `Run.counts` in the words of a reader, in the order that they are shown in."""


def rows(run: Run) -> list[tuple[str, str]]:
    """Name and number for each count; those of things that went wrong only where there are any."""
    shown = {name: run.counts.get(name, 0) for name in LABELS}
    found = [(LABELS[name], f"{n:,}") for name, n in shown.items() if n or name not in ("unsaid", "open", "lost")]
    return [*found, ("seconds", f"{run.seconds:,.1f}")]


def report(run: Run) -> str:
    state = "finished" if run.finished_at else "not finished: starting it again goes on from here"
    lines = [
        f"# {run.run_id}",
        "",
        f"Constitution {run.constitution}, {state}.",
        "",
        "| | |",
        "|---|--:|",
        *(f"| {name} | {number} |" for name, number in rows(run)),
        "",
        *(f"- {role}: {facts.get('name', '?')} ({facts.get('engine', '?')})" for role, facts in run.models.items()),
    ]
    return "\n".join(lines)
