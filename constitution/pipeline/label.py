"""One prompt's answers, once its chain is walked: their pairs, the votes of all judges, the labels, and the probes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from constitution.engines import Engines
from constitution.generate.base import Emit
from constitution.generate.outcomes import last_answer
from constitution.generate.perturb import Perturber, drawn, perturb
from constitution.generate.revise import Chain
from constitution.judge.ask import Judge, Votes, vote
from constitution.judge.pairs import Pair, given_answers, pairs, pairs_of
from constitution.labels import Rules, label_pair
from constitution.pipeline.plan import Plan, principles_for
from constitution.recipe import JudgeSection
from constitution.records import Failure, Judgement, Preference, Prompt, Response, Row, Run


@dataclass(frozen=True, slots=True)
class Labeller:
    """What the labels of a run have in common."""

    run_id: str
    section: JudgeSection
    judges: tuple[Judge, ...]
    quorum: int
    """A pair is labelled, whoever else fails, once so many judges have cast all their votes on it."""
    families: tuple[str | None, ...]
    """Families of the answers that come with a prompt, in their order."""
    weights: Mapping[str, float]
    """Per principle id."""
    rules: Rules
    perturber: Perturber | None

    async def label(self, prompt: Prompt, chain: Chain, have: Mapping[str, Row], emit: Emit) -> list[Failure]:
        """Votes on all pairs of the prompt at once and labels them, each once. Returns the failures that left something
        undone: those of pairs that a quorum labelled are not among them.

        A chain that an engine stopped for good has the pairs of what it has; one that may get further has none yet.
        """
        kinds, given = self.section.pairs, self._given(prompt)
        final = not any(failure.retryable for failure in chain.failures)
        answers = chain.responses if final else ()
        if "given" in kinds:
            await emit([answer for answer in given if answer.id not in have])
        work = [self._label(prompt, pair, have, emit) for pair in pairs(self.run_id, prompt, answers, given, kinds)]
        if self.perturber is not None and drawn(self.perturber, prompt.id) and final:
            work.append(self._probe(self.perturber, prompt, _last(answers, given, prompt.gold), have, emit))
        return await _together(work)

    async def _probe(
        self, perturber: Perturber, prompt: Prompt, answer: Response | None, have: Mapping[str, Row], emit: Emit
    ) -> list[Failure]:
        if answer is None:
            return []
        if answer.kind == "given" and "given" not in self.section.pairs and answer.id not in have:
            await emit([answer])  # the perturbations' parent
        perturbations = await perturb(perturber, prompt, answer, have, emit)
        probes = [self._label(prompt, pair, have, emit) for pair in pairs_of(answer, perturbations.responses)]
        return [*perturbations.failures, *await _together(probes)]

    async def _label(self, prompt: Prompt, pair: Pair, have: Mapping[str, Row], emit: Emit) -> list[Failure]:
        """A label is made once: not while a vote may still come that the quorum waits for, and never again."""
        label = have.get(pair.id)
        if isinstance(label, Preference):
            return self._left(label, have)
        heard = await self._vote(prompt, pair, have, emit)
        whole = sum(len(votes.judgements) == votes.expected for votes in heard)
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

    def _left(self, label: Preference, have: Mapping[str, Row]) -> list[Failure]:
        """What `_label` returned when it made this label in an earlier start."""
        of_each = (label.votes + label.votes_missing) / len(self.judges)
        cast = Counter(row.judge for row in have.values() if isinstance(row, Judgement) and row.pair_id == label.id)
        if not of_each or sum(votes == of_each for votes in cast.values()) >= self.quorum:
            return []
        # A failure does not say of which pair it is; those of its prompt tell as much of the prompt.
        return [row for row in have.values() if isinstance(row, Failure) and row.step == "vote" and not row.retryable]

    def _given(self, prompt: Prompt) -> tuple[Response, ...]:
        given = given_answers(self.run_id, prompt)
        return tuple(replace(answer, family=family) for answer, family in zip(given, self.families, strict=True))


def labeller(plan: Plan, run: Run, engines: Engines) -> Labeller | None:
    """For this start of the run; None where the recipe has no judges."""
    recipe, section = plan.recipe, plan.recipe.judge
    if section is None:
        return None
    _, judging = principles_for(recipe, plan.constitution)
    perturber, policy = None, recipe.model.policy
    if recipe.perturb is not None:
        perturber = Perturber(
            run.run_id, recipe.seed, run.starts, engines.policy, policy.family or None, recipe.perturb
        )
    return Labeller(
        run_id=run.run_id,
        section=section,
        judges=tuple(
            Judge(run.run_id, recipe.seed, run.starts, engine, name, judging, section)
            for name, engine in engines.judges.items()
        ),
        quorum=section.quorum or len(engines.judges) // 2 + 1,
        families=tuple(recipe.prompts.families.get(key) for key in recipe.prompts.answers),
        weights={principle.id: principle.weight for principle in judging},
        rules=Rules.of(section),
        perturber=perturber,
    )


def _last(chain: Sequence[Response], given: Sequence[Response], gold: int | None) -> Response | None:
    """The answer to be spoiled: the chain's last with text; without one, the given one that people prefer, or else the
    first with text; None where there is none."""
    preferred = [given[gold]] if gold is not None else []
    return last_answer(chain) or next((answer for answer in (*preferred, *given) if answer.text), None)


async def _together(work: Sequence[Coroutine[Any, Any, list[Failure]]]) -> list[Failure]:
    """The failures of all, in their order."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(each) for each in work]
    return [failure for task in tasks for failure in task.result()]
