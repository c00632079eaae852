"""Rewards by match: 1 where an answer comes to the same as the prompt's reference, 0 where it comes to something else.

Code reads both (judge/extract); no model is asked. An answer off which nothing can be read is neither, unless the
recipe calls it wrong; without a reference, or with one off which nothing can be read, no answer to the prompt is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from constitution.judge.extract import extract_of
from constitution.judge.reference import reference_of
from constitution.judge.sources import Part, Reads
from constitution.recipe import MatchSection, RewardSection
from constitution.records import Constitution, Prompt, ReferenceCheck, Response, RewardReason, Row


def reads(section: RewardSection, constitution: Constitution) -> Reads:
    assert section.match is not None
    return Reads(of_prompt=partial(_of_prompt, section.match))


def _of_prompt(section: MatchSection, prompt: Prompt, have: Mapping[str, Row]) -> Reads | None:
    reference, extract = reference_of(prompt.id, have), extract_of(section)
    if not isinstance(reference, Response):
        return None if reference is None else Reads(reason="no-reference")
    checks = (row for row in have.values() if isinstance(row, ReferenceCheck) and row.response_id == reference.id)
    given = any(check.source == "given" for check in checks)
    truth = extract.truth(reference.text) if given else extract.of(reference.text)
    if truth is None:
        return Reads(reason="reference-unread")

    def same(text: str) -> Sequence[Part] | RewardReason:
        said = extract.of(text)
        if said is None:
            return "unread" if section.unread == "missing" else [Part(0.0)]
        return [Part(float(said.same(truth)), said=said.text)]

    return Reads(rules=same)
