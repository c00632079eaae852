"""A finished run of any number of votes, its rows drawn rather than worked: for what is asked of a large warehouse.

    folder = make(Path("warehouse"), votes=10_000_000)

The run is prepared by the pipeline, so that its record, principles and templates are real; then its rows are drawn in
columns, a million votes in some ten seconds, and lie in the parts in which a run's flushes leave them. Two judges vote
on five principles in both orders: each pair has 20 votes. A vote's log-odds are the pair's own, the principle's, what
the judge gives to the first place and to length, and noise. One pair in 250 has gold.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.engine import write_prompts
from constitution.pipeline import Session, prepare
from constitution.prefer import Rules
from constitution.recipe import load_recipe
from constitution.records import Annotation
from constitution.warehouse import Warehouse, files
from constitution.warehouse.compact import write_table
from constitution.warehouse.schema import JUDGEMENTS, PREFERENCES, PROMPTS, RESPONSES, TABLES

ROOT = Path(__file__).parent.parent
PRINCIPLES = ("answers-the-request", "true-statements", "no-preaching", "honest-certainty", "plain-and-fitting")
JUDGES = {"hasty": (0.6, 0.2), "wordy": (0.1, 1.5)}
"""Log-odds that a judge gives: to the first place, and per unit of the difference in length."""
VOTES = len(PRINCIPLES) * len(JUDGES) * 2
"""To a pair."""
FLUSH = 20_000
"""Votes to a part: `output.flush_rows` of a recipe that does not say."""
GOLD = 250
RECIPE = f"""
name = "scale-votes"
constitution = "general@1.1.0"
[prompts]
path = "prompts.jsonl"
[model.policy]
engine = "fake"
{"".join(f'[model.jury.{judge}]{chr(10)}engine = "fake"{chr(10)}' for judge in JUDGES)}
[revise]
rounds = 1
[judge]
only = {list(PRINCIPLES)}
principles = "all"
"""


def make(folder: Path, votes: int) -> tuple[Path, str]:
    """The warehouse in `folder`, its parts not compacted, and the run's id. votes: rounded down to whole pairs."""
    write_prompts(folder / "prompts.jsonl", 20, words=(20, 60))
    (folder / "votes.toml").write_text(RECIPE)
    (folder / "principles").symlink_to(ROOT / "principles")
    root = folder / "warehouse"
    run_id = asyncio.run(_small(folder / "votes.toml", root))
    warehouse, pairs = Warehouse(root), votes // VOTES
    facts = {table: _facts(warehouse, table, run_id) for table in ("responses", "judgements")}
    for table in ("prompts", "responses", "judgements", "preferences"):
        files.remove_tree(warehouse.folder(table, run_id))
    labels: list[Annotation] = []
    for number, rows in enumerate(_chunks(run_id, facts, pairs)):
        for table, data in rows.items():
            with files.new_part(warehouse.folder(table, run_id)) as (_, file):
                write_table(TABLES[table], data, file)
        labels += _gold(run_id, rows["preferences"], number)
    warehouse.write_annotations(run_id, labels)
    run = warehouse.read_run(run_id)
    assert run is not None
    counts = {"prompts": pairs, "done": pairs, "responses": 2 * pairs, "judgements": VOTES * pairs}
    warehouse.write_run(replace(run, counts={**run.counts, **counts, "preferences": pairs, "failures": 0}))
    return root, run_id


async def _small(recipe: Path, root: Path) -> str:
    """A run of a few prompts; its id."""
    async with Session(prepare(load_recipe(recipe), recipe, root)) as session:
        await session.walk()
        return (await session.finish()).run_id


def _facts(warehouse: Warehouse, table: str, run_id: str) -> pa.Table:
    """The small run's rows: what the drawn ones take over of them is the same in every row of a kind."""
    import pyarrow.parquet as pq

    return pa.concat_tables([TABLES[table].conform(pq.read_table(path)) for path in warehouse.parts(table, run_id)])


