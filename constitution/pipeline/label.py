"""One prompt's answers, once they are made: their pairs, the votes of all judges, and the labels."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from constitution.engines import Engine
from constitution.generate.base import Emit
from constitution.identity import seed
from constitution.judge.ask import Judge, Votes, all_units, draw_principles, expected, known, vote
from constitution.judge.groups import Totals, chosen_pairs, totals, waits
from constitution.judge.methods import apart
from constitution.judge.pairs import Pair, pairs
from constitution.judge.units import Unit, in_waves
from constitution.labels import Rules, label_pair
from constitution.labels.adaptive import Monitor
from constitution.labels.standings import standing_rewards
from constitution.labels.unvoted import label_unvoted
from constitution.pipeline.plan import judging
from constitution.recipe import JudgeSection, Recipe
from constitution.records import (
    Constitution,
    Failure,
    Judgement,
    Preference,
    Prompt,
    Response,
    RewardSource,
    Row,
    Run,
)


@dataclass(frozen=True, slots=True)
class Labeller:
    """What the labels of a run have in common."""

    run_id: str
    section: JudgeSection
    judges: tuple[Judge, ...]
    """None where labels are made without votes."""
    quorum: int
    """Judges: a pair is labelled once this many are heard on it (`Votes.heard`), whatever the others fail to."""
    weights: Mapping[str, float]
    """Per principle id."""
    rules: Rules
    source: RewardSource | None = None
    """Whose rewards samples are paired by and labels name; None: there are none."""
    monitor: Monitor | None = None
    """None: all votes are asked for."""
    seed: int = 1
    """The run's."""

    async def label(
        self, prompt: Prompt, answers: Iterable[Response], have: Mapping[str, Row], emit: Emit
    ) -> list[Failure]:
        """Votes on all pairs of the prompt at once, of a tournament's round by round, and labels them, each once.
        Returns the failures that left something undone: those of pairs that a quorum labelled are not among them.

        answers: those to which no restart adds one.
        """
        there, failures = list(answers), list[Failure]()
        new = chosen = self.pairs(prompt, there, have)
        while new:
            failures += await self._each(prompt, new, have, emit)
            before, chosen = chosen, self.pairs(prompt, there, have) if self._rounds else chosen
            new = chosen[len(before) :]
        if self._stands and not waits(there, self.section.pairs, self._known(have)):
            await self._stand(there, chosen, have, emit)
        return failures

    def pairs(self, prompt: Prompt, answers: Iterable[Response], have: Mapping[str, Row]) -> list[Pair]:
        """Those that are compared, as far as is known by now; have: the prompt's rows, its rewards and labels among
        them."""
        there, known = list(answers), self._known(have)
        # By the plain mean, which no later labelling changes.
        labels = {(row.a_id, row.b_id): row.p_mean for row in have.values() if isinstance(row, Preference)}
        chosen = chosen_pairs(there, self.section, known, labels, self.seed)
        return pairs(self.run_id, prompt, there, self.section.pairs, known, chosen)

    @property
    def _rounds(self) -> bool:
        return "tournament" in self.section.pairs

    @property
    def _stands(self) -> bool:
        """Whether there are votes on enough pairs for samples to have rewards by them."""
        return self.section.votes_are_cast and (self._rounds or "all" in self.section.pairs)

    def _known(self, have: Mapping[str, Row]) -> Totals | None:
        return totals(have, self.source) if self.source else None

    async def _each(self, prompt: Prompt, those: Sequence[Pair], have: Mapping[str, Row], emit: Emit) -> list[Failure]:
        if len(those) == 1:
            return await self._label(prompt, those[0], have, emit)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._label(prompt, pair, have, emit)) for pair in those]
        return [failure for task in tasks for failure in task.result()]

    async def _stand(
        self, answers: Iterable[Response], chosen: Iterable[Pair], have: Mapping[str, Row], emit: Emit
    ) -> None:
        """The samples' rewards by votes, made once, when every pair of two of them has its label: no round is left."""
        samples = [answer for answer in answers if answer.kind == "sample"]
        labels = [have.get(pair.id) for pair in chosen if (pair.a.kind, pair.b.kind) == ("sample", "sample")]
        made = [label for label in labels if isinstance(label, Preference)]
        if len(made) == len(labels):
            votes = [row for row in have.values() if isinstance(row, Judgement)]
            rewards = standing_rewards(samples, made, votes)
            await emit([reward for reward in rewards if reward.id not in have])

    def units(self, pair: Pair) -> tuple[Unit, ...]:
        """What is to be asked of the pair, in its order; perturbations, which are to show what judges do, at once."""
        first = self.judges[0]
        if self.monitor is None or pair.kind == "perturbation" or not pair.votable:
            return all_units(first, pair)
        draw = random.Random(seed(first.seed, pair.a.prompt_id, "vote-order", *pair.place))
        ids = [principle.id for principle in draw_principles(first, pair)]
        return in_waves(ids, apart(judge.section for judge in self.judges), draw)

    async def _label(self, prompt: Prompt, pair: Pair, have: Mapping[str, Row], emit: Emit) -> list[Failure]:
        """A label is made once: not while a vote may still come that the quorum waits for, or a reward, and never
        again."""
        if not self.section.votes_are_cast:
            if pair.rewarded and pair.id not in have:
                await emit([label_unvoted(pair, self.section.confirm, self.rules.margin)])
            return []
        label, units = have.get(pair.id), self.units(pair)
        if isinstance(label, Preference):
            return self._left(pair, have, units, label)
        heard, left = await self._ask(prompt, pair, units, have, emit)
        if self._settled(heard) and pair.rewarded:
            cast = [vote for votes in heard for vote in votes.judgements]
            asked = sum(votes.expected for votes in heard)
            await emit([label_pair(pair, cast, asked, self.weights, self.rules, self._votes_by(left))])
        if sum(votes.heard for votes in heard) >= self.quorum:
            return []
        return [failure for votes in heard for failure in votes.failures]

    async def _ask(
        self, prompt: Prompt, pair: Pair, units: Sequence[Unit], have: Mapping[str, Row], emit: Emit
    ) -> tuple[list[Votes], Sequence[Unit]]:
        """Wave after wave until the pair is decided: each judge's votes, and the units that are left.

        What an earlier start asked for counts as asked, though votes that came since would have spared it.
        """
        begun = max(
            (row.wave for row in have.values() if isinstance(row, Judgement) and row.pair_id == pair.id), default=0
        )
        heard, left = [Votes((), 0)] * len(self.judges), units
        while left:
            wave = left[0].wave
            new = [unit for unit in left if unit.wave == wave]
            left = left[len(new) :]
            votes = await self._vote(prompt, pair, new, have, emit)
            heard = [before + more for before, more in zip(heard, votes, strict=True)]
            if not self._settled(heard) or (begun <= wave and self._decided(pair, heard, units, left)):
                break
        return heard, left

    def _settled(self, heard: Sequence[Votes]) -> bool:
        """Whether no vote may come that the quorum waits for."""
        return sum(votes.heard for votes in heard) >= self.quorum or not any(votes.open for votes in heard)

    def _decided(self, pair: Pair, heard: Sequence[Votes], units: Sequence[Unit], left: Sequence[Unit]) -> bool:
        if self.monitor is None or not left:
            return False
        cast = [vote for votes in heard for vote in votes.judgements]
        asked = units[: len(units) - len(left)]
        return self.monitor.doubt(pair, cast, asked, left) <= 1 - self.section.sure

    async def _vote(
        self, prompt: Prompt, pair: Pair, units: Sequence[Unit], have: Mapping[str, Row], emit: Emit
    ) -> list[Votes]:
        """All judges at once."""
        if len(self.judges) == 1:
            return [await vote(self.judges[0], prompt, pair, have, emit, units)]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(vote(judge, prompt, pair, have, emit, units)) for judge in self.judges]
        return [task.result() for task in tasks]

    def _left(self, pair: Pair, have: Mapping[str, Row], units: Sequence[Unit], label: Preference) -> list[Failure]:
        """What `_label` returned when it made this label in an earlier start. Where a vote could still have come, the
        quorum was there."""
        spared = next(n for n in range(len(units) + 1) if self._votes_by(units[len(units) - n :]) == label.votes_spared)
        asked = units[: len(units) - spared]
        if sum(known(judge, pair, have, asked).spoken for judge in self.judges) >= self.quorum:
            return []
        # A failure does not say of which pair it is; those of its prompt tell as much of the prompt.
        return [row for row in have.values() if isinstance(row, Failure) and row.step == "vote" and not row.retryable]

    def _votes_by(self, units: Sequence[Unit]) -> int:
        return sum(expected(judge, units) for judge in self.judges)


def labeller(recipe: Recipe, constitution: Constitution, run: Run, judges: Mapping[str, Engine]) -> Labeller | None:
    """For this start of the run; None where the recipe has no judges. judges: as Engines has them."""
    section = recipe.judge
    if section is None:
        return None
    principles = judging(recipe, constitution)
    weights, rules = {principle.id: principle.weight for principle in principles}, Rules.of(section)
    return Labeller(
        run_id=run.run_id,
        section=section,
        judges=tuple(
            Judge(run.run_id, recipe.seed, run.starts, engine, name, principles, section.of(model), recipe.wording)
            for (name, engine), model in zip(judges.items(), recipe.model.judges.values(), strict=True)
        )
        if section.votes_are_cast
        else (),
        quorum=section.quorum or len(judges) // 2 + 1,
        weights=weights,
        rules=rules,
        source=recipe.reward.by[0] if recipe.reward else None,
        monitor=Monitor(weights, rules) if section.votes == "adaptive" else None,
        seed=recipe.seed,
    )
