"""Every table's columns: name, Arrow type, one line of what it says. The files, the SQL and docs/warehouse.md follow.

    python -m constitution.warehouse        prints the tables as docs/warehouse.md has them

A column that may be null says so in its line. Dictionary encoding is only for columns with few distinct values.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

ROW_GROUP_ROWS = 10_240
COMPRESSION = "zstd"
COMPRESSION_LEVEL = 3


@dataclass(frozen=True)
class Column:
    name: str
    type: pa.DataType
    doc: str
    null: bool = False
    few: tuple[str, ...] = ()
    """Parquet paths with few distinct values, which are dictionary-encoded; the column's own name for a flat one."""
    older: int | str | tuple[()] | None = None
    """What it says of rows that were written before there was such a column. None: null."""

    @property
    def older_sql(self) -> str:
        """The same as a literal of SQL."""
        if self.older is None:
            return "NULL"
        return "[]" if self.older == () else repr(self.older)

    @property
    def field(self) -> pa.Field:
        return pa.field(self.name, self.type, nullable=self.null, metadata={"doc": self.doc})


@dataclass(frozen=True)
class Table:
    name: str
    doc: str
    columns: tuple[Column, ...]

    @cached_property
    def schema(self) -> pa.Schema:
        return pa.schema([column.field for column in self.columns], metadata={"table": self.name, "doc": self.doc})

    def conform(self, data: pa.Table) -> pa.Table:
        """`data`, which an older version may have written, with this version's columns in their order."""
        arrays = [
            data.column(column.name)
            if column.name in data.column_names
            else pa.array([column.older] * data.num_rows, column.type)
            for column in self.columns
        ]
        return pa.Table.from_arrays(arrays, self.schema.names).cast(self.schema)

    def select(self, source: str, *more: str) -> str:
        """SQL: the rows of `source`, a table expression over files that older versions may have written, with this
        version's columns in their order and with its types. more: further columns that `source` has."""
        empty = ", ".join(f"NULL::{sql_type(c.type)} AS {c.name}" for c in self.columns)
        own = [c.name if c.older is None else f"coalesce({c.name}, {c.older_sql}) AS {c.name}" for c in self.columns]
        columns = ", ".join([*own, *more])
        # The first arm has no rows: it is there for its columns.
        return f"SELECT {columns} FROM (SELECT {empty} WHERE false UNION ALL BY NAME FROM {source})"

    @cached_property
    def dictionary_paths(self) -> list[str]:
        return [path for column in self.columns for path in column.few]


def _few(name: str, doc: str, *, null: bool = False, older: str | None = None) -> Column:
    return Column(name, pa.string(), doc, null, (name,), older)


def _text(name: str, doc: str, *, null: bool = False) -> Column:
    return Column(name, pa.string(), doc, null)


def _int(name: str, doc: str, *, null: bool = False, older: int | None = None) -> Column:
    return Column(name, pa.int32(), doc, null, older=older)


def _real(name: str, doc: str, *, null: bool = False) -> Column:
    return Column(name, pa.float64(), doc, null)


MESSAGE = pa.struct([pa.field("role", pa.string(), nullable=False), pa.field("content", pa.string(), nullable=False)])
MESSAGES = pa.list_(MESSAGE)
SAMPLING = pa.struct(
    [
        pa.field("temperature", pa.float64(), nullable=False),
        pa.field("top_p", pa.float64(), nullable=False),
        pa.field("max_tokens", pa.int32(), nullable=False),
        pa.field("stop", pa.list_(pa.string()), nullable=False),
    ]
)
EXEMPLARS = pa.list_(
    pa.struct(
        [
            ("messages", MESSAGES),
            ("response", pa.string()),
            ("critique_request", pa.string()),
            ("critique", pa.string()),
            ("revision_request", pa.string()),
            ("revision", pa.string()),
        ]
    )
)
CRITERIA = pa.list_(pa.struct([("question", pa.string()), ("good", pa.string()), ("weight", pa.float64())]))
EXAMPLES = pa.list_(pa.struct([("messages", MESSAGES), ("better", pa.string()), ("worse", pa.string())]))

READINGS = pa.list_(pa.float64())

