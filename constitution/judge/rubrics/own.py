"""The rubric of one prompt: made once, before any answer is rewarded by it, and found again in the prompt's rows.

    failures = await rubrics.make(prompt, answers, have, emit)
    rubric_of(prompt.id, have)                          # None: not yet; (): it has none

All its items are written together, dropped ones with their reason: there is a whole rubric or none. A prompt of which
too few are left has none, and a row says so (a failure NoRubric); so has one of whose sources a model failed for good.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from constitution import templates
from constitution.engines.base import Completion, Engine, Request
from constitution.errors import RecipeError
from constitution.generate.base import Emit
from constitution.generate.failures import answered, failed, failure_id
from constitution.generate.outcomes import clean
from constitution.identity import row_id, seed
from constitution.judge.ask import nonce
from constitution.judge.question import PartFailed
from constitution.judge.rubrics.check import STEP as CHECK
from constitution.judge.rubrics.check import Checker, check
from constitution.judge.rubrics.lint import Fault, lint
from constitution.judge.rubrics.seen import NO_CONTRAST, contrast_of, seen_by
from constitution.judge.rubrics.write import Seen, Wanted, messages, written
from constitution.judge.rubrics.written import Written
from constitution.judge.sources import texts_of
from constitution.principles.selection import select
from constitution.recipe import Recipe, RubricSection
from constitution.records import (
    NO_RUBRIC,
    Constitution,
    Failure,
    Principle,
    Prompt,
    Response,
    RewardSource,
    Row,
    RubricItem,
    RubricSource,
    Run,
)
from constitution.templates import TemplateSet

STEP = "rubric"
"""That failures and requests name, with the source behind it where a model was asked."""


class Draft(NamedTuple):
    """What one source gave."""

    source: RubricSource
    items: Sequence[Written]
    ids: tuple[str, ...] = ()
    """What it was written from."""
    request: Request | None = None
    """None: no model was asked."""
    done: Completion | None = None


@dataclass(frozen=True, slots=True)
class Rubrics:
    """What the rubrics of one start of a run have in common."""

    run_id: str
    seed: int
    attempt: int
    section: RubricSection
    principles: tuple[Principle, ...]
    """That a writer is shown, by source principles."""
    start_by: RewardSource | None
    """`Recipe.start_by`."""
    texts: TemplateSet
    """What the requests are rendered with."""
    writer: Engine | None
    """None: every rubric is given."""
    checker: Checker | None = None
    """None: no rubric is checked."""

    async def make(
        self, prompt: Prompt, answers: Sequence[Response], have: Mapping[str, Row], emit: Emit, last: bool = True
    ) -> tuple[Failure, ...]:
        """The rows of the prompt's rubric that `have` lacks. answers: all that there are so far. last: no others come.
        Returns what left the prompt without a rubric, or the rubric to be made."""
        rows: Sequence[RubricItem] = stored(prompt.id, have)
        if not rows:
            if gone := _failed_for_good(prompt.id, have):
                return gone
            if self.section.of_answers and not last:
                return ()
            found = await self._drafts(prompt, have)
            if any(each is None for each in found):
                return ()
            if failures := tuple(each for each in found if isinstance(each, Failure)):
                await emit([row for row in failures if row.id not in have])
                return failures
            drafts = [each for each in found if isinstance(each, Draft)]
            checked = await self._checked(prompt, have, self._rows(prompt, answers, have, drafts))
            if isinstance(checked, Failure):
                await emit([checked])
                return (checked,)
            rows = checked
        lacks = self._lacks(prompt, have, rows)
        made: list[Row] = [*rows, *lacks]
        await emit([row for row in made if row.id not in have])
        return lacks

    async def _drafts(self, prompt: Prompt, have: Mapping[str, Row]) -> list[Draft | Failure | str | None]:
        """What each source gives; why it has nothing to give; None: it may yet."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._draft(source, prompt, have)) for source in self.section.sources]
        return [task.result() for task in tasks]

    async def _draft(
        self, source: RubricSource, prompt: Prompt, have: Mapping[str, Row]
    ) -> Draft | Failure | str | None:
        if source == "given":
            return Draft(source, [Written(each.question, each.good, each.weight, each.kind) for each in prompt.rubric])
        seen = seen_by(source, prompt, have, self.principles, self.start_by)
        if not isinstance(seen, Seen):
            return seen
        step, target = f"{STEP}-{source}", row_id(self.run_id, prompt.id, STEP, source)
        request = self.request(source, prompt, seen, answered(have, self.run_id, prompt.id, step, target, self.attempt))
        assert self.writer is not None
        try:
            items, done = await written(self.writer, request, self.section.format)
        except PartFailed as failure:
            row = failed(self.run_id, prompt.id, step, target, failure.error, self.attempt)
            return replace(row, message=clean(str(failure)))
        return Draft(source, items, seen.ids, request, done)

    def request(self, source: RubricSource, prompt: Prompt, seen: Seen, used: int) -> Request:
        """What a model is asked. used: replies to it that earlier starts could not use: each has another seed."""
        wanted = Wanted(self.section.at_least, self.section.most, self.section.format)
        return Request(
            messages(source, seen, wanted, prompt.messages, nonce(self.seed, prompt.id), self.texts),
            self.section.sampling,
            seed(self.seed, prompt.id, STEP, source, *([used] if used else ())),
            affinity=prompt.first_id or prompt.id,
            step=f"{STEP}-{source}",
            answered=used,
        )

    def _rows(
        self, prompt: Prompt, answers: Sequence[Response], have: Mapping[str, Row], drafts: Sequence[Draft]
    ) -> list[RubricItem]:
        """All items in their order, each with its fault if it has one."""
        rows: list[RubricItem] = []
        kept: list[Written] = []
        total = sum(len(draft.items) for draft in drafts)
        for draft in drafts:
            faults = _faults(prompt, answers, have, draft, kept)
            for place, (item, fault) in enumerate(zip(draft.items, faults, strict=True)):
                row = self._row(prompt, draft, place, item)
                if fault is None and len(kept) == self.section.at_most:
                    row = replace(row, drop_reason="over-limit")
                elif fault is None:
                    kept.append(item)
                else:
                    row = replace(row, drop_reason=fault[0], detail=fault[1])
                rows.append(replace(row, number=len(rows), items=total))
        return rows

    async def _checked(
        self, prompt: Prompt, have: Mapping[str, Row], rows: list[RubricItem]
    ) -> list[RubricItem] | Failure:
        """The same, where the judge that reads by it prefers the better answer; else all fall."""
        kept = [row for row in rows if row.drop_reason is None]
        if self.checker is None or not kept:
            return rows
        pair = contrast_of(prompt, have, self.start_by)
        if pair is None:
            return _fallen(rows, NO_CONTRAST)
        target = row_id(self.run_id, prompt.id, CHECK)
        items = [Written(row.question, row.good, row.weight, row.kind) for row in kept]
        used = answered(have, self.run_id, prompt.id, CHECK, target, self.attempt)
        [name] = self.checker.judges
        try:
            found = await check(self.checker, prompt, items, pair[0].text, pair[1].text, used)
        except PartFailed as failure:
            gone = failed(self.run_id, prompt.id, CHECK, target, failure.error, self.attempt)
            return replace(gone, message=clean(str(failure)), judge=name)
        rows[0] = replace(
            rows[0],
            checker=name,
            check_prompt_tokens=found.prompt_tokens,
            check_cached_tokens=found.cached_tokens,
            check_completion_tokens=found.completion_tokens,
            check_calls=found.calls,
        )
        return rows if found.passed else _fallen(rows, found.detail)

    def _row(self, prompt: Prompt, draft: Draft, place: int, item: Written) -> RubricItem:
        request, done = (draft.request, draft.done) if place == 0 else (None, None)
        row = RubricItem(
            id=row_id(self.run_id, prompt.id, STEP, draft.source, place),
            run_id=self.run_id,
            prompt_id=prompt.id,
            source=draft.source,
            number=place,
            items=len(draft.items),
            question=item.question,
            good=item.good,
            weight=item.weight,
            kind=item.kind,
            from_ids=draft.ids,
            writer=self.writer.model if draft.request and self.writer else "given",
            template_digest=self.texts.digest if draft.request else None,
        )
        if request is None or done is None:
            return row
        return replace(
            row,
            reply=done.text,
            seed=None if "seed" in done.unsent else request.seed,
            prompt_tokens=done.prompt_tokens,
            cached_tokens=done.cached_tokens,
            completion_tokens=done.completion_tokens,
            reasoning_tokens=done.reasoning_tokens,
            calls=1,
        )

    def _lacks(self, prompt: Prompt, have: Mapping[str, Row], rows: Sequence[RubricItem]) -> tuple[Failure, ...]:
        """The failure of a prompt that has no rubric; it says which sources had nothing to give, and why."""
        left = [row for row in rows if row.drop_reason is None]
        if len(left) >= self.section.at_least and any(row.weight > 0 for row in left):
            return ()
        message = f"{len(left)} of {len(rows)} items are left, and at least {self.section.at_least} must be"
        if len(left) >= self.section.at_least:
            message = f"no point can be had: the weights of all {len(left)} items that are left are below 0"
        sources = self.section.written
        found = [seen_by(source, prompt, have, self.principles, self.start_by) for source in sources]
        message = "; ".join([message, *(each for each in found if isinstance(each, str))])
        id = failure_id(self.run_id, prompt.id, STEP, prompt.id)
        return (Failure(id, self.run_id, prompt.id, STEP, NO_RUBRIC, message, retryable=False),)


