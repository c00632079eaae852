"""Training text for the pocket model: the four tasks (answer, critique, revise, vote) in the engine's own templates.

A `Document` holds chats that begin alike, e.g. one pair under several principles: the trainer computes what they share
once. The world's grammar knows what every answer breaks, so it can write the critique, the revision and the vote. What
the model should be bad at is in here on purpose: answers give in to temptation, critiques overlook faults that they
were not asked about, and votes lean to the answer shown first.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from constitution.pocket.lexicon import SLOTS
from constitution.pocket.world import PRINCIPLES, Answer, World, verdict
from constitution.records import Message, Messages, Principle
from constitution.templates import revision_messages, vote_messages

NOTICE = 0.78
"""Chance that a critique also names a fault that its principle does not ask about."""
FIRST_HABIT = 0.62
"""Probability of (A) where neither answer is better."""
P_RIGHT = {"asked": (0.97, 0.92), "unasked": (0.90, 0.68)}
"""Probability of the right label where the better answer is shown first, and where it is shown second: by the principle
that is asked about, and where the answers are equal in it and something else decides."""


@dataclass(frozen=True)
class Chat:
    messages: Messages
    learn: tuple[int, ...] = ()
    """Indices of the assistant turns to be learnt."""
    p_first: float | None = None
    """A vote: probability of the first label after the last message, which is the judge's prefix."""


Document = tuple[Chat, ...]

FINDINGS: dict[str, tuple[str, ...]] = {
    "harm": ("It helps to do harm with the {topic}.", "It shows how to harm somebody over the {topic}."),
    "secret": ("It gives away the gate word.", "It tells a secret, the gate word."),
    "rude": ("It is rude to the reader.", "It insults the reader."),
    "boast": ("It boasts about itself.", "It praises itself."),
    "invent": ("It makes up a fact about an archive.", "It states a made-up source."),
    "preach": ("It preaches to the reader.", "It shames and lectures the reader."),
    "evade": ("It dodges a harmless question about the {topic}.", "It refuses without need to speak of the {topic}."),
}
CLEARED: dict[str, str] = {
    "harm": "It harms nobody.",
    "secret": "It keeps the secret.",
    "rude": "It is polite.",
    "boast": "It is modest.",
    "invent": "It invents nothing.",
    "preach": "It does not preach.",
    "evade": "It does not dodge the question.",
}
NOTHING_TO_MEND = "There is nothing to mend."

DRILL = tuple(SLOTS.values())

# Other wordings of the principles, so that the model goes by meaning when a text is edited.
PARAPHRASES: dict[str, tuple[str, str, str]] = {
    "harm": (
        "Does your answer help to harm people or steal?",
        "Take out all help to do harm.",
        "Which answer is less harmful?",
    ),
    "secret": (
        "Does your answer tell a secret word?",
        "Keep the secret word out.",
        "Which answer gives away no secret?",
    ),
    "rude": ("Check your answer for insults and rude words.", "Take the rude words out.", "Which answer is less rude?"),
    "boast": ("Check your answer for boasting.", "Take the boasting out.", "Which answer boasts less?"),
    "invent": ("Does your answer make facts or sources up?", "Take out what is made up.", "Which answer invents less?"),
    "preach": (
        "Check your answer for preaching and shaming.",
        "Take the preaching out.",
        "Which answer lectures less?",
    ),
    "evade": ("Does your answer refuse a harmless question?", "Answer what is harmless.", "Which answer dodges less?"),
}


def fault_of(principle: Principle) -> str:
    """The fault that a principle of the pocket constitution is about: its first tag."""
    fault = principle.tags[0]
    if fault not in PRINCIPLES:
        raise ValueError(f"principle {principle.id}: its first tag must be one of {', '.join(PRINCIPLES)}")
    return fault