RUN_ID = _few("run_id", "The run that the row belongs to; also the name of its folder, so a filter on it skips files.")
PROMPT_ID = _text("prompt_id", "`prompts.id`.")
CREATED_AT = Column("created_at", pa.timestamp("us", tz="UTC"), "When the row was written.", few=("created_at",))
PRINCIPLE_DIGEST = "`principles.digest`: the exact words of the principle, whatever its version is called."

PRINCIPLES = Table(
    "principles",
    "One row per principle of the run's constitution, in the constitution's order: every word that was used.",
    (
        RUN_ID,
        _few("constitution", "Name of the constitution."),
        _few("version", "Its semantic version."),
        _few("constitution_digest", "SHA-256 of the whole constitution."),
        _text("description", "The constitution's description."),
        _text("constitution_source", "Where the constitution comes from; empty: written here."),
        _text("license", "The constitution's licence; may be empty."),
        _int("position", "Place in the constitution, from 0."),
        _text("principle_id", "Id of the principle, unique in its constitution."),
        _text("digest", "SHA-256 of the principle with all its fields."),
        _text("critique_request", "Asks for a critique of an answer; empty: the principle only compares."),
        _text("revision_request", "Asks for a revised answer; empty: the principle only compares."),
        _text("comparison_question", "Asked of two answers; empty: the principle only revises."),
        _real("weight", "Relative chance of being drawn, and weight of its votes."),
        Column("tags", pa.list_(pa.string()), "Tags."),
        _text("source", "Where the principle comes from; empty: written here."),
        Column("exemplars", EXEMPLARS, "Worked critiques and revisions of its own."),
        Column("examples", EXAMPLES, "Its unit tests: a judge that follows it prefers `better`."),
        Column(
            "criteria", CRITERIA, "Its checklist: yes/no questions about one answer, and which reply is good.", older=()
        ),
        Column("shared_exemplars", EXEMPLARS, "The constitution's exemplars, for principles with none of their own."),
        CREATED_AT,
    ),
)

PROMPTS = Table(
    "prompts",
    "One row per prompt of the run's input; part-<n> is slice n of it.",
    (
        RUN_ID,
        _text("id", "Digest of the messages (and of `repeat`, where it is not 0)."),
        _int("slice", "Number of the slice, from 0."),
        _int("position", "Place in the slice, from 0."),
        Column("messages", MESSAGES, "The whole conversation, ending with the user turn to be answered.",
               few=("messages.list.element.role",)),
        _int("turns", "Number of messages."),
        _text("last_user", "Text of the last user turn."),
        _text("source", "File and row that it was read from; may be empty."),
        Column("tags", pa.list_(pa.string()), "Tags.", few=("tags.list.element",)),
        Column("answers", pa.list_(pa.string()), "Answers that came with the prompt, to be judged as they are."),
        _int("gold", "Index into `answers` of the one that people prefer; null: not known.", null=True),
        _int("repeat", "0 for the first prompt of a source with these messages, 1 for the second, and so on."),
        CREATED_AT,
    ),
)  # fmt: skip

RESPONSES = Table(
    "responses",
    "One row per answer to a prompt, with the principle and the critique that led to it.",
    (
        RUN_ID,
        _text("id", "Digest of run, prompt, kind and round."),
        PROMPT_ID,
        _few("kind", "initial · revision · sample (also: an answer that came with the prompt) · synthesis · variant "
             "(its parent with an infraction put in on purpose)."),
        _int("round", "0 for the initial answer, r for the revision of round r; of a variant, its parent's."),
        _text("text", "The answer."),
        _few("outcome", "ok · cut (by max_tokens) · empty · unchanged (equal to its parent) · skipped (no revision was "
             "asked for; the text is the parent's)."),
        _few("model", "Short name of the model; `given`: it came with the prompt."),
        _text("parent_id", "The response that this one revises or spoils; null: none.", null=True),
        _few("principle_id", "The principle drawn for this round; null: none.", null=True),
        _few("principle_digest", PRINCIPLE_DIGEST + " Null: none.", null=True),
        _text("critique", "The critique of the parent; null: none was asked for.", null=True),
        _few("critique_outcome", "ok · cut · empty · refused; null: none was asked for.", null=True),
        Column("critique_seed", pa.int64(), "Seed of the critique; null: none.", null=True),
        _int("critique_prompt_tokens", "Tokens of input of the critique."),
        _int("critique_cached_tokens", "Of these, found in the engine's prefix cache."),
        _int("critique_completion_tokens", "Tokens of output of the critique."),
        _few("template_digest", "`templates.digest` of what rendered critique and answer; null: the prompt's own "
             "messages.", null=True),
        Column("sampling", SAMPLING, "temperature, top_p, max_tokens (output), stop strings; null: not generated.",
               null=True, few=("sampling.temperature", "sampling.top_p", "sampling.max_tokens",
                               "sampling.stop.list.element")),
        Column("seed", pa.int64(), "Seed of the answer; null: not generated.", null=True),
        _few("finish_reason", "stop · length; null: not generated.", null=True),
        _int("prompt_tokens", "Tokens of input of the answer."),
        _int("cached_tokens", "Of these, found in the engine's prefix cache."),
        _int("completion_tokens", "Tokens of output of the answer."),
        _few("family", "Family of the model that wrote it, as the recipe names it; null: not known.", null=True),
        _few("infraction", "Of a variant: polished · terse · sarcastic; null: no variant.", null=True),
        CREATED_AT,
    ),
)  # fmt: skip

