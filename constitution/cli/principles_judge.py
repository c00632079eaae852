"""`constitution principles test`: what a judge makes of principles' own examples; and the judges that options name."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from constitution.ask.examples import Trial, try_examples, untested
from constitution.ask.panel import Panel
from constitution.cli._options import judge_options
from constitution.cli.principles import aligned, either, root_option
from constitution.errors import PrincipleError
from constitution.pipeline.path_policy import allowed_folders, check_models
from constitution.recipe import FakeModel, JudgeSection, ModelSection, TransformersModel, load_recipe
from constitution.records import Constitution
from constitution.shown import printable
from constitution.templates.wording import mixed

POCKET = TransformersModel(engine="transformers", model="pocket")


def panel_of(model: str | None, recipe: Path | None, seed: int = 1) -> Panel | None:
    """The judges that the options name; None where they name none."""
    if model and recipe:
        raise click.UsageError("--model and --recipe both say who judges; give one of them")
    if recipe:
        found = load_recipe(recipe)
        check_models(found, allowed_folders(recipe))
        return Panel.of(found.model, found.judge, seed, found.wording)
    if not model:
        return None
    fake = FakeModel(engine="fake")
    section: ModelSection = fake if model == "fake" else TransformersModel(engine="transformers", model=model)
    return Panel({"": section}, JudgeSection(), seed)


@click.command()
@click.argument("constitution", metavar="NAME[@VERSION]")
@judge_options("pocket")
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
@root_option
def test(constitution: str, model: str | None, recipe: Path | None, as_json: bool, root: Path | None) -> None:
    """Put each principle's own examples to a judge.

    An example is judged rightly if the judge prefers `better` by that principle alone, in the mean of both orders. Exit
    code 1 if one is judged wrongly, or cannot be judged.

    Example:  constitution principles test pocket
    """
    panel = panel_of(model, recipe) or Panel({"": POCKET}, JudgeSection())
    found = either(constitution, root)
    if not any(principle.examples for principle in found.principles):
        raise PrincipleError(
            f"{found.label}: no principle has an example, so there is nothing to test",
            hint="add [[principles.examples]] with prompt, better and worse",
        )
    if said := mixed(found, panel.wording):
        click.echo(f"{printable(said)}; --recipe FILE may name other templates", err=True)
    trials = asyncio.run(try_examples(found, panel))
    if as_json:
        told: dict[str, Any] = {"constitution": found.label, "digest": found.digest, "method": _methods(panel)}
        told |= {"trials": [_as_json(trial) for trial in trials], "untested": untested(found)}
        click.echo(json.dumps(told, ensure_ascii=False, indent=2))
    else:
        _show(found, panel, trials)
    sys.exit(0 if all(trial.right for trial in trials) else 1)


def _methods(panel: Panel, judge: str = "") -> str:
    """How the judge votes, or how all do."""
    models = [panel.judges[judge]] if judge in panel.judges else panel.judges.values()
    return ", ".join(dict.fromkeys(panel.section.of(model).method for model in models))


def _as_json(trial: Trial) -> dict[str, Any]:
    return {**asdict(trial), "right": trial.right, "flips": trial.flips}


def _show(found: Constitution, panel: Panel, trials: Sequence[Trial]) -> None:
    for place, judge in enumerate(dict.fromkeys(trial.judge for trial in trials)):
        if place:
            click.echo()
        own = [trial for trial in trials if trial.judge == judge]
        click.echo(
            f"{found.label}, judged by {printable(judge)} (method {_methods(panel, judge)}): "
            "P(better) by where it is shown"
        )
        rows: list[tuple[str, ...]] = [("principle", "example", "first", "second", "both", "")]
        rows += [
            (t.principle_id, str(t.example), _p(t.shown_first), _p(t.shown_second), _p(t.p), _verdict(t)) for t in own
        ]
        for line in aligned(rows, right=range(1, 5)):
            click.echo(line)
        right, judged = sum(trial.right for trial in own), sum(trial.judged for trial in own)
        told = f"{right} right, {judged - right} wrong, {len(own) - judged} not judged"
        flips = sum(trial.flips for trial in own)
        click.echo(f"{len(own)} example{_s(len(own))}: {told}; {flips} position flip{_s(flips)}")
    if missing := untested(found):
        click.echo(f"without examples, so not tested: {', '.join(missing)}")


def _verdict(trial: Trial) -> str:
    if not trial.judged:
        return f"not judged: {trial.failure}"
    word = "right" if trial.right else "WRONG"
    more = ["flips with the position"] * trial.flips + [f"votes missing: {trial.failure}"] * bool(trial.failure)
    return "; ".join([word, *more])


def _p(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _s(count: int) -> str:
    return "" if count == 1 else "s"
