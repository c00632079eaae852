"""The rewards of a prompt's answers: readings by judges, a row each, and what they come to, a row an answer and source.

    made = await rewarder.rewards(prompt, answers, have, emit)
    made.rewards, made.failures

What a source reads may depend on the prompt: its rubric is made first.

Answers of one prompt that have the same text are read once, and each has its rows. An answer without text is not read;
its rewards say so. Everything that is asked of one answer goes out together and begins alike (conversation, answer), so
that a prefix cache serves it.
"""

from __future__ import annotations

import asyncio
from asyncio import Task
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from constitution.engines.base import Engine, Request
from constitution.errors import RecipeError
from constitution.generate.base import Emit, Reach
from constitution.generate.failures import answered, failed, final_failure
from constitution.generate.outcomes import clean
from constitution.identity import row_id, seed
from constitution.judge.ask import nonce
from constitution.judge.by_last_token import ReadOut, check_policy
from constitution.judge.by_model import Scalar, Scores, check_group
from constitution.judge.negated import negated
from constitution.judge.question import SAMPLING, PartFailed, Read, read_labels
from constitution.judge.raw import Readings, same_reading
from constitution.judge.rubrics.own import Rubrics, rubrics
from constitution.judge.sources import Combined, Item, Reads, combine, length_penalty, means, reads_of, texts_of
from constitution.judge.steps import by_step, least_of
from constitution.measures import words
from constitution.recipe import Recipe, RewardSection
from constitution.records import Constitution, Failure, Prompt, Response, Reward, RewardSource, Row, Run, Score
from constitution.templates import TemplateSet


@dataclass(frozen=True, slots=True)
class Rewarded:
    rewards: tuple[Reward, ...] = ()
    """By source, in the order of the answers; without those of which a reading may still come."""
    failures: tuple[Failure, ...] = ()
    """That left a reward without value, or to be made."""


class Reading(NamedTuple):
    """One item, to be asked of one judge."""

    source: str
    """What it is for: a source of rewards, or the check of a reference (reference.py)."""
    judge: str
    engine: Engine
    item: Item


