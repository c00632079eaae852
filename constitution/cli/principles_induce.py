"""`constitution principles induce`: principles out of preferences."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from constitution.ask.panel import Panel
from constitution.ask.questions import opened
from constitution.cli._options import json_option, judge_options, show_json, warehouse_option
from constitution.cli.principles import aligned, either, root_of, root_option
from constitution.cli.principles_extract import proposals_option
from constitution.cli.principles_judge import POCKET, panel_of
from constitution.engines.identity import model_identity
from constitution.errors import InputError
from constitution.measures import Estimate
from constitution.pipeline.path_policy import allowed_folders, check_models
from constitution.principles.lists import entries_of
from constitution.principles.statements import How as Reading
from constitution.principles.statements import principles_of
from constitution.propose.candidates import Candidate, Proposed, propose, together
from constitution.propose.file import FILE, Note, Proposal, Proposals, folder_of, merge, read, write
from constitution.propose.induce import STYLE, How, Induced, fit, votes
from constitution.propose.labelled import Labelled, LabelledPair, read_labelled
from constitution.propose.replies import Replies
from constitution.recipe import JudgeSection, ModelSection, load_recipe
from constitution.shown import printable


@click.command("induce")
@click.argument("labels", metavar="LABELS|RUN")
@click.option("--name", default="induced", show_default=True, help="Of the proposals.")
@click.option("--labels", "whose", type=click.Choice(["gold", "judge"]), default="gold", show_default=True,
              help="Of a run: what people say, or its judge.")  # fmt: skip
@click.option("--candidates", "given", metavar="FILE|NAME", help="Principles to choose from: no writer is asked.")
@click.option("--audit", metavar="NAME[@VERSION]", help="What is rewarded that no principle of this constitution says.")
@click.option("--pairs", type=click.IntRange(min=1), default=50, show_default=True, help="That rules are written for.")
@click.option("--noise", type=click.FloatRange(0, 0.5, max_open=True), help="Share of labels that are wrong, if known.")
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True)
@proposals_option
@judge_options("pocket")
@json_option
@warehouse_option
@root_option
def induce_command(labels: str, **options: Any) -> None:
    """Find the principles that explain which answers are preferred.

    A writer proposes rules for some pairs, the judge votes by each on all pairs, and those are chosen that explain the
    labels together. 30 % of the prompts are held out for the figures.

    Example:  constitution principles induce preferences.jsonl --candidates general
    """
    found = read_labelled(labels, options["warehouse"], options["whose"])
    panel = panel_of(options["model"], options["recipe"], options["seed"]) or Panel({"": POCKET}, JudgeSection())
    known = [Candidate(p, known=True) for p in _compare(options["audit"], options["root"])] if options["audit"] else []
    candidates, proposed = _candidates(found.pairs, panel, options)
    ids = {candidate.principle.id for candidate in known}
    candidates = [*known, *(each for each in candidates if each.principle.id not in ids)]
    if not candidates:
        raise InputError(
            "no rule was proposed: " + (_counted(proposed) if proposed else "there is no candidate"),
            hint="name a larger writer with --recipe (model.policy), or principles to choose from with --candidates",
        )
    how = How(seed=options["seed"])
    folder = _folder(options)
    with Replies.open(folder / "replies.jsonl") as replies:
        kept = replace(panel, through=lambda engine, section: replies.of(engine, model_identity(section)))
        done = fit(found.pairs, candidates, asyncio.run(votes(found.pairs, candidates, kept)), how)
    said = _propose(folder, candidates, done, either(options["audit"], options["root"]).label if known else "")
    if options["as_json"]:
        show_json(_as_json(found, candidates, done, options["noise"]))
        return
    for line in _told(found, candidates, proposed, done, options["noise"]):
        click.echo(printable(line))
    if said:
        click.echo(printable(said))


def _folder(options: dict[str, Any]) -> Path:
    return folder_of(root_of(options["root"]), options["name"], options["proposals"])


def _propose(folder: Path, candidates: Sequence[Candidate], done: Induced, constitution: str) -> str:
    """Writes the chosen that are in no constitution, for people to decide; a sentence about it."""
    by_id = {candidate.principle.id: candidate for candidate in candidates}
    fresh = [name for name in done.chosen if not by_id[name].known]
    if not fresh:
        return ""
    made = [_proposal(by_id[name], done).sealed() for name in fresh]
    notes = [
        Note("duplicate", (name, *like), "votes do not tell these apart") for name in fresh if (like := done.like(name))
    ]
    new = Proposals("induce", constitution, proposals=tuple(made), notes=tuple(notes))
    path = folder / FILE
    said = write(folder, merge(read(path), new) if path.exists() else new)
    return f"{len(fresh)} proposed in {folder.name}/{FILE}; nothing is accepted. {said}".rstrip()


def _proposal(candidate: Candidate, done: Induced) -> Proposal:
    name = candidate.principle.id
    weight, lost, like = done.selection.weights[name], done.drop_one[name], done.like(name)
    note = f"weight {_number(weight)}; held-out loss without it {_number(lost)}"
    if others := candidate.members[1:]:
        note += f"; also worded: {' / '.join(others[:5])}"
    fault = (
        f"is not told from style: {', '.join(each for each in like if each in STYLE)}" if set(like) & set(STYLE) else ""
    )
    return Proposal(candidate.principle, note=note, fault=fault)


def _compare(named: str, root: Path | None) -> list[Any]:
    return [principle for principle in either(named, root).principles if principle.compares]


def _candidates(
    pairs: Sequence[LabelledPair], panel: Panel, options: dict[str, Any]
) -> tuple[list[Candidate], Proposed | None]:
    if named := options["given"]:
        path = Path(named)
        if path.suffix in (".txt", ".md"):
            listed = principles_of(entries_of(path, []), Reading(), [])
            return [Candidate(principle) for principle in listed if principle.compares], None
        return [Candidate(principle) for principle in _compare(named, options["root"])], None
    writer = _writer(panel, options["recipe"])
    with Replies.open(_folder(options) / "replies.jsonl") as replies:
        proposed = asyncio.run(_proposed(writer, replies, pairs[: options["pairs"]], options["seed"]))
    return together(proposed), proposed


def _writer(panel: Panel, recipe: Path | None) -> ModelSection:
    """A recipe's policy; else the model that judges."""
    if recipe:
        found = load_recipe(recipe)
        check_models(found, allowed_folders(recipe))
        return found.model.policy
    return next(iter(panel.judges.values()))


