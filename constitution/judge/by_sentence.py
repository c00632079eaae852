"""Rewards by sentence: after each sentence of an answer, the criteria that ask for a fault are asked of it so far.

So each sentence has a label for a process reward model (Uesato et al. 2022, arXiv 2211.14275; Lightman et al. 2023,
arXiv 2305.20050): whether the answer up to it breaks nothing. Criteria whose good reply is yes are left out: what an
answer ought to say, its first sentence cannot have said.
"""

from __future__ import annotations

from functools import partial

from constitution import templates
from constitution.judge.sources import Item, Reads, able
from constitution.measures.sentences import sentence_ends
from constitution.principles.selection import digest_of
from constitution.recipe import RewardSection
from constitution.records import Constitution, Criterion, Messages, Principle


def reads(section: RewardSection, constitution: Constitution) -> Reads:
    those = [each for each in constitution.principles if any(criterion.good == "no" for criterion in each.criteria)]
    principles = able(section, constitution, those, 'a criterion with good = "no"')
    asked = [
        (principle, number, criterion)
        for principle in principles
        for number, criterion in enumerate(principle.criteria)
        if criterion.good == "no"
    ]

    def items(text: str) -> list[Item]:
        return [_item(*each, end) for end in sentence_ends(text) for each in asked]

    return Reads(of_text=items)


def _item(principle: Principle, number: int, criterion: Criterion, end: int) -> Item:
    return Item(
        principle.id,
        digest_of(principle),
        number,
        criterion.question,
        criterion.good,
        principle.weight * criterion.weight,
        criterion.kind == "essential",
        templates.REPLIES,
        partial(_messages, criterion, end),
        end,
    )


def _messages(
    criterion: Criterion, end: int, prompt: Messages, answer: str, nonce: str, texts: templates.TemplateSet
) -> Messages:
    return templates.rubric_messages(prompt, answer[:end], criterion, nonce, texts)