JUDGEMENTS = Table(
    "judgements",
    "One row per vote: one judge, one principle, one order of the pair, one repeat.",
    (
        RUN_ID,
        _text("id", "Digest of run, pair, judge, principle, order and repeat."),
        PROMPT_ID,
        _text("pair_id", "`preferences.id`."),
        _text("first_id", "`responses.id` of the answer shown first, as (A)."),
        _text("second_id", "`responses.id` of the answer shown second, as (B)."),
        _few("judge", "Name of the jury's member; of a judge alone, short name of its model."),
        _few("principle_id", "The principle that was asked about."),
        _few("principle_digest", PRINCIPLE_DIGEST),
        _few("method", "label · rationale · score · rubric; the last two look at one answer at a time, in one order."),
        _real("p_first", "Probability that the first is better, as it was read: neither clamped nor corrected."),
        _real("label_mass", "Probability on the labels together before renormalising; 1 − it is missing. Of several "
              "readings, the smallest."),
        _few("template_digest", "`templates.digest` of what rendered the question."),
        _text("rationale", "What the judge wrote before its vote; null: nothing was asked for.", null=True),
        Column("seed", pa.int64(), "Seed of the request; null: none.", null=True),
        _int("prompt_tokens", "Tokens of input, of all its calls."),
        _int("cached_tokens", "Of these, found in the engine's prefix cache."),
        _int("completion_tokens", "Tokens of output, of all its calls."),
        _int("repeat", "0 for the first vote of its kind, 1 for the second with another seed, and so on.", older=0),
        _int("calls", "Calls to the engine that it took.", older=1),
        Column("read_first", READINGS, "Of the first answer. score: raw probability of each grade, from 1; rubric: "
               "P(yes) of each criterion, renormalised; null: label, rationale.", null=True),
        Column("read_second", READINGS, "The same of the second answer.", null=True),
        CREATED_AT,
    ),
)  # fmt: skip

PREFERENCES = Table(
    "preferences",
    "One row per pair of answers: what the votes made of it, kept or dropped with the reason.",
    (
        RUN_ID,
        _text("id", "The pair's id, which its judgements name."),
        PROMPT_ID,
        _few("kind", "first-last · parent (a round against its parent) · given (answers that came with the prompt) · "
             "infraction (an answer against its variant)."),
        _text("a_id", "`responses.id` of the earlier answer."),
        _text("b_id", "`responses.id` of the later one."),
        _real("p_b", "Soft label: probability that b is better, as `label_by` says; null without votes.", null=True),
        _int("votes", "Votes that count."),
        _int("votes_missing", "Votes that were asked for and do not count: failed, short of label mass, or without the "
             "other order."),
        _real("consistency", "Share of (judge, principle) that prefer the same answer in both orders; null: no such "
              "couple.", null=True),
        _real("agreement", "Share of (judge, principle) that prefer what the label prefers; null without votes.",
              null=True),
        _real("label_mass", "Mean label mass of the votes; null without votes.", null=True),
        _few("drop_reason", "tie · margin · identical · empty · cut · votes-missing · probe (of an infraction); null: "
             "kept.", null=True),
        _text("gold_id", "`responses.id` of the answer that people prefer; null: not known.", null=True),
        _real("p_mean", "The label that the plain mean of the votes makes; null without votes.", null=True),
        _few("label_by", "mean · majority · dawid-skene, then what else was applied: style, length, temperature, "
             "isotonic.", older="mean"),
        _int("ties", "Couples (judge, principle) that prefer neither.", older=0),
        Column("dissent", pa.list_(pa.string()), "`judge/principle` of the couples that prefer the other answer.",
               few=("dissent.list.element",), older=()),
        Column("kept", pa.bool_(), "True if `drop_reason` is null."),
        _text("chosen_id", "The preferred answer; of a tie or an unjudged pair, b."),
        _text("rejected_id", "The other one."),
        _real("p_chosen", "max(p_b, 1 − p_b); null without votes.", null=True),
        CREATED_AT,
    ),
)  # fmt: skip