async def _proposed(section: ModelSection, replies: Replies, pairs: Sequence[LabelledPair], seed: int) -> Proposed:
    async with opened(section) as engine:
        return await propose(replies.of(engine, model_identity(section)), pairs, seed)


# --- what is told


def _counted(proposed: Proposed) -> str:
    """`300 calls, 12 failed (EngineTimeout), 80 lines refused: …`"""
    failed = "".join(f", {count} failed ({name})" for name, count in proposed.failed.most_common())
    refused = "".join(f"; {count} lines dropped: {why}" for why, count in proposed.refused.most_common())
    return f"{proposed.calls} calls{failed}{refused}"


def ceiling_of(found: Labelled, noise: float | None) -> tuple[Estimate | None, str]:
    """How often the best prediction can agree with a label, and how that is known."""
    if noise is not None:
        return Estimate(1 - noise, None, None, len(found.pairs)), "by --noise"
    if (ceiling := found.ceiling) is not None:
        return ceiling, f"at most, from how raters of {ceiling.n} pairs agree"
    return None, "not known: no pair has two raters, and --noise is not given"


def _told(
    found: Labelled, candidates: Sequence[Candidate], proposed: Proposed | None, done: Induced, noise: float | None
) -> Iterator[str]:
    yield (
        f"{found.source}: {len(found.pairs)} pairs prefer an answer; dropped: {found.ties} ties, "
        f"{found.unvotable} without two different texts, {found.unlabelled} without a label, {len(found.skipped)} rows"
    )
    yield from (f"  dropped: {why}" for why in found.skipped[:3])
    if proposed:
        yield f"{len(candidates)} candidates; {_counted(proposed)}"
    yield f"{done.train} pairs to choose by, {done.held} held out"
    yield ""
    rows: list[tuple[str, ...]] = [
        ("principle", "weight", "held-out loss without it", "alone", "votes", "ties", "missing")
    ]
    by_id = {candidate.principle.id: candidate for candidate in candidates}
    chosen = set(done.selection.chosen)
    for name in (*done.selection.chosen, *(id for id in by_id if id not in chosen)):
        weight, lost = done.selection.weights.get(name), done.drop_one.get(name)
        tally = done.tallies.get(name)
        counts = (_number(tally.agreement), *map(str, (tally.votes, tally.ties, tally.missing))) if tally else ("",) * 4
        rows.append((name, _number(weight) if weight else "-", _number(lost) if lost else "", *counts))
    yield from aligned(rows, right=range(3, 7))
    yield ""
    yield from _remarks(by_id, done)
    ceiling, how = ceiling_of(found, noise)
    yield f"agreement with held-out labels  {_number(done.agreement)}, {done.undecided} of {done.held} undecided"
    yield f"  by style alone                {_number(done.style_agreement)}"
    yield f"  noise ceiling                 {_number(ceiling) if ceiling else '-'} ({how})"


