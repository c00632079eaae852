"""One prompt's answers, once they are made: their pairs, the votes of all judges, and the labels."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from constitution.engines import Engine
from constitution.generate.base import Emit
from constitution.judge.ask import Judge, Votes, known, vote
from constitution.judge.pairs import Pair, pairs
from constitution.labels import Rules, label_pair
from constitution.pipeline.plan import judging
from constitution.recipe import JudgeSection, Recipe
from constitution.records import Constitution, Failure, Preference, Prompt, Response, Row, Run


@dataclass(frozen=True, slots=True)
class Labeller:
    """What the labels of a run have in common."""

    run_id: str
    section: JudgeSection
    judges: tuple[Judge, ...]
    quorum: int
    """Judges: a pair is labelled once this many are heard on it (`Votes.heard`), whatever the others fail to."""
    weights: Mapping[str, float]
    """Per principle id."""
    rules: Rules

    async def label(
        self, prompt: Prompt, answers: Iterable[Response], have: Mapping[str, Row], emit: Emit
    ) -> list[Failure]:
        """Votes on all pairs of the prompt at once and labels them, each once. Returns the failures that left something
        undone: those of pairs that a quorum labelled are not among them.

        answers: those to which no restart adds one.
        """
        chosen = pairs(self.run_id, prompt, answers, self.section.pairs)
        if len(chosen) == 1:
            return await self._label(prompt, chosen[0], have, emit)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._label(prompt, pair, have, emit)) for pair in chosen]
        return [failure for task in tasks for failure in task.result()]

    async def _label(self, prompt: Prompt, pair: Pair, have: Mapping[str, Row], emit: Emit) -> list[Failure]:
        """A label is made once: not while a vote may still come that the quorum waits for, and never again."""
        label = have.get(pair.id)
        if isinstance(label, Preference):
            return self._left(pair, have)
        heard = await self._vote(prompt, pair, have, emit)
        whole = sum(votes.heard for votes in heard)
        if whole >= self.quorum or not any(votes.open for votes in heard):
            cast = [vote for votes in heard for vote in votes.judgements]
            expected = sum(votes.expected for votes in heard)
            await emit([label_pair(pair, cast, expected, self.weights, self.rules)])
        return [] if whole >= self.quorum else [failure for votes in heard for failure in votes.failures]

    async def _vote(self, prompt: Prompt, pair: Pair, have: Mapping[str, Row], emit: Emit) -> list[Votes]:
        """All judges at once."""
        if len(self.judges) == 1:
            return [await vote(self.judges[0], prompt, pair, have, emit)]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(vote(judge, prompt, pair, have, emit)) for judge in self.judges]
        return [task.result() for task in tasks]

    def _left(self, pair: Pair, have: Mapping[str, Row]) -> list[Failure]:
        """What `_label` returned when it made this label in an earlier start. Where a vote could still have come, the
        quorum was there."""
        if sum(known(judge, pair, have).spoken for judge in self.judges) >= self.quorum:
            return []
        # A failure does not say of which pair it is; those of its prompt tell as much of the prompt.
        return [row for row in have.values() if isinstance(row, Failure) and row.step == "vote" and not row.retryable]


def labeller(recipe: Recipe, constitution: Constitution, run: Run, judges: Mapping[str, Engine]) -> Labeller | None:
    """For this start of the run; None where the recipe has no judges. judges: as Engines has them."""
    section = recipe.judge
    if section is None:
        return None
    principles = judging(recipe, constitution)
    return Labeller(
        run_id=run.run_id,
        section=section,
        judges=tuple(
            Judge(run.run_id, recipe.seed, run.starts, engine, name, principles, section.of(model))
            for (name, engine), model in zip(judges.items(), recipe.model.judges.values(), strict=True)
        ),
        quorum=section.quorum or len(judges) // 2 + 1,
        weights={principle.id: principle.weight for principle in principles},
        rules=Rules.of(section),
    )