class Writer:
    """Writes documents; all chance comes from `rng`. `split`: train or held-out, as in `World.request`."""

    def __init__(self, rng: random.Random, principles: Sequence[Principle], split: str = "train") -> None:
        self.rng = rng
        self.split = split
        self.world = World(rng)
        self.principles = {fault_of(principle): principle for principle in principles}

    def document(self) -> Document:
        """One document: answers, revisions, votes or a drill."""
        kinds = (self.answers, self.revisions, self.votes, self.drill)
        return self.rng.choices(kinds, weights=(2, 5, 6, 4))[0]()

    def answers(self) -> Document:
        request = self.world.request(self.split)
        turns = len(request.messages)
        return tuple(
            Chat((*request.messages, Message("assistant", self.world.answer(request).text)), (turns,)) for _ in range(4)
        )

    def revisions(self) -> Document:
        """Critique and revision of one answer under three principles."""
        answer = self._answer()
        return tuple(self._revision(answer, fault) for fault in self._faults(3, answer.broken))

    def votes(self) -> Document:
        """One pair under four principles."""
        first, second = self._pair()
        nonce = f"{self.rng.getrandbits(24):06x}"
        chats = []
        for fault in self._faults(4, first.broken | second.broken):
            better = verdict(fault, first.broken, second.broken)
            messages = vote_messages(first.request.messages, first.text, second.text, self._principle(fault), nonce)
            asked = (fault in first.broken) != (fault in second.broken)
            right_first, right_second = P_RIGHT["asked" if asked else "unasked"]
            p_first = FIRST_HABIT if better is None else (right_first if better else 1 - right_second)
            chats.append(Chat(messages, p_first=p_first))
        return tuple(chats)

    def drill(self) -> Document:
        """Words without sense, to be said again and again: from these a small model learns early on to repeat what is
        to stay, which revisions alone teach it late."""
        words = [self.rng.choice(self.rng.choice(DRILL)) for _ in range(self.rng.randint(6, 16))]
        said = Message("assistant", " ".join(words) + ".")
        return (Chat((Message("user", said.content), said, Message("user", "Again."), said), (1, 3)),)

    def critique(self, answer: Answer, fault: str) -> tuple[str, frozenset[str]]:
        """A critique with `fault` in mind, and the faults that it names."""
        others = [other for other in PRINCIPLES if other in answer.broken and other != fault]
        named = [fault] * (fault in answer.broken) + [other for other in others if self.rng.random() < NOTICE]
        sentences = [] if fault in answer.broken else [CLEARED[fault]]
        for number, name in enumerate(named):
            finding = self.rng.choice(FINDINGS[name]).format(topic=answer.request.topic)
            besides = number > 0 or fault not in answer.broken
            sentences.append(f"But {finding[0].lower()}{finding[1:]}" if besides else finding)
        return " ".join(sentences if named else [*sentences, NOTHING_TO_MEND]), frozenset(named)

    def _revision(self, answer: Answer, fault: str) -> Chat:
        principle = self._principle(fault)
        critique, named = self.critique(answer, fault)
        asked = revision_messages(answer.request.messages, answer.text, critique, principle)
        revision = self.world.mend(answer, named).text
        return Chat((*asked, Message("assistant", revision)), (len(asked) - 2, len(asked)))

    def _answer(self) -> Answer:
        """An answer as the first round meets it, or as a later one does, part of its faults mended."""
        answer = self.world.answer(self.world.request(self.split), tempted=self.rng.choice((0.3, 0.75, 1.0)))
        return self._mended(answer) if self.rng.random() < 0.3 else answer

    def _mended(self, answer: Answer) -> Answer:
        return self.world.mend(
            answer, frozenset(fault for fault in sorted(answer.broken) if self.rng.random() < NOTICE)
        )

    def _pair(self) -> tuple[Answer, Answer]:
        """Two answers to one request: an answer and its revision, or two independent answers; in random order.

        Pairs in which both break the same are drawn again half the time, or they would be half of all."""
        one = self._answer()
        other = self._mended(one) if self.rng.random() < 0.6 else self.world.answer(one.request, self.rng.random())
        if one.broken == other.broken and self.rng.random() < 0.5:
            return self._pair()
        pair = [one, other]
        self.rng.shuffle(pair)
        return pair[0], pair[1]

    def _faults(self, count: int, likely: frozenset[str]) -> list[str]:
        """`count` different principles, those in `likely` with a better chance."""
        order = sorted(PRINCIPLES, key=lambda fault: self.rng.random() - 0.4 * (fault in likely))
        return order[:count]

    def _principle(self, fault: str) -> Principle:
        """The principle about `fault`, in its own words three times of four, else in others."""
        principle = self.principles[fault]
        if self.rng.random() < 0.75:
            return principle
        critique, revision, question = PARAPHRASES[fault]
        tail = principle.comparison_question.partition("?")[2]
        return replace(
            principle, critique_request=critique, revision_request=revision, comparison_question=question + tail
        )
