"""Records → Arrow and back, column by column, exactly: every text that UTF-8 holds, and None as null.

The tables are built from one Python list per column, never from a dict per row (measured in tests and docs).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from functools import partial
from itertools import accumulate, chain
from operator import attrgetter
from typing import Any, TypeVar

import pyarrow as pa

from constitution.errors import WarehouseError
from constitution.records import (
    Annotation,
    Constitution,
    Counterfactual,
    Criterion,
    Example,
    Exemplar,
    Failure,
    Figure,
    Judgement,
    Message,
    Messages,
    Preference,
    Principle,
    Profile,
    Prompt,
    ReferenceCheck,
    Response,
    Reward,
    Row,
    RubricItem,
    Sampling,
    Score,
    SkippedRow,
    Step,
    StoredClause,
    SystemPrompt,
    Turn,
)
from constitution.warehouse.columns import IDS, MESSAGES, Table
from constitution.warehouse.schema import SAMPLING, TABLES
from constitution.writing import author

Note = Annotation | Figure | Score | Counterfactual | StoredClause
Identified = (
    Prompt | Response | Judgement | Preference | Failure | Score | Reward | ReferenceCheck | RubricItem | Counterfactual
)
"""What is found by its id (lookup.KINDS)."""
N = TypeVar("N", Annotation, Figure, Score, Counterfactual, StoredClause)
R = TypeVar("R")

ROW_TABLES: dict[str, type[Row]] = {
    "responses": Response,
    "judgements": Judgement,
    "rubrics": RubricItem,
    "failures": Failure,
    "scores": Score,
    "reference_checks": ReferenceCheck,
    "rewards": Reward,
    "preferences": Preference,
}
"""The tables of rows that a run writes as it goes, in the order that they depend on each other: a label is made of the
votes that there are and of those that failed for good, a reward and the check of a reference of such readings, and
these may be of an item of a rubric, whose
failure NoRubric is made of its items. `scores` also has a scorecard's."""

MADE_TABLES: dict[str, type[Row]] = {"prompts": Turn, **ROW_TABLES}
"""Those with rows that a run writes as it goes: of `prompts` later turns, on which their other rows depend."""

NOTE_TABLES: dict[str, type[Note]] = {
    "annotations": Annotation,
    "figures": Figure,
    "counterfactuals": Counterfactual,
    "scores": Score,
    "clauses": StoredClause,
}
"""The tables of what is said of a run afterwards; scores are also of counterfactuals."""

BESIDE = ("source_id", "metadata", "cut_answer")
"""Columns of `prompts` that are kept with a prompt and decide nothing that is made of it."""

TABLE_OF: dict[type[Row | Note], str] = {kind: name for name, kind in (MADE_TABLES | NOTE_TABLES).items()}


def rows_to_arrow(table: str, rows: Sequence[Row | Note]) -> pa.Table:
    """`rows`, all of the table's class, as one Arrow table with the table's schema."""
    if table == "prompts":
        turns = [row for row in rows if isinstance(row, Turn)]
        return _prompts([row.prompt for row in turns], lambda name: [getattr(row, name) for row in turns])
    special: dict[str, Callable[[], pa.Array]] = {}
    if table == "responses":
        responses = [row for row in rows if isinstance(row, Response)]
        special["sampling"] = lambda: _samplings([row.sampling for row in responses])
        special["seen_ids"] = lambda: pa.array([list(row.seen_ids) or None for row in responses], IDS)
    if table == "annotations":
        special["rater_groups"] = lambda: pa.array(
            [list(row.rater_groups) or None for row in rows if isinstance(row, Annotation)], IDS
        )
    if table == "counterfactuals":
        special["messages"] = lambda: _message_lists([row.messages for row in rows if isinstance(row, Counterfactual)])
    return _build(TABLES[table], len(rows), lambda name: list(map(attrgetter(name), rows)), special)


def prompts_to_arrow(run_id: str, n: int, prompts: Sequence[Prompt]) -> pa.Table:
    """Slice `n` of the run's input."""
    places: dict[str, list[Any]] = {
        "run_id": [run_id] * len(prompts),
        "slice": [n] * len(prompts),
        "position": list(range(len(prompts))),
    }
    return _prompts(prompts, places.__getitem__)


def _prompts(prompts: Sequence[Prompt], place: Callable[[str], list[Any]]) -> pa.Table:
    """place: values of the columns that say whose they are and where."""
    columns: dict[str, Callable[[], list[Any]]] = {
        **{name: partial(place, name) for name in ("run_id", "slice", "position")},
        "turns": lambda: [len(prompt.messages) for prompt in prompts],
        "last_user": lambda: [_last_user(prompt.messages) for prompt in prompts],
        "tags": lambda: [list(prompt.tags) for prompt in prompts],
        "answers": lambda: [list(prompt.answers) for prompt in prompts],
        "golds": lambda: [list(prompt.golds) or None for prompt in prompts],
        "script": lambda: [list(prompt.script) or None for prompt in prompts],
        "rubric": lambda: [[asdict(each) for each in prompt.rubric] or None for prompt in prompts],
    }
    special = {"messages": lambda: _message_lists([prompt.messages for prompt in prompts])}
    return _build(
        TABLES["prompts"],
        len(prompts),
        lambda name: columns[name]() if name in columns else list(map(attrgetter(name), prompts)),
        special,
    )


