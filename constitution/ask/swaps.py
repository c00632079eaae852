"""Counterfactual prompts: a term that says who somebody is swapped for another of its kind, and what the run's policy
answers then (as in counterfactual fairness, arXiv 1703.06856; of text, Garg et al. 2019, arXiv 1809.10610).

    groups = load_swaps(SHIPPED)
    with warehouse.scoring(run.run_id):
        await answer_swapped(root, run, groups)

The answer is sampled as the initial answer was, with its settings and its seed; whatever else differs is the model's
answer to the term.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from constitution.ask import EVERY, WINDOW
from constitution.ask.panel import recipe_of
from constitution.ask.scorecard import Asked, Sheet, Told, as_messages, fetched, in_window
from constitution.engines import Engine, Metered, open_engine
from constitution.engines.base import Request
from constitution.errors import EngineError, InputError
from constitution.generate.outcomes import clean, thought_of
from constitution.identity import row_id, seed
from constitution.reading import toml_of
from constitution.recipe import dated
from constitution.records import Counterfactual, Message, Messages, Run, Sampling
from constitution.warehouse import Warehouse, connect

_INITIAL = """
SELECT q.id, q.messages, r.id, r.sampling, r.seed
FROM (FROM prompts WHERE run_id = $run ORDER BY id LIMIT {sample}) AS q
JOIN (FROM responses WHERE run_id = $run AND kind = 'initial' AND trim(text) <> '' AND seed IS NOT NULL) AS r
    ON r.prompt_id = q.id
ORDER BY q.id
"""
_ARTICLE = r"(?:\b(?P<article>[Aa]n?)(?P<space>\s+))?"
_SAME_MODEL = ("digest", "revision", "adapter", "server_model")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Group(_Section):
    """Terms of one kind."""

    name: str = Field(min_length=1)
    terms: tuple[str | tuple[str, ...], ...] = Field(min_length=2)
    """Each with its forms, all in the same order; a term of one form may be that form alone."""

    @model_validator(mode="after")
    def _parallel(self) -> Group:
        if len({len(forms) for forms in self.forms}) > 1:
            raise ValueError(f"{self.name}: all terms need as many forms; an empty one has no counterpart")
        if len({self.label(place) for place in range(len(self.forms))}) < len(self.forms):
            raise ValueError(f"{self.name}: two terms begin with the same form")
        return self

    @cached_property
    def forms(self) -> tuple[tuple[str, ...], ...]:
        return tuple((term,) if isinstance(term, str) else term for term in self.terms)

    def label(self, place: int) -> str:
        """What a term is called: its first form."""
        return self.forms[place][0]

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Any form as a whole word, with the article before it."""
        known = sorted({form for forms in self.forms for form in forms if form}, key=len, reverse=True)
        return re.compile(rf"{_ARTICLE}\b(?P<term>{'|'.join(_any_case(form) for form in known)})\b")

    def term_of(self, messages: Messages) -> int | None:
        """Place of the term that the user's turns name; None: none, or more than one."""
        said = [
            match["term"] for turn in messages if turn.role == "user" for match in self.pattern.finditer(turn.content)
        ]
        found = {
            place for place, forms in enumerate(self.forms) for word in said if any(_is(word, form) for form in forms)
        }
        return found.pop() if len(found) == 1 else None

    def swapped(self, messages: Messages, source: int, target: int) -> Messages | None:
        """`messages` with every form of one term replaced by the other's; None where a form has no counterpart, or
        several (her: him or his)."""
        counterparts: dict[str, str] = {}
        for turn in messages:
            for match in self.pattern.finditer(turn.content):
                pairs = zip(self.forms[source], self.forms[target], strict=True)
                found = {other for form, other in pairs if form and _is(match["term"], form)}
                if found and (len(found) > 1 or not min(found)):
                    return None
                if found:
                    counterparts[match["term"]] = found.pop()

        def replaced(match: re.Match[str]) -> str:
            other = counterparts.get(match["term"])
            if other is None:
                return match[0]
            word = _in_case(other, match["term"])
            article = _article(match["article"], word) + match["space"] if match["article"] else ""
            return article + word

        return tuple(Message(turn.role, self.pattern.sub(replaced, turn.content)) for turn in messages)


class _File(_Section):
    groups: tuple[Group, ...] = Field(min_length=1)


def load_swaps(path: Path) -> tuple[Group, ...]:
    """The groups of terms in a TOML file: `[[groups]]` with name and terms. InputError where it is none."""
    try:
        groups = _File.model_validate(toml_of(path, str(path), InputError)).groups
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = ".".join(map(str, fault["loc"]))
        raise InputError(
            f"{path}: {f'{place}: ' if place else ''}{fault['msg']}",
            hint='[[groups]], name = "…", terms = ["one", "another"]; a term of several forms is a list of them',
        ) from None
    names = [group.name for group in groups]
    if len(set(names)) < len(names):
        raise InputError(f"{path}: two groups have the same name", hint="put their terms together")
    return groups


class Swap(NamedTuple):
    """One prompt to be answered anew."""

    id: str
    prompt_id: str
    response_id: str
    """The initial answer to the prompt as it was."""
    terms: str
    swap: str
    messages: Messages
    sampling: Sampling
    seed: int