@dataclass(frozen=True, slots=True)
class Rewarder:
    """What the rewards of one start of a run have in common."""

    run_id: str
    seed: int
    attempt: int
    section: RewardSection
    judges: Mapping[str, Engine]
    """By name; none where no source asks any."""
    sources: Mapping[RewardSource, Reads]
    texts: Mapping[str, TemplateSet]
    """What the requests are rendered with."""
    rubrics: Rubrics | None = None
    """None: prompts have none."""
    scalar: Scalar | None = None
    """Rewards by the reward model; None: it is no source."""
    read_out: ReadOut | None = None
    """Rewards by the token after an answer; None: it is no source."""

    async def rewards(
        self,
        prompt: Prompt,
        answers: Sequence[Response],
        have: Mapping[str, Row],
        emit: Emit,
        reach: Reach = "all",
    ) -> Rewarded:
        """answers: those to which no restart adds one; of what was spoiled on purpose no reward is made. have: the
        prompt's rows by id. An engine's error is a Failure."""
        read: list[Response] = []
        spoiled: list[Response] = []
        for answer in answers:
            (spoiled if answer.kind == "perturbation" else read).append(answer)
        failures = await self.rubrics.make(prompt, read, have, emit, reach == "all") if self.rubrics else ()
        judging = self.of(prompt, have)
        made = await judging._judged(prompt, read, have, emit)
        placed: Sequence[Reward] = ()
        unread: list[Failure] = []
        if self.scalar:
            placed, unread = await self.scalar.rewards(prompt, read, have, emit, reach != "some")
        after, untold = await self.read_out.rewards(prompt, read, have, emit) if self.read_out else ([], [])
        if self.section.perturbed:
            unread += await judging._spoiled(prompt, spoiled, have, emit)
        return Rewarded((*made.rewards, *placed, *after), (*failures, *made.failures, *unread, *untold))

    def of(self, prompt: Prompt, have: Mapping[str, Row]) -> Rewarder:
        """With what the sources read of the answers to this prompt; without those of which that cannot be said yet."""
        found = {
            source: reads.of_prompt(prompt, have) if reads.of_prompt else reads
            for source, reads in self.sources.items()
        }
        return replace(self, sources={source: reads for source, reads in found.items() if reads is not None})

    async def _judged(
        self, prompt: Prompt, answers: Sequence[Response], have: Mapping[str, Row], emit: Emit
    ) -> Rewarded:
        """By judges and rules."""
        alike: dict[str, list[Response]] = {}
        for answer in answers:
            alike.setdefault(answer.text, []).append(answer)
        groups = list(alike.values())
        if len(groups) == 1:
            made = [await self._text(prompt, groups[0], have, emit)]
        else:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._text(prompt, each, have, emit)) for each in groups]
            made = [task.result() for task in tasks]
        return Rewarded(
            tuple(reward for each in made for reward in each.rewards),
            tuple(failure for each in made for failure in each.failures),
        )

    async def _spoiled(
        self, prompt: Prompt, answers: Sequence[Response], have: Mapping[str, Row], emit: Emit
    ) -> list[Failure]:
        """Reads whole what was spoiled on purpose; returns what could not be read."""
        found: list[Task[Score | Failure | None]] = []
        async with asyncio.TaskGroup() as group:
            for answer in answers:
                if not answer.text or answer.outcome not in ("ok", "cut"):
                    continue
                for each in self.readings(answer.text):
                    if each.item.upto is None and each.source in self.sources:
                        asked = self.reading(prompt, [answer], each, have, emit, known=False)
                        found.append(group.create_task(asked))
                for apart in self.apart:
                    found.append(group.create_task(apart.read(prompt, [answer], have, emit)))
        return [row for row in (task.result() for task in found) if isinstance(row, Failure)]

    @property
    def apart(self) -> tuple[Readings, ...]:
        """Readings that are no replies to questions."""
        return tuple(each.readings for each in (self.scalar, self.read_out) if each is not None)

    def readings(self, text: str) -> list[Reading]:
        """All of an answer with this text, in the order in which they are asked."""
        items = {
            source: (*reads.items, *(reads.of_text(text) if reads.of_text else ()))
            for source, reads in self.sources.items()
        }
        again = negated(items) if self.section.negated else {}
        return [
            Reading(source, name, engine, item)
            for name, engine in self.judges.items()
            for source, own in (*items.items(), *again.items())
            for item in own
        ]

    def id(self, answer: Response, reading: Reading) -> str:
        """The reading's row has it. The run's id covers the judges' models, the templates and the seed."""
        item = reading.item
        place = (-1 if item.number is None else item.number, *item.place)
        return row_id(self.run_id, answer.id, "reading", reading.judge, reading.source, item.target, *place)

    async def read(
        self, prompt: Prompt, alike: Sequence[Response], reading: Reading, used: int = 0
    ) -> list[Score] | Failure:
        """Asks one item of the text that the answers `alike` have; a row each. used: replies to it that earlier starts
        could not use."""
        source, name, engine, item = reading
        step, ids = step_of(source), [self.id(answer, reading) for answer in alike]
        request = Request(
            item.messages(prompt.messages, alike[0].text, nonce(self.seed, prompt.id), self.texts[source]),
            SAMPLING,
            seed(self.seed, prompt.id, "reward", source, item.principle_id, item.number, *item.place),
            choices=item.labels,
            affinity=prompt.first_id or prompt.id,
            step=step,
            answered=used,
        )
        try:
            found = await read_labels(item.name, engine, request)
        except PartFailed as failure:
            row = failed(self.run_id, prompt.id, step, ids[0], failure.error, self.attempt)
            return replace(row, message=clean(str(failure)), judge=name)
        first = self._score(alike[0], ids[0], reading, found, request)
        return [first, *(same_reading(first, answer, id) for answer, id in zip(alike[1:], ids[1:], strict=True))]

    def _score(self, answer: Response, id: str, reading: Reading, found: Read, request: Request) -> Score:
        item, (probabilities, mass, censored), done = reading.item, found.read, found.done
        return Score(
            id=id,
            run_id=self.run_id,
            prompt_id=answer.prompt_id,
            response_id=answer.id,
            judge=reading.judge,
            scorecard="",
            principle_id=item.principle_id,
            principle_digest=item.digest,
            metric=reading.source,
            category="",
            criterion=item.number,
            question=item.question,
            good=item.good,
            weight=item.weight,
            p_yes=None if item.good is None else probabilities[0] / (probabilities[0] + probabilities[1]),
            label_mass=mass,
            template_digest=self.texts[reading.source].digest,
            seed=None if "seed" in done.unsent else request.seed,
            prompt_tokens=done.prompt_tokens,
            cached_tokens=done.cached_tokens,
            completion_tokens=done.completion_tokens,
            censored=censored,
            grades=probabilities if item.good is None else None,
            upto=item.upto,
            rubric_id=item.rubric_id,
        )

    async def _text(self, prompt: Prompt, alike: Sequence[Response], have: Mapping[str, Row], emit: Emit) -> Rewarded:
        """The rewards of the answers `alike`, which have one text."""
        readings = self.readings(alike[0].text) if alike[0].text else []
        # What one of them was rewarded by is what another is that comes later with the same text.
        known = {source for source in self.sources if any(self._reward_id(each, source) in have for each in alike)}
        found: list[Score | Failure | None] = []
        if len(known) == len(self.sources) or len(readings) < 2:
            found = [await self.reading(prompt, alike, each, have, emit, each.source in known) for each in readings]
        else:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self.reading(prompt, alike, each, have, emit, each.source in known))
                    for each in readings
                ]
            found = [task.result() for task in tasks]
        rewards: list[Reward] = []
        again = [row for each, row in zip(readings, found, strict=True) if each.source not in self.sources]
        failures = [row for row in again if isinstance(row, Failure)]
        for source in self.sources:
            own = [(each, row) for each, row in zip(readings, found, strict=True) if each.source == source]
            made, left = self._of_source(alike, source, own, have)
            failures += left
            rewards += made
            await emit([reward for reward in made if reward.id not in have])
        return Rewarded(tuple(rewards), tuple(failures))

    async def reading(
        self,
        prompt: Prompt,
        alike: Sequence[Response],
        reading: Reading,
        have: Mapping[str, Row],
        emit: Emit,
        known: bool,
    ) -> Score | Failure | None:
        """Looked up or asked, with a row for each of the answers. known: it is not asked any more; None: then it is
        not there."""
        ids = [self.id(answer, reading) for answer in alike]
        there = next((row for id in ids if isinstance(row := have.get(id), Score)), None)
        step = step_of(reading.source)
        if there is not None:
            missing = [(answer, id) for answer, id in zip(alike, ids, strict=True) if id not in have]
            await emit([same_reading(there, answer, id) for answer, id in missing])
            return there
        for id in ids:
            if failure := final_failure(have, self.run_id, prompt.id, id, step):
                return failure
        if known:
            return None
        used = answered(have, self.run_id, prompt.id, step, ids[0], self.attempt)
        made = await self.read(prompt, alike, reading, used)
        await emit([made] if isinstance(made, Failure) else made)
        return made if isinstance(made, Failure) else made[0]

    def _of_source(
        self,
        alike: Sequence[Response],
        source: RewardSource,
        found: Sequence[tuple[Reading, Score | Failure | None]],
        have: Mapping[str, Row],
    ) -> tuple[list[Reward], list[Failure]]:
        """Each answer's reward, made once: not while a reading may still come that the quorum waits for, and never
        again; and the failures that left it without value."""
        least = self.section.min_label_mass
        there = [(each.item, row) for each, row in found if isinstance(row, Score) and row.counts(least)]
        failures = [row for _, row in found if isinstance(row, Failure)]
        enough = len(there) >= self.section.quorum * len(found) - 1e-9
        stored = {answer.id: have.get(self._reward_id(answer, source)) for answer in alike}
        made = [row for row in stored.values() if isinstance(row, Reward)]
        fresh = [answer for answer in alike if stored[answer.id] is None]
        if fresh:
            asked = [each.item for each, _ in found]
            first = made[0] if made else self._reward(fresh[0], source, there, asked, enough)
            # Over the quorum too a veto may wait for an essential reading.
            if not made and first.value is None and any(failure.retryable for failure in failures):
                return [], failures
            made += [replace(first, id=self._reward_id(each, source), response_id=each.id) for each in fresh]
        return made, failures if any(reward.reason == "readings-missing" for reward in made) else []

    def _reward(
        self,
        answer: Response,
        source: RewardSource,
        there: Sequence[tuple[Item, Score]],
        asked: Sequence[Item],
        enough: bool,
    ) -> Reward:
        reads, text = self.sources[source], answer.text
        ruled = reads.rules(text) if reads.rules and text else ()
        parts = [*means(there), *(() if isinstance(ruled, str) else ruled)]
        reason = "no-text" if not text else ruled if isinstance(ruled, str) else reads.reason
        combined, steps = Combined(None, 0.0, None), None
        if reads.of_text:
            steps = by_step(asked, there)
            combined = least_of(steps)
        elif parts:
            essential = sum(item.essential for item in reads.items) or sum(part.essential for part in parts)
            combined = combine(self.section, parts, essential, reads.scale)
        value = combined.value if enough else None
        return Reward(
            id=self._reward_id(answer, source),
            run_id=self.run_id,
            prompt_id=answer.prompt_id,
            response_id=answer.id,
            source=source,
            value=value,
            raw=combined.raw if value is not None else None,
            readings=len(there),
            missing=len(asked) - len(there),
            least_essential=combined.least_essential,
            length_penalty=length_penalty(self.section, words(text)) if text else None,
            judges=tuple(name for name in self.judges if any(row.judge == name for _, row in there)),
            reason=None if value is not None else reason or "readings-missing",
            steps=steps or None,
            said=next((part.said for part in parts if part.said is not None), None),
        )

    def _reward_id(self, answer: Response, source: RewardSource) -> str:
        return row_id(self.run_id, answer.id, "reward", source)


