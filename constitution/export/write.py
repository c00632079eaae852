"""The split, and the rows of the files: streamed, in the order of the run's prompts, the same bytes each time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from constitution import sandbox
from constitution.errors import WarehouseError
from constitution.export.files import GROUP_ROWS, Group, files_of, opened
from constitution.export.formats import Field
from constitution.export.labelled import weighed
from constitution.export.outcome import DataFile, sha256
from constitution.export.settings import Settings
from constitution.export.work import Work
from constitution.principles.selection import select
from constitution.records import NO_RUBRIC, Constitution, Run
from constitution.warehouse.columns import sql_type

_MESSAGE = [pa.field(name, pa.string(), nullable=False) for name in ("role", "content")]
_ITEM = [("question", pa.string()), ("good", pa.string()), ("weight", pa.float64()), ("kind", pa.string())]
_GROUP = [("source", pa.string()), ("mean", pa.float64()), ("std", pa.float64()), ("size", pa.int32())]
_EXTRA = [
    *(("index", pa.int64()), ("split", pa.string()), ("prompt_id", pa.string())),
    *(("prompt", pa.list_(pa.struct(_MESSAGE))), ("asked", pa.string())),
]
_CRITERION = [("principle_id", pa.string()), ("question", pa.string()), ("good", pa.string()), ("weight", pa.float64())]
TYPES = {
    "text": pa.string(),
    "texts": pa.list_(pa.string()),
    "number": pa.float64(),
    "count": pa.int32(),
    "flag": pa.bool_(),
    "numbers": pa.list_(pa.float64()),
    "flags": pa.list_(pa.bool_()),
    "messages": pa.list_(pa.struct(_MESSAGE)),
    "message": pa.struct(_MESSAGE),
    "learnt": pa.list_(pa.struct([*_MESSAGE, ("training", pa.bool_())])),
    "weighted": pa.list_(pa.struct([*_MESSAGE, ("weight", pa.int32())])),
    "input": pa.struct([("messages", pa.list_(pa.struct(_MESSAGE)))]),
    "graded": pa.struct([("style", pa.string()), ("ground_truth", pa.string())]),
    "extra": pa.struct(_EXTRA),
    "thoughts": pa.list_(pa.struct([(name, pa.string()) for name in ("role", "content", "reasoning_content")])),
    "principles": pa.list_(pa.struct([("id", pa.string()), ("question", pa.string()), ("weight", pa.float64())])),
    "criteria": pa.list_(pa.struct(_CRITERION)),
    "rubric": pa.list_(pa.struct(_ITEM)),
    "groups": pa.list_(pa.struct(_GROUP)),
}
"""The columns' types. `thoughts`: messages, of which an answer's also has what the model thought before it."""

_WHITE = "".join(filter(str.isspace, map(chr, range(0x3001))))
"""White space, as Python has it."""

# A conversation goes as a whole to one side, by a number in [0, 1) that depends on the seed and on it alone: so that
# exports of several runs can be put together.
_KEPT = """
CREATE TABLE export.kept AS
WITH split AS (
    SELECT
        id, prompt_id, place, p,
        CASE WHEN md5_number_lower(concat({seed}, ' split ', conversation)) / 18446744073709551616 < {test}
             THEN 'test' ELSE 'train' END AS split
    FROM export.alive
),
sharded AS (SELECT *, {shard} AS shard FROM split),
meant AS (
    SELECT *, least(round(avg(1 - p) OVER (PARTITION BY shard), 2), 0.49) AS epsilon FROM sharded
)
SELECT id, prompt_id, place, split, {epsilon} AS epsilon, {config} AS config FROM meant
"""

# Which answer of a pair is chosen: the preferred one, or, with labels = sampled, drawn by its probability. The draw
# depends on the seed and the pair alone.
_ROWS = """
CREATE VIEW export.rows AS
SELECT
    c.*, t.messages, t.source_id, t.metadata, t.answer, t.other, t.answer_thought, k.split, k.config, k.epsilon,
    {sampled} AND md5_number_lower(concat({seed}, ' label ', c.id)) / 18446744073709551616 >= c.p AS turned,
    CASE WHEN turned THEN t.other ELSE t.answer END AS won,
    CASE WHEN turned THEN t.answer ELSE t.other END AS lost,
    CASE WHEN turned THEN t.other_thought ELSE t.answer_thought END AS won_thought,
    CASE WHEN turned THEN t.answer_thought ELSE t.other_thought END AS lost_thought,
    CASE WHEN turned THEN c.other_id ELSE c.answer_id END AS won_id,
    CASE WHEN turned THEN c.answer_id ELSE c.other_id END AS lost_id,
    CASE WHEN turned THEN 1 - c.p ELSE c.p END AS p_won,
    CASE WHEN turned THEN {other_reward} ELSE {answer_reward} END AS won_reward,
    CASE WHEN turned THEN {answer_reward} ELSE {other_reward} END AS lost_reward
