"""Rewards by the rubric of the prompt: a call an item, P(yes) / (P(yes) + P(no)), as the principles' criteria are read
(Rubrics as Rewards, arXiv 2507.17746, equation 1; lost points as HealthBench counts them, arXiv 2505.08775)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from constitution import templates
from constitution.judge.rubrics.own import rubric_of
from constitution.judge.sources import Item, Reads
from constitution.recipe import RewardSection
from constitution.records import Constitution, Messages, Prompt, Row, RubricItem


def reads(section: RewardSection, constitution: Constitution) -> Reads:
    return Reads(of_prompt=_of_prompt)


def _of_prompt(prompt: Prompt, have: Mapping[str, Row]) -> Reads | None:
    found = rubric_of(prompt.id, have)
    if found is None:
        return None
    return Reads(tuple(map(item_of, found))) if found else Reads(reason="no-rubric")


def item_of(row: RubricItem) -> Item:
    """One item, as a judge reads it."""
    return Item(
        *("", "", row.number, row.question, row.good, row.weight, row.kind == "essential", templates.REPLIES),
        partial(_messages, row.question),
        rubric_id=row.id,
    )


def _messages(question: str, prompt: Messages, answer: str, nonce: str, texts: templates.TemplateSet) -> Messages:
    return templates.item_messages(prompt, answer, question, nonce, texts)
