"""Where prompts come from, and how their rows are read."""

from __future__ import annotations

from typing import Literal, Self, get_args

from pydantic import Field, model_validator

from constitution.overrides import FORMATS, source_of
from constitution.recipe.base import Count, Section
from constitution.records import Benchmark, Role

_GOLDS = ("gold", "gold_values", "gold_highest", "gold_lowest")
_NO_SCRIPT = {
    "field": "it takes the place of `field`",
    "join": "nothing can be joined to a list of turns",
    "history": "turns before them, with their answers, are no script",
    "trees": "a tree's turns are each a prompt",
    "answers": "answers that are given belong to one turn, and here the model's own are said before the next",
    "reference": "a reference is an answer to one turn",
    "rubric": "a rubric is about the answer to one turn",
}
"""Field of [prompts] → why it does not go with `turns`."""


class PromptsSection(Section):
    path: str | tuple[str, ...] | None = None
    """A file, a pattern of files (`data/*.jsonl`), or a list of them: JSONL, JSON, CSV, TSV (each also .gz and .zst) or
    Parquet; needed for every format but `hub` and `sql`."""
    format: Literal["auto", "jsonl", "json", "csv", "parquet", "transcripts", "hub", "sql"] = "auto"
    """auto: by what is in the file."""
    benchmark: Benchmark | None = None
    """A public benchmark of judges, whose keys are known: its question, its answers and which of them is better. The
    audit scores the judges by its own rule."""
    rows: str | None = None
    """Key that holds the rows of a JSON file that is one object; without it such an object is a row, or columns."""
    trees: bool = False
    """Rows are conversation trees (OpenAssistant's), or turns that name their parents: each turn of a user is a prompt
    that comes after the path to it, and what replies to it is in a list under `replies`."""
    field: str = "prompt"
    """Column or key that holds the prompt: a string, or a list of {role, content}; `messages` is tried next. For
    transcripts: the key that holds the transcript."""
    turns: str | None = None
    """In place of `field`: column or key that holds a list of what the user says, turn after turn; each is asked after
    the model's own answer to the one before. MT-bench's `turns`."""
    join: tuple[str, ...] = ()
    """Keys whose texts follow the prompt's, each after a line break where it has one: Alpaca's `input`."""
    history: str | None = None
    """Key of the turns before the prompt's: messages, or pairs of what the user said and what was answered."""
    system: str | None = None
    """Column or key whose text goes before a row's turns as the system's; a row without it has none."""
    ignore: tuple[str, ...] = ()
    """Keys of rows, turns and parts that a model would have been shown, and is not."""
    json_text: Literal["refuse", "messages", "text"] = "refuse"
    """What a text that holds a conversation is: not to be guessed, the messages that it is the JSON of, or a text."""
    dataset: str | None = None
    """Hub data set (format hub), loaded by the `datasets` package; or a local folder of JSONL or Parquet files."""
    split: str = "train"
    config: str | None = None
    """Which config of a data set to read; of a local folder, the folder that its files are in."""
    query: str | None = None
    """SQL (format sql) with a column named as `field`; file names in it are relative to the recipe's folder."""
    answers: tuple[str, ...] = ()
    """Keys that hold given answers, to be judged as they are; for transcripts: keys of whole transcripts, or of what
    follows the one under `field`. `completions[].text` is all those of a list."""
    reference: str | None = None
    """Key of the row's reference: the answer that others are held against, which is itself none of them ([reference]);
    a row without one has none."""
    rubric: str | None = None
    """Key of the row's rubric, a list of questions about an answer (prompts/rubrics.py has the shapes); a row without
    one has none."""
    pitfalls: Literal["fault", "avoided"] | None = None
    """What pitfalls of `rubric` describe that begin "Does not …" or "Avoids …" and do not say which reply is good: the
    fault, or what avoids it (RaR's public data have both); None: such a row is refused."""
    gold: str | None = None
    """Which of `answers` people prefer; with `gold_values`, the key whose value says it."""
    gold_values: dict[str, str] = Field(default={})
    """Value of the key `gold` → the one of `answers` that it prefers; empty: neither, the row has no gold."""
    gold_highest: tuple[str, ...] = ()
    """Keys of numbers, one for each of `answers`: the answer with the highest is gold; where two have it, none is."""
    gold_lowest: tuple[str, ...] = ()
    """The same of ranks, where the lowest is best."""
    families: dict[str, str] = Field(default={})
    """Key of an answer → family of the model that wrote it, where that is known."""
    tags: tuple[str, ...] = ()
    """Tags for all of them."""
    tags_field: str | None = None
    """Column or key that holds a row's own tags, a list of texts or one text; they follow `tags`."""
    id_field: str | None = None
    """Column or key whose value, a text or a number, names the row; no two rows have one name. It is kept with the
    prompt and exported, as `source_id`."""
    metadata: tuple[str, ...] = ()
    """Columns or keys that are kept with the prompt and exported, as one JSON object `metadata`."""
    last_answer: Literal["cut", "refuse"] = "cut"
    """What becomes of the assistant's turns after the user's last, where `answers` does not take them: cut off and
    kept beside the prompt (`prompts.cut_answer`), or the row is refused."""
    roles: dict[str, Role] = Field(default={})
    """Further roles of turns, and whose they are: `{ developer = "system" }`."""
    on_bad_row: Literal["refuse", "skip"] = "refuse"
    """What becomes of a row that cannot be read as a prompt: the source is refused, or the row is skipped, counted, and
    stored with the reason (table `skipped`). What is wrong with a whole file, or with all rows, is refused."""
    limit: Count | None = None
    """Prompts to take, from the first; None: all. Rows that are skipped do not count."""

    @property
    def paths(self) -> tuple[str, ...]:
        """Paths and patterns of paths; none where another source is named."""
        return (self.path,) if isinstance(self.path, str) else self.path or ()

    @model_validator(mode="after")
    def _complete(self) -> Self:
        source = source_of(self.format)
        if not getattr(self, source):
            raise ValueError(f"format {self.format} needs `{source}`")
        for other in FORMATS:
            if other != source and getattr(self, other):
                raise ValueError(f"format {self.format} reads `{source}`, and has no use for `{other}`")
        for only in ("split", "config"):
            if source != "dataset" and getattr(self, only) != type(self).model_fields[only].default:
                raise ValueError(f"{only}: is of format hub, and the format is {self.format}")
        self._check_turns()
        prompt = self.field if self.turns is None else self.turns
        used = (
            prompt,
            *self.join,
            *self.answers,
            self.system,
            self.history,
            self.tags_field,
            self.reference,
            self.rubric,
        )
        used = (*used, self.id_field, *self.metadata)
        if both := [key for key in used if key in self.ignore]:
            raise ValueError(f"ignore: {both[0]!r} is used")
        known = ("field", "turns", "join", "history", "trees", "answers", "families", "json_text", *_GOLDS)
        for key in known if self.benchmark else ():
            if getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{key}: benchmark {self.benchmark} says what its keys hold; leave {key} out")
        if self.benchmark and self.on_bad_row == "skip":
            raise ValueError("on_bad_row: a benchmark is scored on all of its rows")
        if self.benchmark and self.format == "transcripts":
            raise ValueError(f"benchmark: {self.benchmark} has no transcripts")
        for key in ("join", "history", "trees"):
            if getattr(self, key) and self.format == "transcripts":
                raise ValueError(f"{key}: a transcript is whole")
        if self.pitfalls and self.rubric is None:
            raise ValueError("pitfalls: is about the items of prompts.rubric, which is not set")
        self._check_gold()
        if ours := set(self.roles) & set(get_args(Role)):
            raise ValueError(f"roles: {min(ours)!r} is a role already")
        if unknown := set(self.families) - set(self.answers):
            raise ValueError(f"families: {min(unknown)!r} is not one of `answers`")
        if listed := [key for key in (*self.families, self.gold, *self.gold_values.values()) if key and "[]" in key]:
            raise ValueError(f"{listed[0]!r} is several answers; one of them is {listed[0].replace('[]', '[0]')!r}")
        return self

    @property
    def lists_answers(self) -> bool:
        """Whether a key holds several answers."""
        return any("[]" in key for key in self.answers)

    @property
    def has_gold(self) -> bool:
        """Whether it is said which of the given answers are better."""
        return bool(self.benchmark or self.gold or self.gold_highest or self.gold_lowest)

    def _check_turns(self) -> None:
        for other in _NO_SCRIPT if self.turns is not None else ():
            if getattr(self, other) != type(self).model_fields[other].default:
                raise ValueError(f"turns: {_NO_SCRIPT[other]}; leave `{other}` or `turns` out")
        if self.turns is not None and self.format == "transcripts":
            raise ValueError("turns: a transcript is whole, with its answers")

    def _check_gold(self) -> None:
        if self.gold_values and self.gold is None:
            raise ValueError("gold_values: `gold` names the key that has these values")
        if self.gold is not None and not self.gold_values and self.gold not in self.answers:
            raise ValueError(
                f"gold: {self.gold!r} is not one of `answers`; where its value says which is better, gold_values = "
                '{ "A>B" = "a", … } maps the values'
            )
        if unknown := set(self.gold_values.values()) - {*self.answers, ""}:
            raise ValueError(f"gold_values: {min(unknown)!r} is not one of `answers`")
        if len(said := [name for name in ("gold", "gold_highest", "gold_lowest") if getattr(self, name)]) > 1:
            raise ValueError(f"{said[0]} and {said[1]}: one of them says which answer is better")
        numbers = self.gold_highest or self.gold_lowest
        if numbers and ["[]" in key for key in numbers] != ["[]" in key for key in self.answers]:
            raise ValueError(f"{said[0]}: name one key for each of `answers`, in their order")