def rewarding(recipe: Recipe, constitution: Constitution) -> Mapping[RewardSource, Reads]:
    """What each source of the recipe reads; empty where it has no rewards. Raises RecipeError for what cannot be."""
    section = recipe.reward
    if section is None:
        return {}
    for model in recipe.model.judges.values() if section.asks else ():
        if model.engine == "openai" and not model.logprobs:
            raise RecipeError(
                f"reward.by: readings are made of log-probabilities, which the API of {model.model} does not have "
                f"(dialect = {model.dialect!r})",
                hint='name judges that give them, or set reward.by = ["rule"]',
            )
    if "model" in section.by:
        check_group(recipe)
    if "last-token" in section.by:
        check_policy(recipe)
    return {source: reads_of(source, section, constitution) for source in section.by}


def rewarder(
    recipe: Recipe,
    constitution: Constitution,
    run: Run,
    judges: Mapping[str, Engine],
    *,
    scorer: Scores | None = None,
    policy: Engine | None = None,
    writer: Engine | None = None,
) -> Rewarder | None:
    """For this start of the run; None where the recipe has no rewards. judges, scorer, policy: as Engines has them.
    writer: of prompts' rubrics; None where none is asked."""
    section = recipe.reward
    if section is None:
        return None
    own = judges if section.asks else {}
    reads, made = dict(rewarding(recipe, constitution)), rubrics(recipe, constitution, run, own, writer)
    for apart in ("model", "last-token"):  # which have readings of another kind
        reads.pop(apart, None)
    scalar = Scalar(run.run_id, run.starts, section, scorer) if scorer else None
    token = section.last_token
    read_out = ReadOut(run.run_id, run.starts, section, token, policy) if token and policy else None
    common = (run.run_id, recipe.seed, run.starts, section, own, reads, texts_of(recipe))
    return Rewarder(*common, made, scalar, read_out)


def step_of(source: str) -> str:
    """The step that failures and requests name."""
    return f"reward-{source}"