def skipped_to_arrow(run_id: str, rows: Sequence[SkippedRow]) -> pa.Table:
    """Rows of the run's source that were skipped."""
    columns = {"run_id": [run_id] * len(rows)}
    return _build(
        TABLES["skipped"],
        len(rows),
        lambda name: columns[name] if name in columns else list(map(attrgetter(name), rows)),
        {},
    )


def principles_to_arrow(run_id: str, constitution: Constitution) -> pa.Table:
    """One row per principle, with the constitution's own fields on each."""
    whole = {
        "run_id": run_id,
        "constitution": constitution.name,
        "version": constitution.version,
        "constitution_digest": constitution.digest,
        "description": constitution.description,
        "constitution_source": constitution.source,
        "license": constitution.license,
        "language": constitution.language,
        "translation_of": constitution.translation_of,
        "shared_exemplars": [asdict(exemplar) for exemplar in constitution.exemplars],
        "system_prompts": [asdict(prompt) for prompt in constitution.system_prompts] or None,
        "profiles": [_profile_row(profile) for profile in constitution.profiles] or None,
    }
    own = [
        {
            **asdict(principle),
            **{name: getattr(principle, name) or None for name in _OPTIONAL},
            "clauses": list(principle.clauses) or None,
            "principle_id": principle.id,
            "digest": principle.digest,
            "position": position,
        }
        for position, principle in enumerate(constitution.principles)
    ]
    return _build(
        TABLES["principles"],
        len(own),
        lambda name: [whole[name]] * len(own) if name in whole else [row[name] for row in own],
        {},
    )


def rows_from_arrow(table: str, data: pa.Table) -> list[Row]:
    """The records of an Arrow table that has the table's columns (in any order, more are ignored)."""
    if table == "prompts":
        places = [data.column(name).to_pylist() for name in ("run_id", "slice", "position")]
        return list(map(Turn, *places, prompts_from_arrow(data)))
    return _records(ROW_TABLES[table], data)


def notes_from_arrow(kind: type[N], data: pa.Table) -> list[N]:
    """The annotations, figures, scores or counterfactuals of an Arrow table."""
    return _records(kind, data)


def one_from_arrow(table: str, data: pa.Table) -> Identified:
    """The first record of an Arrow table that has the table's columns."""
    if table == "prompts":
        return prompts_from_arrow(data.slice(0, 1))[0]
    kinds: dict[str, type[Any]] = {**ROW_TABLES, **NOTE_TABLES}
    record: Identified = _records(kinds[table], data.slice(0, 1))[0]
    return record


_READ: dict[str, Callable[[Any], Any]] = {
    "sampling": lambda value: Sampling(**{**value, "stop": tuple(value["stop"])}),
    "messages": lambda value: _messages(value),  # noqa: PLW0108  (which is defined below)
    "steps": lambda value: tuple(Step(**each) for each in value),
    **dict.fromkeys(
        ("read_first", "read_second", "dissent", "seen_ids", "from_ids", "grades", "judges", "rater_groups"), tuple
    ),
    **dict.fromkeys(("heading", "quoted_by", "misquoted_by"), tuple),
}
"""Fields that are not of the same type in Python as Arrow has them."""


def _records(kind: type[R], data: pa.Table) -> list[R]:
    columns = []
    for field in fields(kind):  # type: ignore[arg-type]
        values = data.column(field.name).to_pylist()
        read = _READ.get(field.name)
        nothing = () if field.name in ("seen_ids", "rater_groups") else None
        columns.append([nothing if value is None else read(value) for value in values] if read else values)
    return [kind(*values) for values in zip(*columns, strict=True)]


def prompts_from_arrow(data: pa.Table) -> list[Prompt]:
    names = (
        "messages",
        "source",
        "tags",
        "answers",
        "gold",
        "repeat",
        "golds",
        "script",
        "reference",
        "rubric",
        "turn",
        "conversation_id",
    )
    nothing = [None] * data.num_rows  # of a column that was not there when the part was written
    columns = [data.column(name).to_pylist() if name in data.column_names else nothing for name in (*names, *BESIDE)]
    prompts = []
    for messages, source, tags, answers, gold, repeat, golds, script, reference, rubric, turn, first, *beside in zip(
        *columns, strict=True
    ):
        prompt = Prompt(
            _messages(messages), source, tuple(tags), tuple(answers), gold, repeat, tuple(golds or ()), *beside
        )
        if reference is not None:
            prompt = replace(prompt, reference=reference)
        if rubric:
            prompt = replace(prompt, rubric=tuple(Criterion(**each) for each in rubric))
        later = (turn or 1) > 1
        if script or later:
            prompt = replace(prompt, script=tuple(script or ()), turn=turn, first_id=first if later else "")
        prompts.append(prompt)
    return prompts


