"""What a run's rows add up to, and its parts asked in SQL past the views, which are for readers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import duckdb

from constitution.records import Usage
from constitution.sandbox import quiet
from constitution.warehouse import files, views
from constitution.warehouse.schema import TABLES

OFF_LABEL = 0.5
"""A vote with less of its probability on the labels is mostly about other words: read from the rest, it says little."""
OF_REWARDS = "scorecard = ''"
"""What tells the `scores` that the run read for its rewards, and of its references."""
_OF_REWARDS = (
    f"(SELECT count(*) FROM scores WHERE {OF_REWARDS}), "
    f"(SELECT count(*) FROM scores WHERE {OF_REWARDS} AND label_mass < {OFF_LABEL}), "
    "(SELECT count(*) FROM rewards), (SELECT count(*) FROM rewards WHERE reason = 'readings-missing'), "
    "(SELECT count(*) FROM rewards WHERE value IS NULL AND reason IS DISTINCT FROM 'readings-missing'), "
    "(SELECT count(*) FROM reference_checks), (SELECT count(*) FROM reference_checks WHERE drop_reason IS NOT NULL), "
    "(SELECT count(*) FROM rubrics), (SELECT count(*) FROM rubrics WHERE drop_reason IS NOT NULL)"
)


@dataclass(frozen=True, slots=True)
class Tally:
    """Sums over a run's rows."""

    COUNTS: ClassVar[tuple[str, ...]] = (
        "turns", "responses", "judgements", "off_label", "censored", "preferences", "kept", "votes_missing",
        "votes_spared", "failures", "scores", "scores_off_label", "rewards", "rewards_missing", "rewards_other",
        "reference_checks", "references_dropped", "rubrics", "rubrics_dropped",
    )  # fmt: skip

    usage: tuple[Usage, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)
    """Rows per table; `turns`: later turns that were asked; `off_label`: votes under OFF_LABEL; `censored`: votes of
    which a label was bounded and not read; `kept`: of the preferences, those that were not dropped; `votes_missing`,
    `votes_spared`: their sums; `scores`: readings for rewards, and `scores_off_label` those under OFF_LABEL;
    `rewards_missing`, `rewards_other`: rewards without a value for want of readings, and for other reasons;
    `references_dropped`: references of which nothing may be made; `rubrics_dropped`: items of prompts' rubrics that are
    not asked."""
    errors: dict[str, int] = field(default_factory=dict)
    """Failures per class of error."""
    answered: dict[int, int] = field(default_factory=dict)
    """Prompts per round that have its answer."""
    sampled: int = 0
    """Samples of all prompts."""
    rewarded: int = 0
    """Prompts that have a reward."""
    labelled: int = 0
    """Prompts that have a preference."""


def tally(root: Path, parts: Mapping[str, Sequence[Path]], slices: Sequence[Path] | None = None) -> Tally:
    """Sums of the parts of each table that a run writes. slices: of their prompts alone; None: of all that there are.
    Memory: the ids of these prompts, where they are told."""
    with over(root, parts) as connection:
        if slices is not None:
            _only(connection, parts, slices)
        usage = connection.execute(f"SELECT * EXCLUDE run_id FROM ({views.usage_query()})").fetchall()
        ask = connection.execute(
            "SELECT (SELECT count(*) FROM prompts), (SELECT count(*) FROM responses), (SELECT count(*) FROM "
            "judgements), (SELECT count(*) FROM "
            f"judgements WHERE label_mass < {OFF_LABEL}), (SELECT count(*) FROM judgements WHERE censored), "
            "(SELECT count(*) FROM preferences), (SELECT count(*) FROM preferences WHERE kept), "
            "(SELECT coalesce(sum(votes_missing), 0)::BIGINT FROM preferences), (SELECT coalesce(sum(votes_spared), "
            f"0)::BIGINT FROM preferences), (SELECT count(*) FROM failures), {_OF_REWARDS}"
        )
        counts = dict(zip(Tally.COUNTS, ask.fetchall()[0], strict=True))
        errors = connection.execute("SELECT error, count(*) FROM failures GROUP BY ALL").fetchall()
        # One row a prompt and round; to count distinct ids would take 500 MiB for a million prompts of five rounds.
        prompts = "SELECT round, count(*) FROM responses WHERE kind IN ('initial', 'revision') GROUP BY ALL"
        answered = connection.execute(prompts).fetchall()
        [sampled] = connection.execute("SELECT count(*) FROM responses WHERE kind = 'sample'").fetchall()[0]
        [rewarded] = connection.execute("SELECT count(DISTINCT prompt_id) FROM rewards").fetchall()[0]
        [labelled] = connection.execute("SELECT count(DISTINCT prompt_id) FROM preferences").fetchall()[0]
    return Tally(tuple(Usage(*row) for row in usage), counts, dict(errors), dict(answered), sampled, rewarded, labelled)


def _only(connection: duckdb.DuckDBPyConnection, parts: Iterable[str], slices: Sequence[Path]) -> None:
    """The connection's tables have the rows of the prompts of these slices alone, and of their later turns."""
    numbers = ", ".join(str(files.number_of(path)) for path in slices)
    ids = f"SELECT id FROM ({TABLES['prompts'].select(from_files(slices))})"
    connection.execute(
        f"CREATE TEMP TABLE own AS {ids} UNION ALL SELECT id FROM prompts WHERE slice IN ({numbers})"
        if slices
        else "CREATE TEMP TABLE own (id VARCHAR)"
    )
    for table in parts:
        id = "id" if table == "prompts" else "prompt_id"
        connection.execute(f"ALTER VIEW {table} RENAME TO all_{table}")
        connection.execute(f"CREATE VIEW {table} AS FROM all_{table} WHERE {id} IN (FROM own)")


@contextmanager
def over(root: Path, parts: Mapping[str, Sequence[Path]]) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection whose tables are these parts."""
    with quiet(duckdb.connect()) as connection:
        for table, paths in parts.items():
            # The file of no rows takes the place of a table that has no parts yet.
            rows = from_files([root / table / views.NO_ROWS, *paths])
            connection.execute(f"CREATE VIEW {table} AS {TABLES[table].select(rows)}")
        yield connection


def from_files(paths: Iterable[Path]) -> str:
    """A table expression over these files, with the rows' places in them."""
    names = ", ".join(views.quoted(views.as_pattern(path)) for path in paths)
    return f"read_parquet([{names}], hive_partitioning = false, union_by_name = true, file_row_number = true)"


def most_left_first(slices: Sequence[Path], ended: Sequence[Path]) -> list[Path]:
    """`slices`, those first of whose prompts most are not in `ended`, the parts of a table in which a prompt that was
    worked to its end has a row; of as many, in their order.

    So a run of a million prompts that was killed at half is at work within seconds: to pass over what is finished takes
    minutes, which it does while others are at work. It is only an order: ids are compared by 64 bits of them, and a
    file that cannot be read is left to the run itself.
    """
    if not ended:
        return list(slices)
    with quiet(duckdb.connect()) as connection:
        try:
            rows = connection.execute(
                "SELECT filename, count(*) FROM read_parquet(?, filename = true, hive_partitioning = false) WHERE "
                "hash(id) NOT IN (SELECT hash(prompt_id) FROM read_parquet(?, hive_partitioning = false)) GROUP BY ALL",
                [[views.as_pattern(path) for path in paths] for paths in (slices, ended)],
            ).fetchall()
        except duckdb.Error:
            return list(slices)
    left = {str(name): int(count) for name, count in rows}
    return sorted(slices, key=lambda path: -left.get(str(path.resolve()), 0))
