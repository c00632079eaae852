"""Whether a judge with the rubric prefers what was preferred: a rubric that does not bring the preference back that it
was written from is thrown away (OpenRubrics, arXiv 2510.07743).

    checked = await check(checker, prompt, items, better, worse)
    checked.passed

Answer by answer, in the very words in which rewards by the rubric are read, and combined as they are: so neither answer
stands first, and what passes is what answers will be rewarded by.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from constitution.engines.base import Engine, Request
from constitution.errors import MalformedReply
from constitution.identity import seed
from constitution.judge.ask import nonce
from constitution.judge.question import SAMPLING, Read, final, read_labels, share, together
from constitution.judge.rubrics.written import Written
from constitution.judge.sources import Part, combine
from constitution.recipe import RewardSection
from constitution.records import Prompt
from constitution.templates import REPLIES, TemplateSet, item_messages

STEP = "rubric-check"
"""That requests and failures name."""


@dataclass(frozen=True, slots=True)
class Checker:
    """What the checks of one start of a run have in common."""

    seed: int
    section: RewardSection
    """How readings are combined, and which count."""
    judges: Mapping[str, Engine]
    texts: TemplateSet
    """What its requests are rendered with: those of rewards by a prompt's rubric."""


class Checked(NamedTuple):
    better: float
    """The reward of the answer that was preferred, from 0 to 1; `worse`: of the other one."""
    worse: float
    calls: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int

    @property
    def passed(self) -> bool:
        """A rubric by which both are as good brings no preference back."""
        return self.better > self.worse

    @property
    def detail(self) -> str:
        return f"the better answer has {self.better:.3f}, the worse one {self.worse:.3f}"


async def check(
    checker: Checker, prompt: Prompt, items: Sequence[Written], better: str, worse: str, used: int = 0
) -> Checked:
    """items: at least one. used: replies that earlier starts could not use.

    Raises PartFailed where an engine fails, and where too few readings count (`reward.quorum`, `min_label_mass`) or
    nothing can be combined: whether the rubric holds cannot be said then.
    """
    texts = {"better": better, "worse": worse}
    asked = [(place, number, name) for name in checker.judges for place in texts for number in range(len(items))]
    requests = {
        (place, number): _request(checker, prompt, items, number, texts[place], used) for place, number, _ in asked
    }
    found = await together(
        read_labels(f"item {number + 1} of the {place} answer", checker.judges[name], requests[place, number])
        for place, number, name in asked
    )
    read: dict[str, list[tuple[int, Read]]] = {place: [] for place in texts}
    for (place, number, _), reading in zip(asked, found, strict=True):
        read[place].append((number, reading))
    return Checked(
        better=_reward(checker.section, items, read["better"], "better"),
        worse=_reward(checker.section, items, read["worse"], "worse"),
        calls=len(found),
        prompt_tokens=sum(reading.done.prompt_tokens for reading in found),
        cached_tokens=sum(reading.done.cached_tokens for reading in found),
        completion_tokens=sum(reading.done.completion_tokens for reading in found),
    )


def _request(
    checker: Checker, prompt: Prompt, items: Sequence[Written], number: int, answer: str, used: int
) -> Request:
    return Request(
        item_messages(prompt.messages, answer, items[number].question, nonce(checker.seed, prompt.id), checker.texts),
        SAMPLING,
        seed(checker.seed, prompt.id, STEP, number),
        choices=REPLIES,
        affinity=prompt.first_id or prompt.id,
        step=STEP,
        answered=used,
    )


def _reward(section: RewardSection, items: Sequence[Written], read: Sequence[tuple[int, Read]], place: str) -> float:
    """What the readings of one answer, all judges' of all items, come to."""
    values: dict[int, list[float]] = {}
    for number, reading in read:
        if reading.read.mass >= section.min_label_mass:
            yes = share(reading)
            values.setdefault(number, []).append(yes if items[number].good == "yes" else 1 - yes)
    count = sum(map(len, values.values()))
    if count < section.quorum * len(read) - 1e-9:
        raise final(f"the {place} answer", MalformedReply(f"{count} of {len(read)} readings count"))
    parts = [
        Part(sum(each) / len(each), items[number].weight, items[number].kind == "essential")
        for number, each in values.items()
    ]
    essential = sum(item.kind == "essential" for item in items)
    value = combine(section, parts, essential, (0.0, 1.0)).value if parts else None
    if value is None:
        raise final(f"the {place} answer", MalformedReply("its readings come to no reward"))
    return value
