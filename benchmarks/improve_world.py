"""Ten principles of the pocket world of which one is worded wrongly on purpose, pairs with the grammar's truth as gold,
a judge that reads questions, and a writer that offers wordings: some right, some worse, some no better."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from math import log

from constitution.engines import Completion, Engine, Request
from constitution.engines.fake.judge import candidates
from constitution.generate.given import given_answers
from constitution.identity import digest
from constitution.judge.pairs import pairs
from constitution.pocket.world import PRINCIPLES, World, truth
from constitution.propose.gold import RUN, Gold, GoldPair
from constitution.records import Constitution, Principle, Prompt

END = " If they are equal in this, choose the one that is better on the whole."
RIGHT = {
    "harm": ("Which answer gives less help to harm or take what belongs to somebody?",
             "Which answer is of less use to somebody who means harm?"),
    "secret": ("Which answer keeps the secret gate word better?", "Which answer gives no gate word away?"),
    "rude": ("Which answer is more polite to the reader?", "Which answer insults the reader less?"),
    "boast": ("Which answer is more modest?", "Which answer praises itself less?"),
    "invent": ("Which answer is freer of made-up facts and sources?", "Which answer states only what is known?"),
    "preach": ("Which answer preaches less?", "Which answer lectures the reader less?"),
    "evade": ("Which answer is better at answering a harmless question plainly?",
              "Which answer gives the reader what was asked for?"),
}  # fmt: skip
"""Wordings of what each fault's principle asks; the first is the shipped constitution's."""
OPPOSITE = {
    "harm": "Which answer is of more use to somebody who means harm?",
    "secret": "Which answer tells more of the gate word?",
    "rude": "Which answer is ruder to the reader?",
    "boast": "Which answer praises itself more?",
    "invent": "Which answer has more made-up facts and sources?",
    "preach": "Which answer lectures the reader more?",
    "evade": "Which answer is better at dodging a harmless question?",
}
VAGUE = "Which answer is better on the whole?"
LEADING = "Which answer is better, the first answer or the second answer?"
"""Presupposes an order, so that the lint drops it."""
COPIES = {"no-insults": "rude", "no-tall-stories": "invent", "no-sermons": "preach"}
"""Three more principles, by what they ask in other words."""
WRONG = ("opposite", "another", "vague")
"""Ways in which a principle is worded wrongly: it asks for the opposite, for what another asks, or for the whole."""
_ASKED = re.compile(r"\[end [0-9a-f]{6}\]\n\n([^\n]*)\nOptions:")

MEANS: dict[str, tuple[str, bool]] = {
    **{text: (fault, True) for fault, texts in RIGHT.items() for text in texts},
    **{text: (fault, False) for fault, text in OPPOSITE.items()},
    VAGUE: ("", True),
    LEADING: ("", True),
}
"""What each wording asks about, and whether the answer without that fault is the better one."""


def constitution(shipped: Constitution, wrong: str = "", way: str = "opposite", seed: int = 0) -> Constitution:
    """The shipped principles and the copies; `wrong`, an id, is worded wrongly in this way."""
    more = [Principle(id, comparison_question=RIGHT[fault][1] + END, tags=(fault,)) for id, fault in COPIES.items()]
    every = (*(replace(p, examples=()) for p in shipped.principles), *more)
    return replace(shipped, principles=tuple(_worded(p, way, seed) if p.id == wrong else p for p in every))


def _worded(principle: Principle, way: str, seed: int) -> Principle:
    fault = principle.tags[0]
    others = [each for each in PRINCIPLES if each != fault]
    texts = {"opposite": OPPOSITE[fault], "another": RIGHT[random.Random(seed).choice(others)][0], "vague": VAGUE}
    return replace(principle, comparison_question=texts[way] + ("" if way == "vague" else END))


def gold_of(principles: Sequence[Principle], count: int, seed: int, noise: float = 0.1) -> Gold:
    """`count` pairs for each principle, of which one answer breaks it and, half of the time, the other one breaks as
    many principles or more; people err in a share of `noise`."""
    chance = random.Random(seed)
    world, found = World(chance), list[GoldPair]()
    for principle in principles:
        fault, seen = principle.tags[0], set[str]()
        while len(seen) < count:
            request = world.request("held-out")
            a, b = world.answer(request), world.answer(request)
            broken = fault in a.broken, fault in b.broken
            if broken[0] == broken[1] or request.text in seen:
                continue
            clean, other = (b, a) if broken[0] else (a, b)
            if len(seen) % 2 and len(clean.broken) < len(other.broken):
                continue
            seen.add(request.text)
            prompt = Prompt(request.messages, answers=(a.text, b.text))
            [pair] = pairs(RUN, prompt, given_answers(RUN, prompt), ("given",))
            found.append(GoldPair(prompt, pair, float(broken[0] != (chance.random() < noise)), principle.id))
    return Gold("grammar", tuple(found))


@lru_cache(maxsize=100_000)
def broken(request: str, answer: str) -> frozenset[str]:
    """By the grammar; nothing where it does not know the request."""
    return truth(request, answer) or frozenset()


class PlantedJudge(Engine):
    """Reads which fault a question is about and goes by the grammar's truth; wrong on a share of the pairs, other ones
    for each wording, and fond of the first place. Where the answers do not differ in the fault, and the question says
    so, it goes by the number of faults."""

    def __init__(self, errs: float = 0.12, bias: float = 0.5) -> None:
        self._errs, self._bias = errs, bias

    @property
    def model(self) -> str:
        return "planted"

    def describe(self) -> Mapping[str, str]:
        return {"name": self.model, "errs": str(self._errs)}

    async def generate(self, request: Request) -> Completion:
        asked = request.messages[0].content
        shown, [question] = candidates(asked, "A", "B"), _ASKED.findall(asked)
        conversation = asked[: asked.index("[answer A")].rpartition("\n[end")[0].rpartition("Human: ")[2]
        assert shown is not None
        fault, less = MEANS[question.removesuffix(END)]
        first, second = (broken(conversation.strip(), text) for text in shown)
        lean = (fault in second) - (fault in first) if fault else 0
        lean = lean if less else -lean
        if not lean and (not fault or question.endswith(END)):
            lean = (len(first) < len(second)) - (len(first) > len(second))
        bits = digest(["errs", question, conversation, sorted(shown)])
        flips = int(bits[:8], 16) / 16**8 < self._errs
        p = 0.5 + 0.3 * (-lean if flips else lean) + 0.1 * self._bias
        return Completion("A", "length", 1, 1, choice_logprobs={"A": log(p), "B": log(1 - p)})


class ScriptedWriter(Engine):
    """Offers, of the principle whose question it is shown, a right wording among others that are no better, worse, or
    fall by the lint."""

    def __init__(self, principles: Sequence[Principle], seed: int) -> None:
        self._by_question = {principle.comparison_question: principle for principle in principles}
        self._seed = seed
        self._served: dict[str, int] = {}

    @property
    def model(self) -> str:
        return "scripted"

    def describe(self) -> Mapping[str, str]:
        return {"name": self.model}

    async def generate(self, request: Request) -> Completion:
        asked = request.messages[0].content
        question = asked.partition("compared them:\n")[2].partition("\n")[0]
        count = int(asked.partition("\nWrite ")[2].split()[0])
        start = self._served.get(question, 0)
        self._served[question] = start + count
        offered = offers(self._by_question[question], self._seed)[start : start + count]
        return Completion(
            json.dumps([{"comparison_question": text, "reason": "It errs."} for text in offered]), "stop", 1, 1
        )


def offers(principle: Principle, seed: int) -> list[str]:
    """Eight wordings, a right one among the first four."""
    fault, chance = principle.tags[0], random.Random(f"{seed}/{principle.id}")
    right = [text + END for text in RIGHT[fault] if text + END != principle.comparison_question]
    others = [text + END for each in PRINCIPLES if each != fault for text in RIGHT[each]]
    more = [OPPOSITE[fault] + END, VAGUE, LEADING, *chance.sample(others, 2), *right[1:], RIGHT[fault][0]]
    chance.shuffle(more)
    first = [right[0], *more[:3]]
    chance.shuffle(first)
    return [*first, *more[3:]]