@dataclass(frozen=True, slots=True)
class _Policy:
    run_id: str
    engine: Engine

    async def answer(self, swap: Swap, asked: Asked) -> list[Counterfactual]:
        """Its row; none where the engine failed, which is counted in `asked`."""
        request = Request(swap.messages, swap.sampling, swap.seed, affinity=swap.id)
        try:
            done = await self.engine.generate(request)
        except EngineError as error:
            asked.failure(error)
            return []
        asked.success(1)
        return [
            Counterfactual(
                id=swap.id,
                run_id=self.run_id,
                prompt_id=swap.prompt_id,
                response_id=swap.response_id,
                terms=swap.terms,
                swap=swap.swap,
                messages=swap.messages,
                text=clean(done.text),
                model=self.engine.model,
                seed=swap.seed,
                finish_reason=done.finish_reason,
                prompt_tokens=done.prompt_tokens,
                cached_tokens=done.cached_tokens,
                completion_tokens=done.completion_tokens,
                reasoning=thought_of(done),
                reasoning_tokens=done.reasoning_tokens,
            )
        ]


async def answer_swapped(
    root: Path,
    run: Run,
    groups: Sequence[Group],
    *,
    sample: int = EVERY,
    window: int = WINDOW,
    told: Told | None = None,
) -> Asked:
    """Lets the run's policy answer each prompt that names one term of a group, with one other in its place: which one
    is drawn by the run's seed. What the table has is not answered again. To be called while `scoring` the run.

    sample, window: as of `ask_scorecard`. Raises InputError where the policy is not the model any more that the run
    had, and ModelLoadError, RecipeError or EngineUnavailable where it does not open.
    """
    recipe = recipe_of(run)
    warehouse, asked = Warehouse(root), Asked("")
    known = warehouse.ids("counterfactuals", run.run_id)
    with connect(root) as connection:
        connection.execute(_INITIAL.format(sample=sample), {"run": run.run_id})
        swaps = [swap for row in fetched(connection) for swap in _swaps(run.run_id, recipe.seed, groups, row)]
    missing = [swap for swap in swaps if swap.id not in known]
    asked.known = len(swaps) - len(missing)
    if not missing:
        return asked
    engine = Metered(await open_engine(dated(recipe.model.policy, run.day)))
    try:
        _check_same(run, engine)
        policy = _Policy(run.run_id, engine)
        work = in_window(missing, lambda swap: policy.answer(swap, asked), window)
        async with Sheet(warehouse, run.run_id) as sheet, aclosing(work) as done:
            count = 0
            async for rows in done:
                await sheet.put(rows)
                asked.check()
                count += 1
                if told:
                    told("counterfactual prompts answered", count, len(missing))
    finally:
        await engine.close()
    return asked


def _swaps(run_id: str, run_seed: int, groups: Sequence[Group], row: Sequence[Any]) -> Iterator[Swap]:
    prompt_id, turns, response_id, sampling, chosen = row
    messages = as_messages(turns)
    for group in groups:
        source = group.term_of(messages)
        if source is None:
            continue
        others = [place for place in range(len(group.forms)) if place != source]
        target = random.Random(seed(run_seed, prompt_id, "swap", group.name)).choice(others)
        swapped = group.swapped(messages, source, target)
        if swapped is None:
            continue
        said = [[turn.role, turn.content] for turn in swapped]
        yield Swap(
            row_id(run_id, prompt_id, "counterfactual", group.name, said),
            prompt_id,
            response_id,
            group.name,
            f"{group.label(source)} → {group.label(target)}",
            swapped,
            Sampling(**{**sampling, "stop": tuple(sampling["stop"])}),
            chosen,
        )


def _check_same(run: Run, engine: Engine) -> None:
    """A counterfactual answer by another model would tell of the models, not of the term."""
    was, now = run.models.get("policy", {}), engine.describe()
    for fact in _SAME_MODEL:
        if was.get(fact, "unknown") != "unknown" and now.get(fact, "unknown") not in ("unknown", was[fact]):
            raise InputError(
                f"run {run.run_id}: its policy was another model than {engine.model} is now ({fact} {was[fact][:12]})",
                hint="bring the model back that the run had, or run the recipe again with --fresh",
            )


def _any_case(form: str) -> str:
    """A form as a pattern: one in lower case stands for its capitals too."""
    if form != form.lower():
        return re.escape(form)
    return "|".join(re.escape(way) for way in dict.fromkeys((form, form[:1].upper() + form[1:], form.upper())))


def _is(word: str, form: str) -> bool:
    return word == form or (form == form.lower() and word in (form[:1].upper() + form[1:], form.upper()))


def _in_case(form: str, like: str) -> str:
    """`form` with the capitals that `like` has."""
    if len(like) > 1 and like.isupper():
        return form.upper()
    return form[:1].upper() + form[1:] if like[:1].isupper() else form


def _article(article: str, word: str) -> str:
    """a or an, as the word wants it."""
    right = "an" if word[:1].lower() in "aeiou" else "a"
    return right.capitalize() if article[0].isupper() else right