FROM export.texts AS t JOIN export.alive AS c USING (id) JOIN export.kept AS k USING (id)
"""
_OWN_RUBRIC = f"""(
    SELECT list({{'question': i.question, 'good': i.good, 'weight': i.weight, 'kind': i.kind}} ORDER BY i.number)
    FROM (FROM rubrics ANTI JOIN (SELECT prompt_id FROM failures WHERE error = '{NO_RUBRIC}') USING (prompt_id)) AS i
    WHERE i.prompt_id = t.prompt_id AND i.drop_reason IS NULL
)"""
_REFERENCE = "(SELECT any_value(k.text) FROM checked_references AS k WHERE k.prompt_id = t.prompt_id AND k.kept)"
_NULL = "NULL::DOUBLE"
_REWARDS = {
    "pair": ("c.reward_chosen", "c.reward_rejected"),
    "answer": ("c.reward", _NULL),
    "prompt": (_NULL, _NULL),
}
"""By unit, SQL of the reward of the answer to be learnt, and of the other."""


def split(work: Work) -> list[Group]:
    """Makes export.kept: id, prompt_id, place, split, config, epsilon of what is alive; and of it the view
    export.rows, what the columns are made of. The groups in the order of the rows."""
    settings = work.settings
    sharded = settings.spec.shards
    statement = _KEPT.format(
        seed=settings.seed,
        test=repr(settings.test),
        shard=f"ntile({settings.shards}) OVER (ORDER BY 1 - p, place)" if sharded else "0",
        epsilon="epsilon" if sharded else "NULL::DOUBLE",
        config="format('eps-{:.2f}', epsilon)" if sharded else "'default'",
    )
    work.connection.execute(statement)
    answer, other = _REWARDS[settings.spec.unit] if work.source else _REWARDS["prompt"]
    sampled = "true" if settings.labels == "sampled" else "false"
    work.connection.execute(_ROWS.format(sampled=sampled, seed=settings.seed, answer_reward=answer, other_reward=other))
    counted = work.connection.execute(
        "SELECT config, split, count(*), any_value(epsilon) FROM export.kept GROUP BY config, split "
        "ORDER BY config, split DESC"
    )
    return [Group(*row) for row in counted.fetchall()]


def fields(settings: Settings, run: Run) -> tuple[Field, ...]:
    """The layout's of the format, with what the run keeps with its prompts; with reasoning, those that hold an answer
    have it as `reasoning_content` of their messages, the key by which chat templates know it. It is null in all other
    turns, and where none is known."""
    thinking = settings.with_reasoning
    return tuple(
        field._replace(type="thoughts", doc=f"{field.doc[:-1]}, with `reasoning_content`.")
        if thinking and field.thinks
        else field
        for field in settings.task.of(settings.spec.of_run(run))
    )


def constants(run: Run, constitution: Constitution, settings: Settings) -> dict[str, Any]:
    """The columns that are the same in all rows."""
    constitution = weighed(constitution, settings.profile)
    chosen = select(constitution.principles, settings.principles, f"--principles ({constitution.label})")
    return {
        "run_id": run.run_id,
        "constitution": constitution.label,
        "reward_source": settings.source_of(run),
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
        "rubric": [
            {"question": each.question, "good": each.good, "weight": principle.weight * each.weight, "kind": each.kind}
            for principle in chosen
            for each in principle.criteria
        ],
    }


def _literal(items: Sequence[Mapping[str, Any]]) -> str:
    """SQL of a rubric that all rows have."""
    return f"{sandbox.quoted(_json(items))}::JSON::{sql_type(TYPES['rubric'])}"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def write(work: Work, folder: Path, groups: list[Group], constitution: Constitution) -> list[DataFile]:
    """The rows of export.kept as files under `folder`.

    Raises WarehouseError where a row's prompt or answer is not in the warehouse, or is there twice.
    """
    columns = fields(work.settings, work.run)
    types = {field.name: TYPES[field.type] for field in columns}
    schema = pa.schema(list(types.items()))  # without metadata, as `datasets` reads it
    always = constants(work.run, constitution, work.settings)
    files = [file for group in groups for file in files_of(group, work.settings)]
    blocks = _blocks(
        work.batches(_query(work.run, work.settings, columns, always)),
        [min(GROUP_ROWS, file.rows - start) for file in files for start in range(0, file.rows, GROUP_ROWS)],
    )
    for file in files:
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        with opened(path, schema, work.settings) as put:
            for _ in range(0, file.rows, GROUP_ROWS):
                block = next(blocks)
                arrays = [
                    block.column(field.name).cast(types[field.name])
                    if field.sql
                    else pa.chunked_array([pa.repeat(pa.scalar(always[field.name], types[field.name]), len(block))])
                    for field in columns
                ]
                # One chunk a column: the pages of a file must not depend on how the rows came.
                put(pa.Table.from_arrays(arrays, schema=schema).combine_chunks())
    if next(blocks, None) is not None:
        raise WarehouseError("some answers are in the warehouse twice", hint="restore the run's files")
    return [replace(file, sha256=sha256(folder / file.path)) for file in files]


def _query(run: Run, settings: Settings, columns: Sequence[Field], always: Mapping[str, Any]) -> str:
    """The rows by config, split (train first) and place, with all columns but the constants. always: `constants`."""
    thinking = settings.with_reasoning

    def message(text: str) -> str:
        thought = f", 'reasoning_content': t.{text}_thought" if thinking else ""
        return f"[{{'role': 'assistant', 'content': t.{text}{thought}}}]"

    rubric = _OWN_RUBRIC if run.recipe.get("rubric") else _literal(always["rubric"])
    asked = [f"'{key}': {sandbox.quoted(_json(always[key]))}::JSON" for key in ("principles", "criteria")]
    unthought = "{'role': m.role, 'content': m.content, 'reasoning_content': NULL::VARCHAR}"
    values = {
        "conversation": f"list_transform(t.messages, lambda m: {unthought})" if thinking else "t.messages",
        **{text: message(text) for text in ("answer", "won", "lost")},
        "clip": repr(settings.clip),
        "good": repr(settings.good),
        "white": sandbox.quoted(_WHITE),
        "rubric": rubric,
        "reference": _REFERENCE if run.recipe.get("reference") else "NULL::VARCHAR",
        "margin": settings.margin_of(run),
        "constitution": sandbox.quoted(always["constitution"]),
        "asked": f"to_json({{'rubric': {rubric}, {', '.join(asked)}}})::VARCHAR",
    }
    expressions = [f"{field.sql.format(**values)} AS {field.name}" for field in columns if field.sql]
    return f"SELECT {', '.join(expressions)} FROM export.rows AS t ORDER BY t.config, t.split DESC, t.place"


def _blocks(batches: Iterator[pa.RecordBatch], sizes: Sequence[int]) -> Iterator[pa.Table]:
    """The rows in tables of these sizes, one after the other, and then what is left, if anything is."""
    held: list[pa.RecordBatch] = []
    for size in sizes:
        while sum(batch.num_rows for batch in held) < size:
            if (batch := next(batches, None)) is None:
                raise WarehouseError(
                    "some rows' prompts or answers are not in the warehouse",
                    hint="was the run compacted just now? then export again; else restore its files",
                )
            held.append(batch)
        table = pa.Table.from_batches(held)
        yield table.slice(0, size)
        held = table.slice(size).to_batches()
    yield from (pa.Table.from_batches([batch]) for batch in (*held, *batches) if batch.num_rows)
