"""Principles drafted from a document, clause by clause: proposals, what no draft came from, what says the same.

    work = Extraction(document, kept_engine, seed=1, window=8)
    await work.draft(places); await work.compare(there)
    work.proposals, work.undrafted, work.failed, work.notes

A clause whose reply cannot be used is listed, and the next start asks it again; what was answered is not asked twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from constitution.documents import Clause, Document
from constitution.errors import EngineError, MalformedReply
from constitution.pipeline.tasks import Window
from constitution.principles.languages import known
from constitution.propose import alike, drafts
from constitution.propose.file import Note, Proposal, Undrafted
from constitution.propose.replies import Kept
from constitution.records import Principle
from constitution.shown import brief, printable

FAILED = "failed: "
"""What the reason of a clause begins with that is asked again."""
NOT_ASKED = "not asked: "
GIVEN_UP = 8
"""Failures of the engine in a row after which it is asked no more."""
ATTEMPTS = 8
"""Replies that could not be used after which a clause is asked no more."""
PAIRS = 100
"""Pairs of drafts that a model is asked about, at most."""
_PASSED = {
    "lead": "only introduces the clauses below it, which are shown it",
    "heading": "a heading without text",
    "code": "is code, which is not read as a rule",
}


def passed(clause: Clause) -> str:
    """Why a clause is not asked about; empty: it is."""
    return _PASSED.get(clause.kind, "" if any(map(str.isalnum, clause.text)) else "has no words")


@dataclass(slots=True)
class Extraction:
    """One start. `drafted` and `reasons` are by the place of a clause in the document."""

    document: Document
    engine: Kept
    seed: int = 1
    window: int = 8
    language: str = ""
    """The language of the document, as a constitution's file has it."""
    edition: str = ""
    max_tokens: int = drafts.MAX_TOKENS
    over_budget: Callable[[], str] = str
    """A sentence once no more may be spent."""
    drafted: dict[int, tuple[Proposal, ...]] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)
    rejected: dict[int, tuple[str, ...]] = field(default_factory=dict)
    """Drafts that are none, beside others of the clause that are."""
    notes: list[Note] = field(default_factory=list)
    pairs: tuple[int, int] = (0, 0)
    """Pairs of drafts that share words, and those of them that a model was asked about or that need none."""
    unread: int = 0
    """Verdicts on pairs that were none."""
    in_a_row: int = 0

    @property
    def proposals(self) -> tuple[Proposal, ...]:
        return tuple(each for place in sorted(self.drafted) for each in self.drafted[place])

    @property
    def undrafted(self) -> tuple[Undrafted, ...]:
        named = {place: [reason] for place, reason in self.reasons.items()}
        for place, why in self.rejected.items():
            named.setdefault(place, []).extend(f"rejected: {each}" for each in why)
        return tuple(
            Undrafted(f"{self.document.name}#{self.document.clauses[place].id}", reason)
            for place in sorted(named)
            for reason in named[place]
        )

    @property
    def failed(self) -> int:
        return sum(reason.startswith(FAILED) for reason in self.reasons.values())

    async def draft(self, places: Sequence[int]) -> None:
        """Asks about these clauses, `window` at a time."""
        room = Window(self.window)
        async with asyncio.TaskGroup() as group:
            for place in places:
                if why := passed(self.document.clauses[place]):
                    self.reasons[place] = f"{NOT_ASKED}{why}"
                    continue
                await room.acquire()
                room.start(group, self._draft(place))

    async def _draft(self, place: int) -> None:
        why = ""
        for attempt in range(ATTEMPTS):
            request = drafts.request(self.document, place, self.seed, attempt, self.max_tokens)
            there = self.engine.knows(request)
            if not there and (stop := self._stop()):
                self.reasons[place] = f"{FAILED}{why or stop}"
                return
            try:
                done = await self.engine.generate(request)
                self.in_a_row = 0
                if self._take(place, drafts.read(
                    self.document, self.document.clauses[place], done, known(self.language), self.edition
                )):  # fmt: skip
                    return
                why = "; ".join(self.rejected.pop(place))
            except MalformedReply as error:
                why = brief(printable(str(error)), 300)
            except EngineError as error:
                self.in_a_row += 1
                why = f"{type(error).__name__}: {brief(printable(str(error)), 300)}"
            if not there:  # one new reply a start
                break
        else:
            why = f"{why}; {ATTEMPTS} replies could not be used: take another model, or write this one by hand"
        self.reasons[place] = f"{FAILED}{why}"

    def _stop(self) -> str:
        if self.in_a_row >= GIVEN_UP:
            return f"not asked, for {self.in_a_row} requests in a row failed"
        return self.over_budget()

    def _take(self, place: int, found: drafts.Read) -> bool:
        """Whether something came of it."""
        if found.rejected:
            self.rejected[place] = found.rejected
        if found.proposals:
            self.drafted[place] = found.proposals
        if found.none:
            self.reasons[place] = f"none: {found.none}"
        return bool(found.proposals or found.none)

    async def compare(self, proposals: Sequence[Proposal], there: Sequence[Principle], most: int = PAIRS) -> None:
        """Duplicates and contradictions among the proposals, and against the principles `there`."""
        pairs = alike.related(proposals, there)
        same = [pair for pair in pairs if pair.cosine >= alike.NEAR]
        self.notes += [Note("duplicate", (pair.one, pair.other), "have nearly the same words") for pair in same]
        asked = [pair for pair in pairs if pair.cosine < alike.NEAR][:most]
        room, verdicts = Window(self.window), []
        async with asyncio.TaskGroup() as group:
            for pair in asked:
                await room.acquire()
                verdicts.append(room.start(group, self._verdict(pair)))
        for pair, task in zip(asked, verdicts, strict=True):
            if task.result() == "same":
                self.notes.append(Note("duplicate", (pair.one, pair.other), "demand the same, the model says"))
            elif task.result() == "contradict":
                self.notes.append(Note("contradiction", (pair.one, pair.other), "contradict, the model says"))
            self.unread += not task.result()
        self.pairs = (len(pairs), len(same) + len(asked))

    async def _verdict(self, pair: alike.Related) -> str:
        request = alike.request(pair, self.seed)
        if not self.engine.knows(request) and self._stop():
            return ""
        try:
            done = await self.engine.generate(request)
        except EngineError:
            self.in_a_row += 1
            return ""
        self.in_a_row = 0
        return alike.verdict(done.text)
