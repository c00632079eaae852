"""Which of a prompt's answers are its chain: what it started from, then its revisions.

A chain starts from the policy's initial answer or, with `[revise].start` best, from the sample with the highest reward.
A sample that repeats what its model was shown, such as its system prompt, starts none: a revision would pass that on.
One that was cut starts one only where no other can, and one that the server refused or filtered only after these: no
pair of it would be kept.
A chain that has a revision keeps the sample that this was made from, though a later start may find a better one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from constitution.identity import row_id
from constitution.records import HELD_BACK, Response, Reward, RewardSource, Row


def chain_of(rows: Iterable[Row], source: RewardSource | None = None) -> list[Response]:
    """By round. source: by whose rewards, which are all there, the sample is chosen that the first revision is to be
    made from (`Recipe.start_by`); None: a chain of samples without a revision is empty."""
    there = list(rows)
    answers = {row.id: row for row in there if isinstance(row, Response)}
    chain = sorted(
        (answer for answer in answers.values() if answer.kind in ("initial", "revision")), key=lambda each: each.round
    )
    start = answers.get(chain[0].parent_id or "") if chain else None
    if not chain and source is not None:
        rewards = [row for row in there if isinstance(row, Reward) and row.source == source]
        totals = {row.response_id: row.total for row in rewards if row.total is not None}
        samples = [each for each in answers.values() if each.kind == "sample" and each.id in totals]
        able = [each for each in samples if each.copied_from is None]
        whole = [each for each in able if each.outcome == "ok"]
        said = [each for each in able if each.outcome not in HELD_BACK]
        start = answers[best({each.id: totals[each.id] for each in whole or said or able})] if able else None
    return [start, *chain] if start is not None and start.kind == "sample" else chain


def revision_id(run_id: str, prompt_id: str, round: int, chain: Sequence[Response]) -> str:
    """The id of a revision. chain: what it was made from, the start of it first."""
    start = [answer.id for answer in chain[:1] if answer.kind == "sample"]
    return row_id(run_id, prompt_id, "revision", round, *start)


def best(totals: Mapping[str, float]) -> str:
    """Id of the answer with the highest reward; of equal ones the least id, a digest: no place is preferred. As the
    view `groups` has it."""
    return min(totals, key=lambda id: (-totals[id], id))
