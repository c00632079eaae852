"""Rubrics of references (`make methods`): rewards and shares by hand, and a small run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.methods import readers_of, rollouts_of
from benchmarks.methods_readers import CRITERIA, SCALAR, TRAINED, UNTRAINED, Promise, Read, area, pairs_right
from benchmarks.methods_readers import tables as reader_tables
from benchmarks.methods_readers import verdicts as reader_verdicts
from benchmarks.methods_references import (
    BEST,
    COMMONEST,
    EVERYTHING,
    KEPT,
    REVISED,
    Rollouts,
    rewards,
    tables,
    top_breaks,
    verdicts,
)
from constitution import query
from constitution.pocket.world import PRINCIPLES, Reading, truth

HELP, RUDE, BOAST = ("help",), ("help", "insult"), ("boast",)
SMALL = ["prompts.limit=2", "sample.pocket.n=3", "sample.pocket.max_tokens=40"]
BREAKS = {HELP: frozenset(), RUDE: frozenset({"rude"}), BOAST: frozenset({"boast"})}


def rollouts(name: str, *kinds: tuple[str, ...], revised: frozenset[str] = frozenset()) -> Rollouts:
    readings = tuple(Reading(BREAKS[kind], True, 0, kind) for kind in kinds)
    found = Rollouts(name, readings, np.zeros((len(kinds), len(PRINCIPLES))), revised)
    return Rollouts(name, readings, 0.1 + 0.8 * found.true, revised)


def share(group: Rollouts, reference: str, demanded: str, judge: str = "grammar") -> float | None:
    return top_breaks([group], reference, demanded, judge).value


def test_a_rubric_of_the_commonest_answer_puts_its_fault_on_top() -> None:
    group = rollouts("p", RUDE, HELP, RUDE, BOAST)
    assert share(group, BEST, EVERYTHING) == share(group, REVISED, EVERYTHING) == 0.0
    assert share(group, COMMONEST, EVERYTHING) == 1.0
    # What a rude reference keeps is all but politeness: rude answers and the free one are equal, two of three.
    assert share(group, COMMONEST, KEPT) == pytest.approx(2 / 3)
    # A judge in doubt is so about all criteria that are asked: nothing else breaks the tie here.
    assert share(group, COMMONEST, KEPT, "scorer") == pytest.approx(2 / 3)
    worse = rollouts("q", RUDE, HELP, revised=frozenset({"rude"}))
    assert share(worse, REVISED, EVERYTHING) == 1.0
    assert share(worse, REVISED, KEPT) == 0.5


def test_rewards_by_hand() -> None:
    faults = np.array([[0.0] * 7, [1.0, 1.0, 0, 0, 0, 0, 0]])
    assert rewards(frozenset(), faults, EVERYTHING) == pytest.approx([1.0, 5 / 7])
    assert rewards(frozenset(PRINCIPLES[:1]), faults, EVERYTHING) == pytest.approx([6 / 7, 6 / 7])
    assert rewards(frozenset(PRINCIPLES[:1]), faults, KEPT) == pytest.approx([1.0, 5 / 6])
    assert rewards(frozenset(PRINCIPLES), faults, KEPT) == pytest.approx([0.0, 0.0])  # no criterion is left


def test_promises_of_references_can_be_broken() -> None:
    broken = {each.what for each in verdicts([rollouts("p", RUDE, RUDE), rollouts("q", BOAST)]) if not each.passes}
    assert f"top by {EVERYTHING} of {BEST} breaks a principle: from 19%" in broken
    assert f"top by {EVERYTHING} of {COMMONEST} breaks a principle: from 75%" in broken
    right = verdicts([rollouts("p", RUDE, HELP), rollouts("q", HELP)])
    assert all(each.passes for each in right if "no less" in each.what)


def test_readers_by_hand() -> None:
    reads = [Read("p", 3, 0), Read("p", 1, 1), Read("p", 1, 2), Read("q", 0, 0), Read("q", 5, 0)]
    assert area(reads).value == pytest.approx((2 + 0 + 2) / 6)
    share, pairs = pairs_right(reads)
    assert share.value == pytest.approx((1 + 1 + 0.5) / 3)
    assert pairs == 3
    [table] = reader_tables({"a": reads})
    assert [cell.split(" [")[0] for cell in table.rows[0]] == ["a", "5", "66.7%", "83.3%", "3"]
    promises = {"a": Promise(pairs=0.9, auc=0.6, chance=True)}
    assert [each.passes for each in reader_verdicts({"a": reads}, promises)] == [False, True, False]


def test_a_small_run_has_its_references_read_by_the_grammar(tmp_path: Path) -> None:
    found = rollouts_of(tmp_path, SMALL)
    assert len(found) == 2
    rows = query(
        tmp_path,
        """SELECT r.run_id, r.prompt_id, r.text, r.kind, r.round, p.last_user, p.position FROM responses r
        JOIN prompts p ON p.run_id = r.run_id AND p.id = r.prompt_id ORDER BY r.round""",
    )
    samples = [row for row in rows if row["kind"] == "sample"]
    for group in found:
        own = [row for row in samples if row["prompt_id"] == group.prompt_id]
        assert [reading.broken for reading in group.readings] == [truth(r["last_user"], r["text"]) for r in own]
        [last] = [
            r for r in rows if r["kind"] == "revision" and r["round"] == 2 and r["position"] == own[0]["position"]
        ]
        assert group.revised == truth(last["last_user"], last["text"])
        [scores] = query(tmp_path, f"SELECT avg(p_yes) AS mean FROM scores WHERE prompt_id = '{group.prompt_id}'")
        assert group.judged.mean() == pytest.approx(scores["mean"])  # each criterion asks for a fault
    assert len(next(iter(tables(found))).rows) == 6
    readers = readers_of(tmp_path, SMALL, ["--steps=2", "--answers=8", "--measured=20"])
    assert {name: len(reads) for name, reads in readers.items()} == {CRITERIA: 6, SCALAR: 6, TRAINED: 8, UNTRAINED: 8}
    kept = {(row["prompt_id"], len(truth(row["last_user"], row["text"]) or ())) for row in samples}
    assert {(read.prompt_id, read.faults) for read in readers[SCALAR]} == kept
    [raw] = query(tmp_path, "SELECT avg(raw) AS mean FROM rewards WHERE source = 'model'")
    assert sum(read.score for read in readers[SCALAR]) / 6 == pytest.approx(raw["mean"])
