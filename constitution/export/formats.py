"""The columns of each format: exactly what TRL's trainers read (its 1.x documentation, "Dataset formats and types"),
and behind them where each row comes from. Trainers drop the columns that they do not know.

A query over export.texts, export.alive and export.kept makes the rows; one expression of it stands beside each column
that is not the same in all rows.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import pyarrow as pa

from constitution.export.settings import Format, Settings
from constitution.principles.selection import select
from constitution.records import Constitution, Run
from constitution.warehouse.columns import Column
from constitution.warehouse.schema import MESSAGES


class Field(NamedTuple):
    column: Column
    sql: str
    """Over `t`: the row as `_ROWS` has it. Empty: the same in all rows (`constants`)."""


PRINCIPLES = pa.list_(pa.struct([("id", pa.string()), ("question", pa.string()), ("weight", pa.float64())]))
THINKING = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string()), ("reasoning_content", pa.string())]))
"""Messages, of which an answer's also has what the model thought before it."""
CRITERIA = pa.list_(
    pa.struct(
        [("principle_id", pa.string()), ("question", pa.string()), ("good", pa.string()), ("weight", pa.float64())]
    )
)

# Which answer of a pair is chosen: the preferred one, or, with labels = sampled, drawn by its probability. The draw
# depends on the seed and the pair alone.
_ROWS = """
SELECT
    c.*, t.messages, t.answer, t.other, t.answer_thought, k.split, k.config, k.epsilon,
    {sampled} AND md5_number_lower(concat({seed}, ' label ', c.id)) / 18446744073709551616 >= c.p AS turned,
    CASE WHEN turned THEN t.other ELSE t.answer END AS won,
    CASE WHEN turned THEN t.answer ELSE t.other END AS lost,
    CASE WHEN turned THEN t.other_thought ELSE t.answer_thought END AS won_thought,
    CASE WHEN turned THEN t.answer_thought ELSE t.other_thought END AS lost_thought,
    CASE WHEN turned THEN c.other_id ELSE c.answer_id END AS won_id,
    CASE WHEN turned THEN c.answer_id ELSE c.other_id END AS lost_id,
    CASE WHEN turned THEN 1 - c.p ELSE c.p END AS p_won
FROM export.texts AS t JOIN export.alive AS c USING (id) JOIN export.kept AS k USING (id)
"""


_ANSWER_IN = re.compile(r"'content': t\.(\w+)\}")
_UNTHOUGHT = (
    "list_transform(t.messages, lambda m: {'role': m.role, 'content': m.content, 'reasoning_content': NULL::VARCHAR})"
)


def _said(text: str) -> str:
    return f"[{{'role': 'assistant', 'content': {text}}}]"


def _field(name: str, kind: pa.DataType, doc: str, sql: str | None = None) -> Field:
    return Field(Column(name, kind, doc), f"t.{name}" if sql is None else sql)


def _text(name: str, doc: str, sql: str | None = None) -> Field:
    return _field(name, pa.string(), doc, sql)


_PROMPT = _field("prompt", MESSAGES, "The conversation, ending with the user turn to be answered.", "t.messages")
_ORIGIN = (
    _text("run_id", "The run that the row comes from.", ""),
    _text("prompt_id", "`prompts.id`: digest of the conversation."),
    _text("constitution", "name@version of the constitution.", ""),
    _field("tags", pa.list_(pa.string()), "The prompt's tags."),
)
_PAIR = (
    _text("pair_id", "`preferences.id`.", "t.id"),
    _text("chosen_id", "`responses.id` of the chosen answer.", "t.won_id"),
    _text("rejected_id", "`responses.id` of the rejected answer.", "t.lost_id"),
    _text("kind", "Of the pair: first-last, parent or given."),
    _field("agreement", pa.float64(), "Share of (judge, principle) that prefer what the label prefers."),
    _field("consistency", pa.float64(), "Share of (judge, principle) that prefer the same answer in both orders; null: "
           "judges that look at one answer at a time."),
    _field("votes", pa.int32(), "Votes that made the label."),
    _text("label_by", "How they made it: mean, majority, dawid-skene, then what else was applied."),
)  # fmt: skip
_P_CHOSEN = _field(
    "p_chosen", pa.float64(), "Soft label: probability that the chosen answer is the better one.", "t.p_won"
)
_ANSWER = (
    _text("response_id", "`responses.id` of the answer.", "t.id"),
    _text("kind", "initial, revision, or sample: it came with the prompt."),
    _field("round", pa.int32(), "0: the initial answer; r: its r-th revision."),
    _text("principle_id", "The principle that led to the revision; null: none."),
    _text("outcome", "ok, or unchanged or skipped: the text is that of the answer before."),
    _text("model", "Who wrote it; given: it came with the prompt."),
)

