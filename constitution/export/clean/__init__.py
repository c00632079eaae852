"""Cleaning: steps that leave rows out of an export, each each for its reason; docs/export.md says what each costs.

    clean(work)     # the steps that work.settings.cleaning asks for, in the order of its fields

A row that one step has dropped is not looked at by the next, so each has the first reason that held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from constitution.export.clean.answers import boilerplate, language, length, refusal
from constitution.export.clean.broken import broken
from constitution.export.clean.contaminated import contaminated
from constitution.export.clean.duplicates import duplicate, identical
from constitution.export.clean.near import near_duplicate
from constitution.export.clean.private import private
from constitution.export.settings import Cleaning, Settings
from constitution.export.work import Work

__all__ = ["clean", "not_cleaned"]


def _steps(cleaning: Cleaning) -> Iterator[tuple[Callable[[Work], None], bool, str]]:
    """The steps in their order: what each does, whether it is asked for, and what it looks for."""
    yield identical, True, "equal answers"
    yield duplicate, cleaning.dedupe != "off", "repeated rows"
    yield near_duplicate, cleaning.dedupe == "near", "near duplicates"
    yield contaminated, bool(cleaning.decontaminate), "overlap with evaluation sets"
    yield length, bool(cleaning.min_words or cleaning.max_words), "short and long answers"
    yield language, bool(cleaning.language), "the language"
    yield refusal, cleaning.drop_refusals, "refusals of harmless prompts"
    yield boilerplate, cleaning.boilerplate is not None, "boilerplate"
    yield private, cleaning.drop_private, "personal data and secrets"
    yield broken, cleaning.drop_broken, "answers that still break a principle by its own votes"


OF_ANSWERS = (length, language, refusal, boilerplate, broken)


def clean(work: Work) -> None:
    """Runs the steps that the settings ask for."""
    for step, asked, _ in _steps(work.settings.cleaning):
        if asked:
            step(work)


def not_cleaned(settings: Settings) -> list[str]:
    """What was not looked for."""
    prompts = settings.spec.unit == "prompt"
    steps = _steps(settings.cleaning)
    return [name for step, asked, name in steps if not asked and not (prompts and step in OF_ANSWERS)]