def _chunks(run_id: str, facts: dict[str, pa.Table], pairs: int) -> Iterator[dict[str, pa.Table]]:
    """The rows of as many pairs as fill a part of votes, table by table, until there are `pairs`."""
    random = np.random.default_rng(1)
    words = pa.array([_word(random) for _ in range(4000)])
    for start in range(0, pairs, FLUSH // VOTES):
        yield _Draw(run_id, facts, min(FLUSH // VOTES, pairs - start), random, words).rows(start)


class _Draw:
    """The rows of `n` pairs."""

    def __init__(
        self, run_id: str, facts: dict[str, pa.Table], n: int, random: np.random.Generator, words: pa.Array
    ) -> None:
        self.run_id, self.facts, self.n, self.random, self.words = run_id, facts, n, random, words

    def rows(self, start: int) -> dict[str, pa.Table]:
        """In the order in which rows name each other. start: pairs before these."""
        n = self.n
        prompt, pair, a, b = (self._ids(n) for _ in range(4))
        lengths = self.random.lognormal(4.2, 0.5, (2, n)).astype(int) + 5
        votes, p_first, p_b, extra = self._votes(lengths)
        return {
            "prompts": self._prompts(prompt, start),
            "responses": self._responses(prompt, a, b, lengths),
            "judgements": self._judgements(prompt, pair, (a, b), votes, p_first),
            "preferences": self._preferences((prompt, pair, a, b), p_b, extra),
        }

    def _votes(self, lengths: Any) -> tuple[Any, Any, Any, dict[str, Any]]:
        """Places of the votes' pair, judge, principle and order; P(first); P(b) of the label; and what else the label
        says. Judges and principles weigh the same here."""
        n, shape = self.n, (self.n, len(JUDGES), len(PRINCIPLES), 2)
        place, judge, principle, order = (each.ravel() for each in np.indices(shape))
        longer = ((lengths[1] - lengths[0]) / lengths.sum(axis=0))[place]
        first, length = np.array(list(JUDGES.values())).T
        better = self.random.normal(0.5, 1.2, n)[place] + np.linspace(-0.4, 0.4, len(PRINCIPLES))[principle]
        log_odds = better + length[judge] * longer + self.random.normal(0, 0.8, len(place))
        p_first = 1 / (1 + np.exp(-(np.where(order == 0, -log_odds, log_odds) + first[judge])))
        p = np.where(order == 0, 1 - p_first, p_first).reshape(shape)
        couples = p.mean(axis=3).reshape(n, -1)
        p_b = couples.mean(axis=1)
        extra = {
            "consistency": ((p[..., 0] > 0.5) == (p[..., 1] > 0.5)).reshape(n, -1).mean(axis=1),
            "agreement": ((couples > 0.5) == (p_b > 0.5)[:, None]).mean(axis=1),
        }
        return (place, judge, principle, order), p_first, p_b, extra

    def _prompts(self, prompt: pa.Array, start: int) -> pa.Table:
        n, texts = self.n, self._texts(self.random.integers(20, 60, self.n))
        message = pa.StructArray.from_arrays([self._all("user", n), texts], names=["role", "content"])
        one = pa.array(np.arange(n + 1), pa.int32())
        none = pa.ListArray.from_arrays(pa.array(np.zeros(n + 1), pa.int32()), pa.array([], pa.string()))
        made = {
            "id": prompt,
            "slice": pa.array(np.full(n, start // n), pa.int32()),
            "position": pa.array(np.arange(n), pa.int32()),
            "messages": pa.ListArray.from_arrays(one, message),
            "turns": pa.array(np.ones(n), pa.int32()),
            "last_user": texts,
            "source": pa.array([f"prompts.jsonl#{place}" for place in range(start + 1, start + n + 1)]),
            "tags": none,
            "answers": none,
            "repeat": pa.array(np.zeros(n), pa.int32()),
        }
        return self._table(PROMPTS, made, n)

    def _responses(self, prompt: pa.Array, a: pa.Array, b: pa.Array, lengths: Any) -> pa.Table:
        n, known = self.n, self.facts["responses"]
        pieces = []
        for kind, ids, count in (("initial", a, lengths[0]), ("revision", b, lengths[1])):
            row = known.filter(pc.equal(known.column("kind"), kind)).slice(0, 1).to_pylist()[0]
            made = {"id": ids, "prompt_id": prompt, "text": self._texts(count)}
            if kind == "revision":
                made |= {"parent_id": a, "critique": self._texts(count // 2)}
                made["principle_id"] = pa.array(PRINCIPLES).take(pa.array(self.random.integers(0, 5, n)))
            pieces.append(self._table(RESPONSES, made, n, row))
        both = pa.concat_tables(pieces)
        return both.take(pa.array(np.arange(2 * n).reshape(2, n).T.ravel()))

    def _judgements(
        self, prompt: pa.Array, pair: pa.Array, answers: tuple[pa.Array, pa.Array], votes: Any, p_first: Any
    ) -> pa.Table:
        place, judge, principle, order = (pa.array(each) for each in votes)
        a, b = (answer.take(place) for answer in answers)
        a_first = pc.equal(order, 0)
        known = {row["principle_id"]: row["principle_digest"] for row in self.facts["judgements"].to_pylist()}
        count = len(p_first)
        made = {
            "id": self._ids(count),
            "prompt_id": prompt.take(place),
            "pair_id": pair.take(place),
            "first_id": pc.if_else(a_first, a, b),
            "second_id": pc.if_else(a_first, b, a),
            "judge": pa.array(list(JUDGES)).take(judge),
            "principle_id": pa.array(PRINCIPLES).take(principle),
            "principle_digest": pa.array([known[each] for each in PRINCIPLES]).take(principle),
            "p_first": pa.array(p_first),
            "label_mass": pa.array(1 - self.random.beta(1, 40, count)),
            "seed": pa.array(self.random.integers(0, 2**31, count)),
            "prompt_tokens": pa.array(self.random.integers(200, 900, count), pa.int32()),
        }
        return self._table(JUDGEMENTS, made, count, self.facts["judgements"].slice(0, 1).to_pylist()[0])

    def _preferences(self, ids: tuple[pa.Array, ...], p_b: Any, extra: dict[str, Any]) -> pa.Table:
        n, (prompt, pair, a, b) = self.n, ids
        b_better = pa.array(p_b >= 0.5)
        p_chosen = np.maximum(p_b, 1 - p_b)
        weak = p_chosen < 0.5 + Rules().margin
        dissent = pa.ListArray.from_arrays(pa.array(np.zeros(n + 1), pa.int32()), pa.array([], pa.string()))
        made = {
            **{name: pa.array(values) for name, values in extra.items()},
            "id": pair,
            "prompt_id": prompt,
            "a_id": a,
            "b_id": b,
            "p_b": pa.array(p_b),
            "p_mean": pa.array(p_b),
            "votes": pa.array(np.full(n, VOTES), pa.int32()),
            "label_mass": pa.array(np.full(n, 0.976)),
            "drop_reason": pc.if_else(pa.array(weak), pa.scalar("margin"), pa.scalar(None, pa.string())),
            "dissent": dissent,
            "kept": pa.array(~weak),
            "chosen_id": pc.if_else(b_better, b, a),
            "rejected_id": pc.if_else(b_better, a, b),
            "p_chosen": pa.array(p_chosen),
        }
        same = {"kind": "first-last", "votes_missing": 0, "label_by": "mean", "ties": 0}
        return self._table(PREFERENCES, made, n, same)

    def _table(self, table: Any, made: dict[str, pa.Array], n: int, same: dict[str, Any] | None = None) -> pa.Table:
        """made: the columns that differ from row to row. same: what the others are; null where it does not say."""
        known = {"created_at": self._now(n), "run_id": self._all(self.run_id, n), **made}
        arrays = [
            known[c.name] if c.name in known else pa.repeat(pa.scalar((same or {}).get(c.name), c.type), n)
            for c in table.columns
        ]
        return pa.Table.from_arrays([each.cast(c.type) for each, c in zip(arrays, table.columns, strict=True)],
                                    schema=table.schema)  # fmt: skip

    def _ids(self, count: int) -> pa.Array:
        """Random, 32 hex digits each."""
        data = self.random.bytes(16 * count).hex().encode()
        offsets = pa.py_buffer(np.arange(0, 32 * count + 1, 32, dtype=np.int32))
        return pa.StringArray.from_buffers(count, offsets, pa.py_buffer(data))

    def _texts(self, counts: Any) -> pa.Array:
        """Of so many words each; the words follow Zipf's law, roughly."""
        drawn = (len(self.words) ** self.random.random(int(counts.sum()))).astype(int) - 1
        offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
        return pc.binary_join(pa.ListArray.from_arrays(offsets, self.words.take(pa.array(drawn))), " ")

    def _all(self, text: str, count: int) -> pa.Array:
        return pa.repeat(pa.scalar(text), count)

    def _now(self, count: int) -> pa.Array:
        return pa.array(np.full(count, np.datetime64("now", "us"))).cast(pa.timestamp("us", tz="UTC"))


def _gold(run_id: str, preferences: pa.Table, number: int) -> Iterator[Annotation]:
    """A person's word on one pair in GOLD, who agrees with the label four times in five."""
    random = np.random.default_rng(number)
    columns = (preferences.column(name).to_pylist() for name in ("id", "prompt_id", "p_b"))
    for id, prompt, p_b in list(zip(*columns, strict=True))[::GOLD]:
        value = float((p_b > 0.5) == (random.random() < 0.8))
        yield Annotation(f"{id[:31]}g", run_id, prompt, rater="ann", value=value, source="drawn", pair_id=id)


def _word(random: np.random.Generator) -> str:
    return "".join(random.choice(list("abcdefghijklmnopqrstuvwxyz"), random.integers(2, 9)))
