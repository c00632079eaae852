"""The options of `constitution audit` that ask a scorecard, and what it reports."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from constitution.ask import EVERY, SHIPPED, WINDOW
from constitution.audit import Tags
from constitution.audit.tags import kind_of
from constitution.cli._options import judge_options
from constitution.cli.principles import root_of
from constitution.principles import load_constitution, read_constitution
from constitution.records import Constitution, Run
from constitution.shown import printable
from constitution.templates.wording import ENGLISH, mixed

if TYPE_CHECKING:
    from constitution.ask.questions import Asked
    from constitution.pipeline import Progress

F = TypeVar("F", bound=Callable[..., Any])

EVERY_SECONDS = 10.0
"""Between two lines of progress."""
_KINDS = tuple(map(kind_of, Tags.__slots__))
_ONLY_ASKING = ("model", "recipe", "swaps", "sample", "concurrency")
"""Options that say how a scorecard is asked."""


def scorecard_options(command: F) -> F:
    for option in reversed(
        (
            click.option(
                "--scorecard", is_flag=False, flag_value="scorecard", metavar="[NAME[@VERSION]]",
                help="First ask the judges this constitution's questions (or those of a .toml file) about each answer. "
                "Write RUN before this option.  [without a name: scorecard]",
            ),
            judge_options("the run's own judges"),
            click.option(
                "--swaps", is_flag=False, flag_value=str(SHIPPED), metavar="[FILE]",
                help="For fairness: answer prompts again with terms for groups of people swapped.  [without a file: "
                "the terms that ship with the project]",
            ),
            click.option("--sample", type=click.IntRange(min=1), default=EVERY, metavar="N",
                         help="Ask about the answers to N prompts.  [default: all]"),
            click.option("--concurrency", type=click.IntRange(min=1), default=WINDOW, show_default=True,
                         help="Answers asked about at once, each with all its questions."),
            click.option(
                "--tag", multiple=True, metavar="KIND=TAG",
                help=f"The tag of prompts that are {', '.join(_KINDS)}, where it is not the kind's own name; later "
                "audits use it too.",
            ),
        )
    ):  # fmt: skip
        command = option(command)
    return command


def asks(context: click.Context) -> bool:
    """Whether a scorecard is to be asked. UsageError where it is not, but is said how."""
    if context.params["scorecard"]:
        return True
    for name in _ONLY_ASKING:
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{name} says how a scorecard is asked, and none is: add --scorecard")
    return False


async def ask(warehouse: Path, run: Run, **options: Any) -> str:
    """Asks what the options say, tells what became of it, and returns the scorecard's name@version."""
    # What asks loads engines, which an audit alone does without.
    from constitution.ask.scorecard import Order, score
    from constitution.ask.swaps import load_swaps
    from constitution.cli.principles_judge import panel_of
    from constitution.pipeline import watcher

    scorecard = _load(options["scorecard"])
    if said := mixed(scorecard, ENGLISH):
        click.echo(printable(said), err=True)
    order = Order(
        scorecard,
        panel_of(options["model"], options["recipe"]),
        load_swaps(Path(options["swaps"])) if options["swaps"] else (),
        options["sample"],
        options["concurrency"],
    )
    token = watcher.set(_Lines().update)
    try:
        asked = await score(warehouse, run, order)
    finally:
        watcher.reset(token)
    for each in asked:
        _tell(scorecard, each)
    return scorecard.label


def tags_of(given: Sequence[str]) -> Tags | None:
    """Reads `harmless=TAG`, `looks-harmful=TAG`, `harmful=TAG`: what is named is in place of the default. None: nothing
    is given."""
    named: dict[str, list[str]] = {}
    for each in given:
        kind, _, tag = each.partition("=")
        if kind not in _KINDS or not tag:
            raise click.UsageError(f"--tag {each}: expected KIND=TAG, where KIND is {', '.join(_KINDS)}")
        named.setdefault(kind, []).append(tag)
    return Tags.of(named) if named else None


def _load(name: str) -> Constitution:
    return read_constitution(Path(name)) if name.endswith(".toml") else load_constitution(root_of(None), name)


def _tell(scorecard: Constitution, asked: Asked) -> None:
    what = f"{scorecard.label} asked of {asked.judge}" if asked.judge else "Counterfactual prompts answered"
    click.echo(f"{printable(what)}: {asked.new:,} new, {asked.known:,} known before")
    if not (asked.judge or asked.new or asked.known or asked.failed):
        click.echo("  no prompt names exactly one term of a group (--swaps FILE takes your own terms)")
    for error, times in asked.failed.items():
        click.echo(
            f"  {times:,} failed: {error}: {printable(asked.why[error])}; the same command asks them again", err=True
        )


class _Lines:
    """How far it is, every ten seconds."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def update(self, progress: Progress) -> None:
        if time.monotonic() - self._last >= EVERY_SECONDS:
            self._last = time.monotonic()
            click.echo(f"{progress.done:,}/{progress.total:,} {progress.note}", err=True)