def _fallen(rows: Sequence[RubricItem], detail: str) -> list[RubricItem]:
    return [row if row.drop_reason else replace(row, drop_reason="check-failed", detail=detail) for row in rows]


def _faults(
    prompt: Prompt, answers: Sequence[Response], have: Mapping[str, Row], draft: Draft, kept: Sequence[Written]
) -> list[Fault | None]:
    """What is wrong with the items of one source, also beside those that are kept of others."""
    told = [answer.text for answer in answers if answer.text and answer.kind not in ("perturbation", "reference")]
    shown = have.get(draft.ids[0]) if draft.source == "reference" else None
    reference = shown.text if isinstance(shown, Response) else None
    found = lint([*kept, *draft.items], prompt.messages, reference, told, given=draft.source == "given")
    return found[len(kept) :]


def writing(recipe: Recipe, constitution: Constitution) -> tuple[Principle, ...]:
    """The principles that a writer is shown. Raises RecipeError where the recipe asks for some that are not there."""
    section = recipe.rubric
    if section is None or "principles" not in section.sources:
        return ()
    able = [each for each in constitution.principles if each.aim or each.compares]
    if not able:
        raise RecipeError(
            f"rubric.from: no principle of {constitution.label} has an aim or a comparison question",
            hint="give principles some in a new version, or name another source",
        )
    return select(able, section.principles, f"rubric.principles ({constitution.label})")


