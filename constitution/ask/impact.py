"""What another version of a constitution would change: a sample of a run's pairs, judged under both versions.

    stored = sample_pairs(warehouse, run_id, 200)
    found = await impact(old, new, stored, Panel.of(recipe.model, recipe.judge))

A vote depends on its principle's question (of method rubric: its criteria) and on nothing else of it, so what both
versions ask alike is asked once, and no label moves by a judge's moods. Nothing is written.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

from constitution.ask.panel import Case, Panel, hear
from constitution.errors import RecipeError, WarehouseError
from constitution.identity import seed as seed_of
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
        old, new = self.old.p_b, self.new.p_b
        return None if old is None or new is None else new - old

    @property
    def flips(self) -> bool:
        """The versions prefer different answers; from or to a tie is no flip."""
        old, new = self.old.p_b, self.new.p_b
        return old is not None and new is not None and (old - 0.5) * (new - 0.5) < 0


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
    """`count` of the run's pairs that can be labelled, of every kind but perturbations, drawn by the seed; all of them
    where there are fewer. Raises WarehouseError where there are none."""
    reasons = ", ".join(f"'{reason}'" for reason in FIXED_DROPS)
    query = (
        f"SELECT id, prompt_id FROM training_pairs WHERE run_id = '{run_id}' "
        f"AND coalesce(drop_reason, '') NOT IN ({reasons}) ORDER BY id"
    )
    with connect(warehouse.root) as connection:
        prompt_of = {str(id): str(prompt_id) for id, prompt_id in ask(connection, query).rows}
    if not prompt_of:
        raise WarehouseError(f"run {run_id}: has no pairs that can be labelled", hint="name another run with --run")
    drawn = random.Random(seed_of(seed, run_id, "impact")).sample(list(prompt_of), min(count, len(prompt_of)))
    wanted = {prompt_of[id] for id in drawn}
    slices = map(warehouse.read_prompts, warehouse.parts("prompts", run_id))
    prompts = {prompt.id: prompt for slice in slices for prompt in slice if prompt.id in wanted}
    rows = warehouse.rows_of(run_id, prompts)
    return [(prompts[prompt_of[id]], _stored(id, rows[prompt_of[id]])) for id in drawn]


def _stored(pair_id: str, rows: Sequence[Row]) -> Pair:
    answers = {row.id: row for row in rows if isinstance(row, Response)}
    [label] = [row for row in rows if isinstance(row, Preference) and row.id == pair_id]
    return Pair(label.id, label.kind, answers[label.a_id], answers[label.b_id], gold_id=label.gold_id)


async def impact(
    old: Constitution,
    new: Constitution,
    stored: Sequence[tuple[Prompt, Pair]],
    panel: Panel,
    *,
    replicates: int = 1000,
) -> Impact:
    """`stored` under all principles of either version that compare, or those that the section's `only` names.

    Where the versions vote alike, no judge is asked and the answer has no pairs.
    Labels are made as the section says, but for what needs a whole run: there they are means, neither controlled nor
    calibrated. Intervals are from a bootstrap over prompts. Raises RecipeError where a version has no such principle,
    or of method rubric one without criteria; otherwise as `hear`.
    """
    before, after = _voting(old, panel), _voting(new, panel)
    changes = list(_changes(before, after, panel))
    if not changes:
        stored = ()
    fresh = {_asks(principle, panel): principle for principle in after}
    gone = {asks: principle for principle in before if (asks := _asks(principle, panel)) not in fresh}
    # Apart from each other: the versions may have one id for two questions.
    cases = [Case(prompt, pair, tuple(asked.values())) for asked in (fresh, gone) if asked for prompt, pair in stored]
    heard = await hear(panel, "principles-impact", cases) if cases else {}
    votes: _Votes = defaultdict(list)
    every = [(case, each) for by_case in heard.values() for case, each in zip(cases, by_case, strict=True)]
    for case, each in every:
        asks = {principle.id: _asks(principle, panel) for principle in case.principles}
        for vote in each.judgements:
            votes[case.pair.id, asks[vote.principle_id]].append(vote)
    poll = _Poll(stored, votes, panel, replicates)
    shifts = poll.shifts(before, after)
    return Impact(
        shifts=tuple(shifts),
        **poll.compare(shifts),
        effects=tuple(_effect(poll, before, change) for change in changes),
        judges=tuple(heard),
        votes=sum(len(each.judgements) for _, each in every),
        votes_missing=sum(each.expected - len(each.judgements) for _, each in every),
    )


_Votes = dict[tuple[str, object], list[Judgement]]
"""All judges' votes, by pair and what was asked."""


