"""Rewards by the criteria of the principles: a call a criterion, P(yes) / (P(yes) + P(no)), as judge.method rubric
reads them (arXiv 2507.17746, explicit aggregation: Σ weight · P(good reply) / Σ weight)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial

from constitution import templates
from constitution.errors import RecipeError
from constitution.judge.sources import Item, Reads, able
from constitution.principles.selection import digest_of
from constitution.recipe import RewardSection
from constitution.records import Constitution, Criterion, CriterionKind, Messages, Principle


def reads(section: RewardSection, constitution: Constitution) -> Reads:
    principles = able(section, constitution, [each for each in constitution.principles if each.criteria], "criteria")
    items = criteria_of(principles)
    if section.combine == "veto" and not any(item.essential for item in items):
        raise RecipeError(
            f'reward.combine: no criterion of the principles that are read is of kind = "essential" '
            f"({constitution.label}), so that nothing could be vetoed",
            hint='mark some in a new version, or set combine = "mean"',
        )
    return Reads(items)


def criteria_of(principles: Sequence[Principle], without: Collection[CriterionKind] = ()) -> tuple[Item, ...]:
    """without: kinds that are not asked."""
    return tuple(
        Item(
            principle.id,
            digest_of(principle),
            number,
            criterion.question,
            criterion.good,
            principle.weight * criterion.weight,
            criterion.kind == "essential",
            templates.REPLIES,
            partial(_messages, criterion),
        )
        for principle in principles
        for number, criterion in enumerate(principle.criteria)
        if criterion.kind not in without
    )


def _messages(
    criterion: Criterion, prompt: Messages, answer: str, nonce: str, texts: templates.TemplateSet
) -> Messages:
    return templates.rubric_messages(prompt, answer, criterion, nonce, texts)