_DPO = (
    _PROMPT,
    _field("chosen", MESSAGES, "The preferred answer, one assistant message.", _said("t.won")),
    _field("rejected", MESSAGES, "The other one, one assistant message.", _said("t.lost")),
    _P_CHOSEN,
)

FIELDS: dict[Format, tuple[Field, ...]] = {
    "dpo": (*_DPO, *_PAIR, *_ORIGIN),
    "robust": (
        *_DPO,
        _field("epsilon", pa.float64(), "Mean of 1 − p_chosen over the rows of its config: DPO's label_smoothing."),
        *_PAIR,
        *_ORIGIN,
    ),
    "reward": (
        _field("chosen", MESSAGES, "The conversation with the preferred answer.",
               f"list_concat(t.messages, {_said('t.won')})"),
        _field("rejected", MESSAGES, "The conversation with the other one.",
               f"list_concat(t.messages, {_said('t.lost')})"),
        _field("margin", pa.float64(), "Log-odds of p_chosen, which counts as no more than the export's `clip`.",
               "ln(least(t.p_won, {clip}) / (1 - least(t.p_won, {clip})))"),
        _P_CHOSEN, *_PAIR, *_ORIGIN,
    ),
    "sft": (
        _PROMPT,
        _field("completion", MESSAGES, "The answer to be learnt, one assistant message.", _said("t.answer")),
        *_ANSWER, *_ORIGIN,
    ),
    "kto": (
        _PROMPT,
        _field("completion", MESSAGES, "The answer, one assistant message.", _said("t.answer")),
        _field("label", pa.bool_(), "True: a good answer, its score being at least the export's `good`.",
               "t.p >= {good}"),
        _field("score", pa.float64(), "What judges read of it by itself, on [0, 1].", "t.p"),
        _field("readings", pa.int32(), "Readings that the score is the mean of."),
        *_ANSWER, *_ORIGIN,
    ),
    "grpo": (
        _PROMPT,
        _field("principles", PRINCIPLES, "What answers are to be compared by: id, question, weight.", ""),
        _field("criteria", CRITERIA, "Yes/no questions about one answer: principle, question, the reply that speaks "
               "for it, weight in its principle.", ""),
        _text("source", "File and row that the prompt was read from."),
        *_ORIGIN,
    ),
}  # fmt: skip
"""Of each format its columns in their order."""


def columns(settings: Settings) -> tuple[Column, ...]:
    return tuple(field.column for field in _fields(settings))


def schema(settings: Settings) -> pa.Schema:
    """Plain types, without metadata: what datasets.load_dataset makes features of."""
    return pa.schema([(column.name, column.type) for column in columns(settings)])


def _fields(settings: Settings) -> tuple[Field, ...]:
    """The format's; with reasoning, those that hold an answer have it as `reasoning_content` of their messages, the key
    by which chat templates know it. It is null in all other turns, and where none is known."""
    if not settings.with_reasoning:
        return FIELDS[settings.format]
    return tuple(_thinking(field) for field in FIELDS[settings.format])


def _thinking(field: Field) -> Field:
    answer = _ANSWER_IN.search(field.sql)
    if answer is None:
        return field
    doc = f"{field.column.doc[:-1]}, with `reasoning_content`."
    said = _said(f"t.{answer[1]}")
    sql = field.sql.replace(said, f"{said[:-2]}, 'reasoning_content': t.{answer[1]}_thought}}]")
    sql = sql.replace("t.messages", _UNTHOUGHT)
    return Field(Column(field.column.name, THINKING, doc), sql)


def query(settings: Settings) -> str:
    """The rows by config, split (train first) and place, with all columns but the constants."""
    sampled = "true" if settings.labels == "sampled" else "false"
    rows = _ROWS.format(sampled=sampled, seed=settings.seed)
    varying = [field for field in _fields(settings) if field.sql]
    numbers = {"{clip}": repr(settings.clip), "{good}": repr(settings.good)}
    expressions = []
    for field in varying:
        sql = field.sql
        for name, number in numbers.items():
            sql = sql.replace(name, number)
        expressions.append(f"{sql} AS {field.column.name}")
    return f"SELECT {', '.join(expressions)} FROM ({rows}) AS t ORDER BY t.config, t.split DESC, t.place"


def constants(run: Run, constitution: Constitution, settings: Settings) -> dict[str, Any]:
    """The columns that are the same in all rows."""
    chosen = select(constitution.principles, settings.principles, f"--principles ({constitution.label})")
    always = {
        "run_id": run.run_id,
        "constitution": constitution.label,
        "principles": [
            {"id": principle.id, "question": principle.comparison_question, "weight": principle.weight}
            for principle in chosen
            if principle.compares
        ],
        "criteria": [
            {"principle_id": principle.id, "question": each.question, "good": each.good, "weight": each.weight}
            for principle in chosen
            for each in principle.criteria
        ],
    }
    return {field.column.name: always[field.column.name] for field in FIELDS[settings.format] if not field.sql}
