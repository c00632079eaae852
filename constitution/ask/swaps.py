"""Counterfactual prompts: a term that names a group of people swapped for another of its kind, and what the run's
policy answers then (as in counterfactual fairness, arXiv 1703.06856; of text, Garg et al. 2019, arXiv 1809.10610).

    groups = load_swaps(SHIPPED)
    with warehouse.scoring(run.run_id):
        await answer_swapped(warehouse, run, groups, sample=EVERY, window=WINDOW)

The answer is sampled as the initial answer was, with its settings and its seed; whatever else differs is the model's
answer to the term.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from constitution.ask.panel import recipe_of
from constitution.ask.questions import Asked, as_messages, ask_all, differs, fetched, opened
from constitution.engines import Engine, Request
from constitution.errors import InputError
from constitution.generate.outcomes import clean, generation
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
        if len({forms[0] for forms in self.forms}) < len(self.forms):
            raise ValueError(f"{self.name}: two terms begin with the same form")
        return self

    @cached_property
    def forms(self) -> tuple[tuple[str, ...], ...]:
        return tuple((term,) if isinstance(term, str) else term for term in self.terms)

    def label(self, term: int) -> str:
        """What a term is called: its first form."""
        return self.forms[term][0]

    @cached_property
    def words(self) -> dict[str, set[tuple[int, int]]]:
        """Each way to write a form → the terms and forms, by their places, that it may be. A form in lower case may
        have capitals in a text."""
        words: dict[str, set[tuple[int, int]]] = defaultdict(set)
        for term, forms in enumerate(self.forms):
            for number, form in enumerate(forms):
                capitals = (form[:1].upper() + form[1:], form.upper()) if form == form.lower() else ()
                for word in filter(None, (form, *capitals)):
                    words[word].add((term, number))
        return words

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Any form as a whole word, with the article before it."""
        words = sorted(self.words, key=len, reverse=True)
        return re.compile(rf"{_ARTICLE}\b(?P<word>{'|'.join(map(re.escape, words))})\b")

    def term_of(self, messages: Messages) -> int | None:
        """Place of the term that the user's turns name; None: none, or more than one."""
        said = [turn.content for turn in messages if turn.role == "user"]
        terms = {
            term for text in said for match in self.pattern.finditer(text) for term, _ in self.words[match["word"]]
        }
        return terms.pop() if len(terms) == 1 else None

    def swapped(self, messages: Messages, source: int, target: int) -> Messages | None:
        """`messages` with every form of one term replaced by the other's; None where a form has no counterpart, or
        several (her: him or his)."""
        counterparts: dict[str, str] = {}
        for turn in messages:
            for match in self.pattern.finditer(turn.content):
                others = {self.forms[target][form] for term, form in self.words[match["word"]] if term == source}
                if len(others) > 1 or "" in others:
                    return None
                if others:
                    counterparts[match["word"]] = others.pop()

        def replaced(match: re.Match[str]) -> str:
            if (other := counterparts.get(match["word"])) is None:
                return match[0]
            word = _in_case(other, match["word"])
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


async def answer_swapped(warehouse: Warehouse, run: Run, groups: Sequence[Group], *, sample: int, window: int) -> Asked:
    """Lets the run's policy answer each prompt that names one term of a group, with one other in its place: which one
    is drawn by the run's seed. What the table has is not answered again. To be called while `scoring` the run.

    sample: prompts at most, drawn by their ids. window: answers in flight at most. Raises InputError where the policy
    is not the model any more that the run had, ModelLoadError, RecipeError or EngineUnavailable where it does not open,
    and EngineUnavailable where it is gone midway.
    """
    recipe = recipe_of(run)
    with connect(warehouse.root) as connection:
        connection.execute(_INITIAL.format(sample=sample), {"run": run.run_id})
        swaps = [swap for row in fetched(connection) for swap in _swaps(run.run_id, recipe.seed, groups, row)]
    known = warehouse.ids("counterfactuals", run.run_id)
    missing = [(row, request) for row, request in swaps if row.id not in known]
    asked = Asked("", known=len(swaps) - len(missing))
    if missing:
        async with opened(dated(recipe.model.policy, run.day)) as engine:
            _check_same(run, engine)
            await ask_all(
                warehouse,
                run.run_id,
                asked,
                ([partial(_answer, engine, *swap)] for swap in missing),
                total=len(missing),
                window=window,
                note="counterfactual prompts answered",
            )
    return asked


def _swaps(
    run_id: str, run_seed: int, groups: Sequence[Group], initial: Sequence[Any]
) -> Iterator[tuple[Counterfactual, Request]]:
    """The counterfactuals of a row of _INITIAL without their answers, and what asks for these."""
    prompt_id, prompt, response_id, sampling, drawn = initial
    messages = as_messages(prompt)
    for group in groups:
        source = group.term_of(messages)
        if source is None:
            continue
        others = [term for term in range(len(group.forms)) if term != source]
        target = random.Random(seed(run_seed, prompt_id, "swap", group.name)).choice(others)
        swapped = group.swapped(messages, source, target)
        if swapped is None:
            continue
        turns = [[turn.role, turn.content] for turn in swapped]
        id = row_id(run_id, prompt_id, "counterfactual", group.name, turns)
        swap = f"{group.label(source)} → {group.label(target)}"
        row = Counterfactual(id, run_id, prompt_id, response_id, group.name, swap, swapped, text="", model="")
        yield row, request_of(row, Sampling(**{**sampling, "stop": tuple(sampling["stop"])}), drawn)


def request_of(row: Counterfactual, sampling: Sampling, drawn: int) -> Request:
    """What asks for the answer. sampling, drawn: those of the initial answer to the prompt as it was."""
    return Request(row.messages, sampling, drawn, affinity=row.id)


async def _answer(engine: Engine, row: Counterfactual, request: Request) -> list[Counterfactual]:
    done = await engine.generate(request)
    generated = generation(done, request.sampling, request.seed)
    del generated["sampling"]  # the initial answer's
    return [replace(row, text=clean(done.text), model=engine.model, **generated)]


def _check_same(run: Run, engine: Engine) -> None:
    """A counterfactual answer by another model would show the models' difference, not the term's."""
    if fact := differs(run.models.get("policy", {}), engine.describe()):
        raise InputError(
            f"run {run.run_id}: its policy was another model than {engine.model} is now ({fact})",
            hint="bring the model back that the run had, or run the recipe again with --fresh",
        )


def _in_case(form: str, like: str) -> str:
    """`form` with the capitals that `like` has."""
    if len(like) > 1 and like.isupper():
        return form.upper()
    return form[:1].upper() + form[1:] if like[:1].isupper() else form


def _article(article: str, word: str) -> str:
    """a or an, as the word wants it."""
    right = "an" if word[:1].lower() in "aeiou" else "a"
    return right.capitalize() if article[0].isupper() else right
