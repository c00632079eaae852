"""Rewards by a grade of each principle: a call a principle, the expectation over single-token grades (G-Eval, arXiv
2303.16634, section 2.3), from 0 for the lowest to 1 for the highest."""

from __future__ import annotations

from functools import partial

from constitution import templates
from constitution.judge.sources import Item, Reads, able
from constitution.principles.selection import digest_of
from constitution.recipe import RewardSection
from constitution.records import Constitution, Messages, Principle


def reads(section: RewardSection, constitution: Constitution) -> Reads:
    those = [each for each in constitution.principles if each.compares]
    labels = templates.GRADES if section.steps == len(templates.GRADES) else templates.LETTERS
    items = tuple(
        Item(
            principle.id,
            digest_of(principle),
            None,
            principle.comparison_question,
            None,
            principle.weight,
            False,
            labels,
            partial(_messages, principle),
        )
        for principle in able(section, constitution, those, "a comparison question")
    )
    return Reads(items, scale=(1.0, float(len(labels))))


def _messages(
    principle: Principle, prompt: Messages, answer: str, nonce: str, texts: templates.TemplateSet
) -> Messages:
    return templates.score_messages(prompt, answer, principle, nonce, texts)
