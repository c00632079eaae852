"""What another version of a constitution would change: a sample of a run's pairs, judged under both versions.

    stored = sample_pairs(warehouse, run_id, 200)
    told = await impact(old, new, stored, Panel.of(recipe.model, recipe.judge))

A vote depends on its principle's question (of method rubric: its criteria) and on nothing else of it, so what both
versions ask alike is asked once, and no label moves by a judge's moods. Nothing is written.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from constitution.ask.panel import Case, Panel, hear
from constitution.errors import RecipeError, WarehouseError
from constitution.identity import seed as seed_of
from constitution.judge.methods import METHODS
from constitution.judge.pairs import Pair
from constitution.labels import Rules, label_pair
from constitution.measures import Estimate, estimate
from constitution.principles.selection import select
from constitution.records import FIXED_DROPS, Constitution, Judgement, Preference, Principle, Prompt, Response, Row
from constitution.warehouse import Warehouse, ask, connect

Principles = tuple[Principle, ...]


@dataclass(frozen=True, slots=True)
class Shift:
    """One pair under both versions."""

    prompt: Prompt
    pair: Pair
    old: Preference
    new: Preference

    @property
    def change(self) -> float | None:
        """Change of the probability that the later answer is better; None: one version could not label the pair."""
        return _change(self.old, self.new)

    @property
    def flips(self) -> bool:
        """The versions prefer different answers; from or to a tie is no flip."""
        return _flips(self.old, self.new)


@dataclass(frozen=True, slots=True)
class Effect:
    """What the change of one principle does by itself: the old version with this change and no other."""

    principle_id: str
    """In the new version; of a removed one, in the old."""
    kinds: tuple[str, ...]
    """added · removed · reworded (its question, or of method rubric its criteria) · reweighted"""
    flips: Estimate
    """Share of the pairs whose label flips."""
    change: Estimate
    """Mean change of the label's probability that the later answer is better."""
    own_flips: Estimate | None
    """Share of the pairs on which the principle itself now prefers the other answer; None: it is not reworded."""


@dataclass(frozen=True, slots=True)
class Impact:
    shifts: tuple[Shift, ...]
    """In the order of the sample."""
    flips: Estimate
    """Share of the pairs whose label flips."""
    change: Estimate
    """Mean change of the probability that the later answer is better."""
    size: Estimate
    """The same without its sign."""
    effects: tuple[Effect, ...]
    """In the new version's order, removed principles last; without those that vote as before."""
    judges: tuple[str, ...]
    votes: int
    """Cast for this."""
    votes_missing: int


def sample_pairs(warehouse: Warehouse, run_id: str, count: int, seed: int = 1) -> list[tuple[Prompt, Pair]]:
    """So many of the run's pairs that can be labelled, of every kind but perturbations, drawn by the seed; all of them
    where there are fewer. Raises WarehouseError where there are none."""
    reasons = ", ".join(f"'{reason}'" for reason in FIXED_DROPS)
    query = (
        f"SELECT id, prompt_id FROM training_pairs WHERE run_id = '{run_id}' "
        f"AND coalesce(drop_reason, '') NOT IN ({reasons}) ORDER BY id"
    )
    with connect(warehouse.root) as connection:
        found = {str(id): str(prompt_id) for id, prompt_id in ask(connection, query).rows}
    if not found:
        raise WarehouseError(f"run {run_id}: has no pairs that can be labelled", hint="name another run with --run")
    drawn = random.Random(seed_of(seed, run_id, "impact")).sample(list(found), min(count, len(found)))
    prompts = _prompts(warehouse, run_id, {found[id] for id in drawn})
    rows = warehouse.rows_of(run_id, prompts)
    return [(prompts[found[id]], _stored(id, rows[found[id]])) for id in drawn]


def _prompts(warehouse: Warehouse, run_id: str, wanted: set[str]) -> dict[str, Prompt]:
    found: dict[str, Prompt] = {}
    for part in warehouse.parts("prompts", run_id):
        found |= {prompt.id: prompt for prompt in warehouse.read_prompts(part) if prompt.id in wanted}
        if len(found) == len(wanted):
            break
    return found


def _stored(pair_id: str, rows: Sequence[Row]) -> Pair:
    answers = {row.id: row for row in rows if isinstance(row, Response)}
    [label] = [row for row in rows if isinstance(row, Preference) and row.id == pair_id]
    kind: Any = label.kind
    return Pair(label.id, kind, answers[label.a_id], answers[label.b_id], gold_id=label.gold_id)


