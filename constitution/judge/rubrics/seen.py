"""What the writer of a rubric is shown beside the conversation, by the source that it is written from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from constitution.generate.chain import chain_of
from constitution.generate.reference import reference_of, whole
from constitution.judge.rubrics.write import Seen
from constitution.records import Principle, Prompt, Response, RewardSource, Row, RubricSource

NO_CONTRAST = "no two answers of which one is known to be better"


def seen_by(
    source: RubricSource,
    prompt: Prompt,
    have: Mapping[str, Row],
    principles: tuple[Principle, ...],
    start_by: RewardSource | None,
) -> Seen | str | None:
    """have: the prompt's rows by id. A text: why there is nothing to write from, for good; None: there may yet be."""
    if source == "principles":
        return Seen(principles=principles, ids=tuple(principle.id for principle in principles))
    if source == "contrast":
        pair = contrast_of(prompt, have, start_by)
        if pair is None:
            return NO_CONTRAST
        return Seen(answers=tuple(each.text for each in pair), ids=tuple(each.id for each in pair))
    if source == "reference":
        found = reference_of(prompt.id, have)
        if isinstance(found, Response):
            return Seen(answers=(found.text,), ids=(found.id,))
        return None if found is None else f"no reference: {found}"
    return Seen()


def contrast_of(
    prompt: Prompt, have: Mapping[str, Row], start_by: RewardSource | None
) -> tuple[Response, Response] | None:
    """A better answer and a worse one: of those that came with the prompt, by gold; else the last whole revision of the
    chain and what the chain started from. None: there are no two that differ."""
    given = sorted((row for row in _answers(have) if row.kind == "given"), key=lambda row: row.round)
    better = [row for row in given if row.round in prompt.better]
    worse = [row for row in given if row.round not in prompt.better] if better else []
    chain = chain_of(have.values(), start_by)
    revised = [row for row in whole(chain) if row.kind == "revision" and row.outcome == "ok"]
    return _apart(better, worse) or _apart(revised[::-1], chain[:1])


def _apart(better: Sequence[Response], worse: Sequence[Response]) -> tuple[Response, Response] | None:
    pairs = ((one, other) for one in better for other in worse if one.text and other.text and one.text != other.text)
    return next(pairs, None)


def _answers(have: Mapping[str, Row]) -> list[Response]:
    return [row for row in have.values() if isinstance(row, Response)]
