"""`constitution try`: a recipe on a few of its prompts, before money is spent."""

from __future__ import annotations

import asyncio
import shlex
import shutil
import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from constitution.audit.kinds import interval, written
from constitution.cli._options import json_option, show_json, warehouse_option, where
from constitution.cli._progress import Bar, Lines
from constitution.engines import Request
from constitution.measures import Estimate
from constitution.pipeline import watcher
from constitution.pipeline.cost import money
from constitution.pipeline.plan import batch_steps
from constitution.pipeline.report import beside, duration
from constitution.recipe import load_recipe
from constitution.records import Figure, as_dicts
from constitution.shown import printable, printable_lines
from constitution.trial import PROMPTS, Trial, try_recipe
from constitution.trial.shares import BAD, Step

if TYPE_CHECKING:
    from rich.table import Table

FIGURES = {"position_effect": "first place adds", "position_bias": "same place"}
"""Figures of the audit that are shown of each judge, and their titles."""


_TITLES = {"tokens_in": "tokens in", "tokens_cached": "of these cached", "tokens_out": "tokens out", "hours": "time"}


@click.command("try")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option(
    "--prompts",
    type=click.IntRange(min=1),
    default=PROMPTS,
    show_default=True,
    metavar="N",
    help="Prompts to try, drawn by the recipe's seed; one of them is tried first.",
)
@click.option("--set", "overrides", multiple=True, metavar="A.B=C", help="Set a value of the recipe (again for more).")
@click.option(
    "--allow",
    type=click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path),
    multiple=True,
    metavar="DIR",
    help="Let the recipe read files in DIR too, besides its project (again for more); also CONSTITUTION_ALLOW.",
)
@click.option("--show", is_flag=True, help="Print one request of each kind, with its messages as the engine gets them.")
@json_option
@warehouse_option
def trial(
    recipe: Path,
    prompts: int,
    overrides: tuple[str, ...],
    allow: tuple[Path, ...],
    show: bool,
    as_json: bool,
    warehouse: Path,
) -> None:
    """Try RECIPE on a few prompts, through every step: what is wrong with it, which setting to change, and what all of
    its prompts will take, with 95 % intervals.

    It is no run: its rows are in a folder within `.try` in the warehouse, which `runs`, `sql` and exports do not see
    and which can be deleted at any time; `--warehouse` looks into it. It stops after one or two prompts where a step
    came to nothing.

    Exit codes: 0 nothing is wrong; 1 there are warnings; 2 it cannot be tried.

    \b
    Examples:
      constitution try recipes/fake.toml
      constitution try recipes/openai.toml --prompts 4 --show
    """
    loaded = load_recipe(recipe, overrides)
    display = nullcontext() if as_json else Bar() if sys.stdout.isatty() else Lines()
    token = watcher.set(getattr(display, "update", None))
    try:
        with redirect_stdout(sys.stderr) if as_json else nullcontext(), display:
            found = asyncio.run(try_recipe(loaded, recipe, warehouse, prompts, allow))
    finally:
        watcher.reset(token)
    if as_json:
        show_json(_facts(found, show))
    else:
        _tell(found)
        if not found.findings:
            given = [part for each in overrides for part in ("--set", each)]
            given += [part for each in allow for part in ("--allow", str(each))]
            command = shlex.join(["constitution", "run", str(recipe), *given])
            click.echo(f"Next:\n  {printable(command)}{where(warehouse)}")
        texts = _templated(found) if show else {}
        for (role, what), request in found.examples.items() if show else ():
            click.echo(f"\n── {printable(what)}, to {printable(role)}")
            click.echo(printable_lines(_text(request)))
            if (role, what) in texts:
                click.echo(f"── in the model's chat template\n{printable_lines(texts[role, what])}")
    sys.exit(1 if found.findings else 0)


def _tell(found: Trial) -> None:
    echo = click.echo
    echo(f"{printable(found.recipe.name)}: {found.worked:,} of {found.population:,} prompts tried")
    for sentence in beside(found.run):
        echo(sentence)
    if found.run.stopped:
        echo(f"Stopped early: {printable(found.run.stopped)}")
    heads: Sequence[str] = ("step", "asked", "failed", *BAD, "copied", "reasoned", "tokens")
    _table(heads, [_step(step) for step in found.steps if not step.judge])
    judges = [step for step in found.steps if step.judge]
    heads = ("judge", "method", "votes", "failed", "on labels", "bounded", *FIGURES.values())
    _table(heads, [_judge(step, found.figures) for step in judges])
    for figure in _agreement(found.figures):
        echo(f"{figure.subject or 'votes and labels'} agree: {_figure(figure)}")
    known = [(name, each) for name, each in found.forecast.items() if each.value is not None]
    forecast = [(_TITLES.get(name, name), *_foreseen(name, each)) for name, each in known]
    _table(("all prompts", "forecast", "95 % interval"), forecast)
    if budget := found.recipe.budget:
        echo(f"budget: {money(budget.limit)} {budget.currency}")
    if not known:
        echo("No forecast: the trial was stopped early" if found.run.stopped else "No forecast: no prompt was finished")
    elif found.recipe.model.batched:
        echo(
            "Cost is that of batches, half the price; the trial sent each request alone. Time cannot be foreseen: "
            f"{batch_steps(found.recipe)} batches at most follow on each other for a prompt, and each may take a day"
        )
    else:
        echo(
            f"Time is at the trial's rate, with {found.in_flight:,} prompts in flight; a run has up to "
            f"{min(found.recipe.output.window, found.population):,}, and may be faster"
        )
    for finding in found.findings:
        echo(f"! {printable(finding.what)}\n  change: {printable(finding.setting)}")
    echo(f"Rows: --warehouse {printable(str(found.folder))}")