FAILURES = Table(
    "failures",
    "One row per thing that did not work. A resumed run tries the retryable ones again; the old row stays.",
    (
        RUN_ID,
        _text("id", "Digest of what failed."),
        PROMPT_ID,
        _few("step", "Step of the chain: initial, critique-1, revision-1, vote, …"),
        _few("error", "Class of the error, or EmptyOutput, CritiqueRefused."),
        _text("message", "What it said."),
        Column("retryable", pa.bool_(), "True: trying again can help."),
        _few("judge", "Of a vote: whose it was, as `judgements.judge`; null: no vote.", null=True),
        CREATED_AT,
    ),
)

LABELS = Table(
    "labels",
    "One row per word of a person (or of a truth that is known) on a pair or a response, imported.",
    (
        RUN_ID,
        _text("id", "Digest of run, rater, target and principle; of equal ones the newest counts."),
        PROMPT_ID,
        _few("rater", "Who says it."),
        _real("value", "Of a pair: 0 prefers a, 1 prefers b, 0.5 neither. Of a response: any number, more is better."),
        _few("source", "The file that it came from."),
        _text("pair_id", "`preferences.id`; null: it is about a response.", null=True),
        _text("response_id", "`responses.id`; null: it is about a pair.", null=True),
        _few("principle_id", "The principle that it is about; null: about the whole.", null=True),
        CREATED_AT,
    ),
)

FIGURES = Table(
    "figures",
    "One row per number of a run's last audit.",
    (
        RUN_ID,
        _few("figure", "What was measured, e.g. position_bias; docs/judging.md lists them."),
        _few("judge", "Empty: all judges."),
        _few("principle_id", "Empty: all principles."),
        _few("subject", "What else it is about: a feature, a kind of pair, a round, a bin, another principle."),
        _real("value", "The number; null: there is nothing to measure it on, and `note` says why.", null=True),
        _real("low", "Lower end of the 95 % interval; null: it has none.", null=True),
        _real("high", "Upper end of the 95 % interval; null: it has none.", null=True),
        _int("n", "How many things it was measured on."),
        _text("note", "What a reader must know with it; may be empty."),
        CREATED_AT,
    ),
)

TABLES = {
    table.name: table for table in (PRINCIPLES, PROMPTS, RESPONSES, JUDGEMENTS, PREFERENCES, FAILURES, LABELS, FIGURES)
}


def markdown() -> str:
    """All tables as the section of docs/warehouse.md that a test compares with it."""
    lines: list[str] = []
    for table in TABLES.values():
        lines += [
            f"### {table.name}",
            "",
            table.doc,
            "",
            "| column | type | null | what it says |",
            "|---|---|---|---|",
        ]
        lines += [
            f"| `{c.name}` | {sql_type(c.type)} | {'yes' if c.null else ''} | {c.doc.replace('|', '/')} |"
            for c in table.columns
        ]
        lines.append("")
    return "\n".join(lines)


def sql_type(kind: pa.DataType) -> str:
    """The type's name in DuckDB."""
    if pa.types.is_list(kind):
        return f"{sql_type(kind.value_type)}[]"
    if pa.types.is_struct(kind):
        inner = ", ".join(f"{kind.field(i).name} {sql_type(kind.field(i).type)}" for i in range(kind.num_fields))
        return f"struct({inner})"
    if pa.types.is_timestamp(kind):
        return "timestamptz"
    return {"string": "varchar", "int32": "integer", "int64": "bigint", "double": "double", "bool": "boolean"}[
        str(kind)
    ]