@dataclass(frozen=True, slots=True)
class _Poll:
    """The votes on the sample, out of which any set of the principles that were asked makes labels."""

    stored: Sequence[tuple[Prompt, Pair]]
    votes: _Votes
    panel: Panel
    replicates: int

    def shifts(self, before: Principles, after: Principles) -> list[Shift]:
        rules = Rules.of(self.panel.section)
        return [
            Shift(prompt, pair, self._label(pair, before, rules), self._label(pair, after, rules))
            for prompt, pair in self.stored
        ]

    def _label(self, pair: Pair, principles: Principles, rules: Rules) -> Preference:
        cast = [
            replace(vote, principle_id=principle.id)
            for principle in principles
            for vote in self.votes.get((pair.id, _asks(principle, self.panel)), ())
        ]
        return label_pair(pair, cast, len(cast), {principle.id: principle.weight for principle in principles}, rules)

    def compare(self, shifts: Sequence[Shift]) -> dict[str, Estimate]:
        """`flips`, `change` and `size` as Impact has them, over the pairs that have both labels."""
        both = [(shift, shift.change) for shift in shifts if shift.change is not None]
        prompts = [shift.new.prompt_id for shift, _ in both]
        mean = partial(estimate.mean, clusters=prompts, replicates=self.replicates)
        return {
            "flips": mean([float(shift.flips) for shift, _ in both], proportion=True),
            "change": mean([change for _, change in both]),
            "size": mean([abs(change) for _, change in both]),
        }


def _voting(constitution: Constitution, panel: Panel) -> Principles:
    able = [principle for principle in constitution.principles if principle.compares]
    chosen = select(able, panel.section.only, f"judge.only ({constitution.label})")
    for principle in chosen:
        if panel.reads_criteria and not principle.criteria:
            raise RecipeError(
                f"{constitution.label}: principle {principle.id} has no criteria, which method rubric reads",
                hint="judge by another method, or name principles that have some in judge.only",
            )
    return chosen


def _asks(principle: Principle, panel: Panel) -> object:
    """What a vote by this principle depends on."""
    if panel.reads_criteria and panel.reads_questions:
        return principle.criteria, principle.comparison_question
    return principle.criteria if panel.reads_criteria else principle.comparison_question


class _Change(NamedTuple):
    """A principle that votes otherwise."""

    principle_id: str
    kinds: tuple[str, ...]
    principles: Principles
    """The old version's with this change alone."""
    was: Principle | None
    now: Principle | None


def _effect(poll: _Poll, before: Principles, change: _Change) -> Effect:
    own = None
    if change.was and change.now and "reworded" in change.kinds:
        own = poll.compare(poll.shifts((change.was,), (change.now,)))["flips"]
    alone = poll.compare(poll.shifts(before, change.principles))
    return Effect(change.principle_id, change.kinds, alone["flips"], alone["change"], own)


def _changes(before: Principles, after: Principles, panel: Panel) -> Iterator[_Change]:
    """In the new version's order, removed principles last. One that has a new id and asks the same is the same
    principle."""
    old, kept = {principle.id: principle for principle in before}, {principle.id for principle in after}
    for now in after:
        renamed = (p for p in old.values() if p.id not in kept and _asks(p, panel) == _asks(now, panel))
        was = old.get(now.id) or next(renamed, None)
        if was is None:
            yield _Change(now.id, ("added",), (*before, now), None, now)
            continue
        del old[was.id]
        reworded, reweighted = _asks(was, panel) != _asks(now, panel), was.weight != now.weight
        if reworded or reweighted:
            kinds = ("reworded",) * reworded + ("reweighted",) * reweighted
            yield _Change(now.id, kinds, tuple(now if p is was else p for p in before), was, now)
    for was in old.values():
        yield _Change(was.id, ("removed",), tuple(p for p in before if p is not was), was, None)
