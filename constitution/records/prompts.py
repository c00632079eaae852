"""What a run is begun with, row by row: its prompts, and the rows that are none; and the later turns that it makes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from constitution.identity import row_id
from constitution.records.principles import Criterion, Message, Messages


@dataclass(frozen=True, slots=True)
class Prompt:
    messages: Messages
    """The whole conversation, ending with the user turn to be answered."""
    source: str = ""
    """Where it was read: file and row, e.g. `prompts.jsonl#17`."""
    tags: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    """Answers that came with the prompt, to be judged as they are (e.g. a human-labelled pair)."""
    gold: int | None = None
    """Index into `answers` of the one that people prefer; None: not known, or `golds` says."""
    repeat: int = 0
    """0 for the first prompt of a source with these messages, 1 for the second, and so on."""
    golds: tuple[int, ...] = ()
    """Where a benchmark gives more than two answers, indices of those that are better than all others: a pair is then
    of one of these and one of the others. Empty: of every two."""
    source_id: str | None = None
    """Its name in the source (`prompts.id_field`), which no other prompt has; a number as JSON writes it. None: the
    recipe names no such key."""
    metadata: str | None = None
    """A JSON object of the keys that the recipe keeps (`prompts.metadata`); None: it names none."""
    cut_answer: str | None = None
    """What the assistant says after the last turn of the user, which was cut off (`prompts.last_answer`); turns are
    parted by a blank line. None: nothing."""
    reference: str | None = None
    """The answer that came with it for others to be held against (`prompts.reference`), which is none of `answers`.
    None: none did."""
    rubric: tuple[Criterion, ...] = ()
    """The rubric that came with it (`prompts.rubric`); empty: none did."""

    script: tuple[str, ...] = ()
    """What the user says after this turn: each is asked once the model's answer to the one before is there."""
    turn: int = 1
    """Its place among the scripted turns of its conversation, from 1."""
    first_id: str = ""
    """`id` of the conversation's first turn, where this is a later one; empty: it is the first, or has no script."""

    @property
    def better(self) -> tuple[int, ...]:
        """Indices of the answers that people prefer; empty: not known."""
        return self.golds or (() if self.gold is None else (self.gold,))

    @property
    def id(self) -> str:
        """Digest of the canonical messages, of its script if it has one, and of its `repeat`, which tells a repeated
        conversation apart. A later turn's follows from its conversation and place, whatever was answered before."""
        if self.first_id:
            return row_id(self.first_id, "turn", self.turn)
        messages = [[message.role, message.content] for message in self.messages]
        more = [list(self.script)] if self.script else []
        return row_id(messages, *more, self.repeat) if self.repeat else row_id(messages, *more)

    @property
    def conversation_id(self) -> str:
        """`id` of the conversation's first turn; of a prompt without a script, its own."""
        return self.first_id or self.id

    def next_turn(self, answer: str) -> Prompt:
        """The next of the script, after this answer."""
        said = (Message("assistant", answer), Message("user", self.script[0]))
        return replace(self, messages=(*self.messages, *said), repeat=0, cut_answer=None, first_id=self.conversation_id,
                       script=self.script[1:], turn=self.turn + 1)  # fmt: skip

    def later_ids(self) -> tuple[str, ...]:
        """`id` of each turn that is still to come, in their order."""
        last = self.turn + len(self.script)
        return tuple(row_id(self.conversation_id, "turn", turn) for turn in range(self.turn + 1, last + 1))


@dataclass(frozen=True, slots=True)
class Turn:
    """A later turn of a scripted conversation: a prompt that a run makes of its answers as it works."""

    run_id: str
    slice: int
    position: int
    """Slice and place in it of the conversation's first turn."""
    prompt: Prompt

    @property
    def id(self) -> str:
        return self.prompt.id

    @property
    def prompt_id(self) -> str:
        return self.prompt.id


@dataclass(frozen=True, slots=True)
class SkippedRow:
    """A row of a run's source that no prompt was made of (`prompts.on_bad_row`)."""

    source: str
    """Where it is, as `Prompt.source`."""
    reason: str
    """Why it cannot be read as a prompt: what a refusal would have said."""
    hint: str
    """What can be done about it."""
