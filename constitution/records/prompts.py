"""What a run is begun with, row by row: its prompts, and the rows that are none."""

from __future__ import annotations

from dataclasses import dataclass

from constitution.identity import row_id
from constitution.records.principles import Messages


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

    @property
    def better(self) -> tuple[int, ...]:
        """Indices of the answers that people prefer; empty: not known."""
        return self.golds or (() if self.gold is None else (self.gold,))

    @property
    def id(self) -> str:
        """Digest of the canonical messages; a repeated conversation is told apart by its `repeat`."""
        messages = [[message.role, message.content] for message in self.messages]
        return row_id(messages, self.repeat) if self.repeat else row_id(messages)


@dataclass(frozen=True, slots=True)
class SkippedRow:
    """A row of a run's source that no prompt was made of (`prompts.on_bad_row`)."""

    source: str
    """Where it is, as `Prompt.source`."""
    reason: str
    """Why it cannot be read as a prompt: what a refusal would have said."""
    hint: str
    """What can be done about it."""