def constitution_from_arrow(data: pa.Table) -> Constitution:
    """The constitution whose principles `data` holds, at least one."""
    rows = sorted(data.to_pylist(), key=lambda row: int(row["position"]))
    first = rows[0]
    return Constitution(
        name=first["constitution"],
        version=first["version"],
        description=first["description"],
        principles=tuple(_principle(row) for row in rows),
        exemplars=_exemplars(first["shared_exemplars"]),
        source=first["constitution_source"],
        license=first["license"],
        # Parts of before have no such columns.
        language=first.get("language") or "",
        translation_of=first.get("translation_of") or "",
        system_prompts=tuple(SystemPrompt(**value) for value in first.get("system_prompts") or ()),
        profiles=tuple(_profile(value) for value in first.get("profiles") or ()),
    )


def _profile_row(profile: Profile) -> dict[str, Any]:
    """`group` is a word of SQL."""
    weights = [{"principle_id": id, "weight": weight} for id, weight in profile.weights]
    return asdict(profile) | {"weights": weights, "rater_group": profile.group}


def _profile(value: Mapping[str, Any]) -> Profile:
    weights = tuple((each["principle_id"], each["weight"]) for each in value["weights"])
    return Profile(value["id"], weights, value["system_prompt"], value["description"], value["rater_group"])


def _build(
    table: Table, count: int, column: Callable[[str], list[Any]], special: Mapping[str, Callable[[], pa.Array]]
) -> pa.Table:
    arrays = []
    for field in table.schema:
        try:
            if field.name in special:
                arrays.append(special[field.name]())
            elif field.name == "created_at":
                arrays.append(pa.repeat(pa.scalar(datetime.now(UTC), field.type), count))
            elif field.name == "author":
                arrays.append(pa.repeat(author(), count))
            else:
                arrays.append(pa.array(column(field.name), field.type))
        except (UnicodeEncodeError, pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise WarehouseError(
                f"{table.name}.{field.name}: a value cannot be stored as {field.type}: {error}",
                hint="text must be valid Unicode (no lone surrogates) and numbers must fit the column",
            ) from None
    return pa.Table.from_arrays(arrays, schema=table.schema)


def _samplings(values: Sequence[Sampling | None]) -> pa.Array:
    """Few distinct objects, many rows: each object is converted once and then repeated."""
    places: dict[int, int] = {}
    distinct: list[dict[str, Any] | None] = []
    for value in values:
        if id(value) not in places:
            places[id(value)] = len(distinct)
            distinct.append(None if value is None else {**asdict(value), "stop": list(value.stop)})
    return pa.array(distinct, SAMPLING).take(pa.array([places[id(value)] for value in values], pa.int32()))


def _message_lists(conversations: Sequence[Messages]) -> pa.Array:
    flat = list(chain.from_iterable(conversations))
    offsets = pa.array([0, *accumulate(map(len, conversations))], pa.int32())
    roles = pa.array([message.role for message in flat], pa.string())
    contents = pa.array([message.content for message in flat], pa.string())
    values = pa.StructArray.from_arrays([roles, contents], fields=list(MESSAGES.value_type))
    return pa.ListArray.from_arrays(offsets, values, type=MESSAGES)


def _last_user(messages: Messages) -> str:
    return next((message.content for message in reversed(messages) if message.role == "user"), "")


def _messages(values: Iterable[Mapping[str, Any]]) -> Messages:
    return tuple(Message(value["role"], value["content"]) for value in values)


def _exemplars(values: Iterable[Mapping[str, Any]]) -> tuple[Exemplar, ...]:
    return tuple(Exemplar(**{**value, "messages": _messages(value["messages"])}) for value in values)


_OPTIONAL = ("aim", "against", "why", "quote")
"""A principle's texts that are null where there are none."""


def _principle(row: Mapping[str, Any]) -> Principle:
    return Principle(
        id=row["principle_id"],
        critique_request=row["critique_request"],
        revision_request=row["revision_request"],
        comparison_question=row["comparison_question"],
        weight=row["weight"],
        tags=tuple(row["tags"]),
        source=row["source"],
        exemplars=_exemplars(row["exemplars"]),
        examples=tuple(Example(**{**value, "messages": _messages(value["messages"])}) for value in row["examples"]),
        criteria=tuple(Criterion(**{**value, "kind": value.get("kind") or ""}) for value in row["criteria"]),
        **{name: row.get(name) or "" for name in _OPTIONAL},
        clauses=tuple(row.get("clauses") or ()),
    )