def _facts(found: Trial, show: bool) -> dict[str, Any]:
    """What --json prints: the same."""
    budget = found.recipe.budget
    return {
        "recipe": found.recipe.name,
        "run_id": found.run.run_id,
        "warehouse": str(found.folder),
        "prompts": found.population,
        "tried": found.worked,
        "stopped": found.run.stopped,
        "steps": [
            {
                "step": step.name,
                "asked": step.asked,
                "failed": step.failed,
                "outcomes": dict(step.outcomes),
                "copied": dict(step.copied),
                "reasoned": step.thought,
                "tokens_out": step.tokens,
                "reasoning_tokens": step.reasoning_tokens,
                "errors": dict(step.errors),
                **({"judge": step.judge, **_votes(step)} if step.judge else {}),
            }
            for step in found.steps
        ],
        "figures": [
            {"figure": each.figure, "judge": each.judge, "subject": each.subject, "value": each.value,
             "low": each.low, "high": each.high, "n": each.n}
            for each in found.figures
            if not each.principle_id and each.figure in (*FIGURES, "alpha", "agreement", "label_mass", "censored")
        ],
        "forecast": {
            name: {"value": each.value, "low": each.low, "high": each.high} for name, each in found.forecast.items()
        },
        "in_flight": found.in_flight,
        "budget": budget.model_dump() if budget else None,
        "warnings": [{"what": each.what, "setting": each.setting} for each in found.findings],
        **({"examples": _examples(found)} if show else {}),
    }  # fmt: skip


def _examples(found: Trial) -> list[dict[str, Any]]:
    texts = _templated(found)
    return [
        {"role": role, "step": what, "messages": as_dicts(request.messages), "choices": list(request.choices),
         **({"thought": request.thought} if request.thought else {}), "text": texts.get((role, what))}
        for (role, what), request in found.examples.items()
    ]  # fmt: skip


def _templated(found: Trial) -> dict[tuple[str, str], str]:
    """The texts of the examples in their models' chat templates; none of a served model's."""
    from constitution.ask.sent import templated

    models = found.recipe.model
    texts: dict[tuple[str, str], str] = {}
    for role, section in models.roles.items():
        own = {key: request for key, request in found.examples.items() if key[0] == role}
        if own:
            texts |= zip(own, templated(section, found.run.day, list(own.values())), strict=False)
    return texts


def _text(request: Request) -> str:
    """The messages as they are, each after its role."""
    turns = [f"[{message.role}]\n{message.content}" for message in request.messages]
    turns += [f"[assistant's thought]\n{request.thought}"] if request.thought else []
    end = f" → one of {' '.join(request.choices)}" if request.choices else ""
    return "\n".join(turns) + ("…" if request.continues else "") + end


def _step(step: Step) -> Sequence[str]:
    mean = f"{step.reasoning_tokens / step.done:,.0f} each" if step.reasoning_tokens else ""
    outcomes = [_share(step.outcomes[name], step.done) for name in BAD]
    return (step.name, f"{step.asked:,}", _share(step.failed, step.asked), *outcomes,
            _share(step.copied.total(), step.done), _share(step.thought, step.done), mean)  # fmt: skip


def _judge(step: Step, figures: Sequence[Figure]) -> Sequence[str]:
    said = _votes(step)
    own = [figure for figure in figures if figure.judge == step.judge and not step.reads and _whole(figure)]
    shown = {figure.figure: _figure(figure) for figure in own}
    return (
        printable(step.judge),
        step.name if step.reads else ", ".join(said["methods"]),
        f"{step.done:,}",
        _share(step.failed, step.asked),
        written(said["label_mass"], "share"),
        _share(step.censored, step.done),
        *(shown.get(name, "–") for name in FIGURES),
    )


def _votes(step: Step) -> dict[str, Any]:
    return {"methods": sorted(step.methods), "label_mass": step.label_mass, "censored": step.censored}


def _whole(figure: Figure) -> bool:
    return not figure.principle_id and figure.value is not None


def _agreement(figures: Sequence[Figure]) -> list[Figure]:
    wanted = (("alpha", "judges"), ("agreement", ""))
    return [each for each in figures if (each.figure, each.subject) in wanted and _whole(each)]


def _figure(figure: Figure) -> str:
    from constitution.audit.kinds import KINDS

    unit = KINDS[figure.figure].unit
    ends = interval(figure.low, figure.high, unit)
    return written(figure.value, unit) + (f" ({ends})" if ends else "")


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if part else "–"


def _foreseen(name: str, each: Estimate) -> tuple[str, str]:
    """Value and interval, as many figures as there is a use for."""

    def form(value: float | None) -> str:
        if value is None:
            return "?"
        return duration(3600 * value) if name == "hours" else money(value) if name == "cost" else f"{value:,.0f}"

    return form(each.value), "" if each.low is None else f"{form(each.low)} to {form(each.high)}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Nothing where there are no rows. A table that is wider than the terminal has rows and columns exchanged."""
    from rich.console import Console

    console = Console(highlight=False, width=shutil.get_terminal_size((160, 40)).columns)
    if rows:
        table = _grid(heads, rows)
        wide = console.measure(table, options=console.options.update(max_width=10_000)).maximum > console.width
        console.print(_grid(*_turned(heads, rows)) if wide else table)


def _turned(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    turned = list(zip(heads, *rows, strict=True))
    return turned[0], turned[1:]


def _grid(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for place, head in enumerate(heads):
        table.add_column(head, justify="left" if place == 0 else "right", no_wrap=place == 0, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table