def _remarks(by_id: dict[str, Candidate], done: Induced) -> Iterator[str]:
    selection = done.selection
    if selection.note:
        yield selection.note
    if not selection.chosen and not selection.note:
        yield "nothing is chosen: no candidate explains these labels more surely than chance would"
    for name in selection.chosen:
        if (selection.weights[name].value or 0) < 0 and name not in STYLE:
            yield f"{name}: the labels reward the opposite"
        twins = [f"{other}{' (its opposite)' if sign < 0 else ''}" for other, sign in selection.groups[name][1:]]
        if twins:
            yield f"{name}: cannot be told from {', '.join(twins)}: their votes are the same"
        if rivals := selection.rivals[name]:
            yield f"{name}: as well explained by {', '.join(rivals)}; more pairs would tell"
        if name in STYLE:
            yield f"{name}: is rewarded beside the principles"
    for name in selection.useless.keys() - set(STYLE):
        yield f"{name}: {selection.useless[name]}"
    if selection.separated:
        yield "what is chosen tells all of these pairs right: how large the weights are is not known"
    if any(candidate.known for candidate in by_id.values()):
        fresh = [n for n in done.chosen if not _said(n, by_id, done)]
        yield f"rewarded, and no principle says it: {', '.join(fresh) or 'nothing'}"


def _said(name: str, by_id: dict[str, Candidate], done: Induced) -> bool:
    """Whether an existing principle says it, or cannot be told from it."""
    return any(by_id[each].known for each in (name, *done.like(name)) if each in by_id)


def _number(found: Estimate) -> str:
    if found.value is None:
        return "-"
    interval = "" if found.low is None or found.high is None else f" ({found.low:.2f} to {found.high:.2f})"
    return f"{found.value:.2f}{interval}"


def _as_json(found: Labelled, candidates: Sequence[Candidate], done: Induced, noise: float | None) -> dict[str, Any]:
    ceiling, how = ceiling_of(found, noise)
    left = {"ties": found.ties, "unvotable": found.unvotable, "unlabelled": found.unlabelled, "skipped": found.skipped}
    told = [
        {"id": c.principle.id, "question": c.principle.comparison_question, "pairs": c.pairs, "members": c.members,
         "known": c.known} for c in candidates
    ]  # fmt: skip
    noise_ceiling = {"value": ceiling and asdict(ceiling), "how": how}
    return {"source": found.source, "dropped": left, "candidates": told, "ceiling": noise_ceiling, **asdict(done)}