def rubrics(
    recipe: Recipe, constitution: Constitution, run: Run, judges: Mapping[str, Engine], writer: Engine | None = None
) -> Rubrics | None:
    """For this start of the run; None where the recipe has none. judges: that read by it. writer: what
    `Recipe.rubric_by` names."""
    section = recipe.rubric
    if section is None:
        return None
    [texts] = texts_of_rubrics(recipe) or (templates.WRITE,)
    shown, checker = writing(recipe, constitution), None
    if section.check == "contrast":
        assert recipe.reward is not None
        checker = Checker(recipe.seed, recipe.reward, judges, texts_of(recipe)["prompt-rubric"])
    return Rubrics(run.run_id, recipe.seed, run.starts, section, shown, recipe.start_by, texts, writer, checker)


def texts_of_rubrics(recipe: Recipe) -> tuple[TemplateSet, ...]:
    """What a writer is asked with; none where no model writes."""
    return (recipe.wording.of(templates.WRITE),) if recipe.rubric_by else ()


def rubric_of(prompt_id: str, have: Mapping[str, Row]) -> tuple[RubricItem, ...] | None:
    """The items that are asked, by a prompt's rows by id; empty: the prompt has no rubric, for good. None: that cannot
    be said yet."""
    if _failed_for_good(prompt_id, have):
        return ()
    return tuple(row for row in stored(prompt_id, have) if row.drop_reason is None) or None


def _failed_for_good(prompt_id: str, have: Mapping[str, Row]) -> tuple[Failure, ...]:
    failures = [row for row in have.values() if isinstance(row, Failure) and row.prompt_id == prompt_id]
    return tuple(row for row in failures if row.step.partition("-")[0] == STEP and not row.retryable)


def stored(prompt_id: str, have: Mapping[str, Row]) -> tuple[RubricItem, ...]:
    """All its items, in their order; empty: none are there, or not all."""
    rows = [row for row in have.values() if isinstance(row, RubricItem) and row.prompt_id == prompt_id]
    return tuple(sorted(rows, key=lambda row: row.number)) if rows and len(rows) == rows[0].items else ()
