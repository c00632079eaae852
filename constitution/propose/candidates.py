"""Rules by which people may have chosen, asked of a writer pair by pair; near-duplicates are put together.

As Inverse Constitutional AI (arXiv 2406.06560) proposes, with the reasons that people gave (Grounded CAI, arXiv
2601.18760), positive and of behaviour (C3AI). What a model wrote is hostile: a line is a rule of the form that was
asked for, or is dropped with the reason.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from constitution import templates
from constitution.engines.base import Completion, Engine, Request
from constitution.errors import EngineError
from constitution.identity import digest, seed
from constitution.judge.ask import nonce
from constitution.pipeline.tasks import Window
from constitution.propose.labelled import LabelledPair
from constitution.records import Message, Messages, Principle, Sampling
from constitution.shown import printable
from constitution.templates import INDUCE

STEP = "induce"
COUNT = 3
"""Rules that one call asks for."""
SAMPLING = Sampling(temperature=0.7, top_p=1.0, max_tokens=200)
WHY = {
    "better": "What makes answer {better} the better one?",
    "worse": "What does answer {worse} fail to do, that answer {better} does?",
}
"""Both directions, each one call."""
MOST = 160
"""Characters of a rule: a longer one describes the pair."""
ALIKE = 0.7
"""Cosine of two rules' words, weighted by how rare they are, from which they are one."""
_WINDOW = 16
_RULE = re.compile(r"(?:\s*(?:[-*•]|\(?\d{1,2}[.):])\s*)?[\"“]?choose the answer that (.+?)[.\"”\s]*", re.IGNORECASE)
_TURNS = frozenset(
    (
        "not",
        "no",
        "never",
        "without",
        "avoids",
        "avoid",
        "less",
        "fewer",
        "lacks",
        "omits",
        "refuses",
        "shorter",
        "longer",
    )
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A principle that may explain the labels."""

    principle: Principle
    pairs: int = 0
    """Pairs for which it was proposed; 0: it was given."""
    members: tuple[str, ...] = ()
    """All wordings that were put together; the first, that of most pairs and then the shortest, is its own."""
    known: bool = False
    """It is of the constitution that is audited."""


@dataclass(slots=True)
class Proposed:
    """What a writer wrote."""

    rules: dict[str, set[str]] = field(default_factory=dict)
    """Rule → ids of the pairs that it was proposed for."""
    refused: Counter[str] = field(default_factory=Counter)
    """Lines that are no rule, by why."""
    failed: Counter[str] = field(default_factory=Counter)
    """Calls without a reply, by class of error; the next start asks them again."""
    calls: int = 0


async def propose(engine: Engine, pairs: Sequence[LabelledPair], run_seed: int) -> Proposed:
    """Two calls a pair, some at a time."""
    found, room = Proposed(), Window(_WINDOW)

    async def one(pair: LabelledPair, side: str) -> None:
        found.calls += 1
        try:
            done = await engine.generate(request(pair, side, run_seed))
        except EngineError as error:
            found.failed[type(error).__name__] += 1
            return
        for rule, fault in read(done):
            if fault:
                found.refused[fault] += 1
            else:
                found.rules.setdefault(rule, set()).add(pair.pair.id)

    async with asyncio.TaskGroup() as group:
        for pair in pairs:
            for side in WHY:
                await room.acquire()
                room.start(group, one(pair, side))
    found.rules = dict(sorted(found.rules.items()))  # whatever the order in which replies came
    return found


def request(pair: LabelledPair, side: str, run_seed: int) -> Request:
    chosen = seed(run_seed, pair.pair.id, STEP, side)
    return Request(messages(pair, side, chosen), SAMPLING, chosen, affinity=pair.prompt.id, step=STEP)


def messages(pair: LabelledPair, side: str, chosen: int) -> Messages:
    """The chat that asks for rules; the seed `chosen` says which answer is shown first. What models and strangers wrote
    stands between marks, disarmed."""
    mark = nonce(chosen, pair.prompt.id)
    turned = random.Random(chosen).random() < 0.5
    first, second = (pair.worse, pair.better) if turned else (pair.better, pair.worse)
    better, worse = ("B", "A") if turned else ("A", "B")
    said = [templates.shown(reason, mark, INDUCE) for reason in pair.reasons]
    reasons = templates.fill(INDUCE.texts["induce-reasons.txt"], {"nonce": mark, "reasons": "\n\n".join(said)})
    values = {
        "nonce": mark,
        "conversation": templates.conversation(pair.prompt.messages, mark, INDUCE),
        "first": templates.shown(first.text, mark, INDUCE),
        "second": templates.shown(second.text, mark, INDUCE),
        "better": better,
        "reasons": reasons if said else "",
        "why": WHY[side].format(better=better, worse=worse),
        "count": str(COUNT),
    }
    return (Message("user", templates.fill(INDUCE.texts["induce.txt"], values)),)


def read(done: Completion) -> list[tuple[str, str]]:
    """Each line of a reply: the rule without its opening, and why it is none; one of both is empty."""
    found = [_rule(line) for line in done.text.splitlines() if line.strip()]
    if done.finish_reason != "stop" and found:
        found[-1] = "", f"its end is missing ({done.finish_reason})"
    return found


def _rule(line: str) -> tuple[str, str]:
    match = _RULE.fullmatch(line)
    if not match:
        return "", 'does not begin with "Choose the answer that"'
    what = " ".join(match[1].split())
    if len(what) > MOST:
        return "", f"has more than {MOST} characters"
    if printable(what) != what:
        return "", "holds signs that are not shown"
    if re.search(r"\b(?:answer|response|option) [AB]\b|[{}\[\]<>]", what):
        return "", "names an answer of the pair, or holds a mark"
    return what[0].lower() + what[1:], ""


def together(proposed: Proposed) -> list[Candidate]:
    """Candidates, those of the most pairs first. A rule goes to the first candidate that it is like in words (cosine of
    TF-IDF), unless a word turns one of them round."""
    rules = sorted(proposed.rules, key=lambda rule: (-len(proposed.rules[rule]), len(rule), rule))
    if not rules:
        return []
    from sklearn.feature_extraction.text import TfidfVectorizer

    table = TfidfVectorizer(token_pattern=r"(?u)\w+|[^\w\s]", sublinear_tf=True).fit_transform(rules)
    near = (table @ table.T).toarray()
    heads: dict[int, list[int]] = {}
    for place, rule in enumerate(rules):
        like = (head for head in heads if near[head, place] >= ALIKE and _turns(rules[head]) == _turns(rule))
        heads.setdefault(next(like, place), []).append(place)
    made = [_candidate([rules[place] for place in members], proposed) for members in heads.values()]
    return sorted(made, key=lambda each: (-each.pairs, each.principle.id))


def _turns(rule: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", rule.casefold())) & _TURNS


def _candidate(rules: Sequence[str], proposed: Proposed) -> Candidate:
    pairs = set[str]().union(*(proposed.rules[rule] for rule in rules))
    slug = re.sub(r"[^a-z0-9]+", "-", rules[0].casefold()).strip("-")[:40].rstrip("-") or "rule"
    question = f"Which answer {rules[0]}?"
    principle = Principle(
        f"{slug}-{digest(rules[0])[:4]}",
        comparison_question=question,
        source=f"induced from {len(pairs)} pair{'s' if len(pairs) > 1 else ''}",
    )
    return Candidate(principle, len(pairs), tuple(rules))