async def impact(
    old: Constitution,
    new: Constitution,
    stored: Sequence[tuple[Prompt, Pair]],
    panel: Panel,
    *,
    replicates: int = 1000,
) -> Impact:
    """`stored` under all principles of either version that compare, or those that the section's `only` names.

    Where the versions vote alike, nobody is asked and the answer has no pairs.
    Labels are made as the section says, but for what needs a whole run: there they are means, neither controlled nor
    calibrated. Intervals are from a bootstrap over prompts. Raises RecipeError where a version has no such principle,
    or of method rubric one without criteria; otherwise as `hear`.
    """
    before, after = _voting(old, panel), _voting(new, panel)
    if not any(_changes(before, after, panel)):
        stored = ()
    fresh = {_asks(principle, panel): principle for principle in after}
    gone = {asks: principle for principle in before if (asks := _asks(principle, panel)) not in fresh}
    # Apart from each other: the versions may have one id for two questions.
    cases = [Case(prompt, pair, tuple(asked.values())) for asked in (fresh, gone) if asked for prompt, pair in stored]
    heard = await hear(panel, "principles-impact", cases) if cases else {}
    votes: list[_Votes] = [defaultdict(list) for _ in stored]
    every = [each for by_judge in heard.values() for each in by_judge]
    for place, each in enumerate(every):
        asked = {principle.id: _asks(principle, panel) for principle in cases[place % len(cases)].principles}
        for vote in each.judgements:
            votes[place % len(cases) % len(stored)][asked[vote.principle_id]].append(vote)
    poll = _Poll(stored, votes, panel, replicates)
    labels = poll.labels(before), poll.labels(after)
    flips, change, size = poll.compare(*labels)
    shifts = [Shift(*case, *both) for case, both in zip(stored, zip(*labels, strict=True), strict=True)]
    return Impact(
        shifts=tuple(shifts),
        flips=flips,
        change=change,
        size=size,
        effects=tuple(_effects(poll, before, after, labels[0])),
        judges=tuple(heard),
        votes=sum(len(each.judgements) for each in every),
        votes_missing=sum(each.expected - len(each.judgements) for each in every),
    )


_Votes = dict[object, list[Judgement]]
"""All judges' votes on a pair, by what was asked."""


@dataclass(frozen=True, slots=True)
class _Poll:
    """The votes on the sample, out of which any set of the principles that were asked makes labels."""

    stored: Sequence[tuple[Prompt, Pair]]
    votes: Sequence[_Votes]
    panel: Panel
    replicates: int

    def labels(self, principles: Principles) -> list[Preference]:
        rules, weights = Rules.of(self.panel.section), {principle.id: principle.weight for principle in principles}
        found = []
        for (_, pair), votes in zip(self.stored, self.votes, strict=True):
            cast = [
                replace(vote, principle_id=principle.id)
                for principle in principles
                for vote in votes.get(_asks(principle, self.panel), ())
            ]
            found.append(label_pair(pair, cast, len(cast), weights, rules))
        return found

    def compare(self, old: Sequence[Preference], new: Sequence[Preference]) -> tuple[Estimate, Estimate, Estimate]:
        """Share that flips, mean change and mean size of the change, over the pairs that have both labels."""
        labels = zip(old, new, strict=True)
        both = [(a, b, change) for a, b in labels if (change := _change(a, b)) is not None]
        prompts = [a.prompt_id for a, _, _ in both]
        changes = [change for _, _, change in both]
        flips = [float(_flips(a, b)) for a, b, _ in both]
        return (
            estimate.mean(flips, prompts, proportion=True, replicates=self.replicates),
            estimate.mean(changes, prompts, replicates=self.replicates),
            estimate.mean([abs(change) for change in changes], prompts, replicates=self.replicates),
        )


def _voting(constitution: Constitution, panel: Panel) -> Principles:
    able = [principle for principle in constitution.principles if principle.compares]
    chosen = select(able, panel.section.only, f"judge.only ({constitution.label})")
    if METHODS[panel.section.method].reads == "criteria":
        for principle in chosen:
            if not principle.criteria:
                raise RecipeError(
                    f"{constitution.label}: principle {principle.id} has no criteria, which method rubric reads",
                    hint="judge by another method, or name principles that have some in judge.only",
                )
    return chosen


def _asks(principle: Principle, panel: Panel) -> object:
    """What a vote by this principle depends on."""
    criteria = METHODS[panel.section.method].reads == "criteria"
    return principle.criteria if criteria else principle.comparison_question


def _change(old: Preference, new: Preference) -> float | None:
    return None if old.p_b is None or new.p_b is None else new.p_b - old.p_b


def _flips(old: Preference, new: Preference) -> bool:
    return old.p_b is not None and new.p_b is not None and (old.p_b - 0.5) * (new.p_b - 0.5) < 0


def _effects(poll: _Poll, before: Principles, after: Principles, labels: Sequence[Preference]) -> Iterator[Effect]:
    """labels: the old version's."""
    for id, kinds, changed, was, now in _changes(before, after, poll.panel):
        flips, change, _ = poll.compare(labels, poll.labels(changed))
        own = poll.compare(poll.labels((was,)), poll.labels((now,)))[0] if was and now and "reworded" in kinds else None
        yield Effect(id, kinds, flips, change, own)


_Change = tuple[str, tuple[str, ...], Principles, Principle | None, Principle | None]


def _changes(before: Principles, after: Principles, panel: Panel) -> Iterator[_Change]:
    """Per principle that votes otherwise: its id, what changed, the old version with this change alone, and the
    principle as it was and is. One that has a new id and asks the same is the same principle."""
    old = {principle.id: principle for principle in before}
    for now in after:
        was = old.pop(now.id, None) or _renamed(old, now, after, panel)
        if was is None:
            yield now.id, ("added",), (*before, now), None, now
            continue
        old.pop(was.id, None)
        reworded, reweighted = _asks(was, panel) != _asks(now, panel), was.weight != now.weight
        if reworded or reweighted:
            kinds = ("reworded",) * reworded + ("reweighted",) * reweighted
            yield now.id, kinds, tuple(now if p is was else p for p in before), was, now
    for was in old.values():
        yield was.id, ("removed",), tuple(p for p in before if p is not was), was, None


def _renamed(old: Mapping[str, Principle], now: Principle, after: Principles, panel: Panel) -> Principle | None:
    kept = {principle.id for principle in after}
    return next((p for p in old.values() if p.id not in kept and _asks(p, panel) == _asks(now, panel)), None)
