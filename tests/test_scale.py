"""A run's memory and CPU time do not grow with its size, and a warehouse of many votes answers as plain DuckDB does
(`make bench-scale` is the long version)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.scale import stored_wrong
from benchmarks.scale_report import judged, run_tables, run_verdicts, votes_verdicts
from benchmarks.scale_rows import VOTES, make
from benchmarks.scale_run import apart
from benchmarks.scale_votes import QUESTIONS, beside, one_file
from constitution.warehouse import ask, connect


def test_memory_and_time_of_a_run_do_not_grow_with_its_size(tmp_path: Path) -> None:
    # Parquet's and DuckDB's own pools fill in the first ten thousand rows or so.
    small, large = apart(tmp_path / "small", 2000), apart(tmp_path / "large", 6000)
    assert large["peak_mib"] < 1.2 * small["peak_mib"]
    marks = large["marks"]
    early, late = (marks[end]["cpu_seconds"] - marks[end - 3]["cpu_seconds"] for end in (3, 9))
    assert late < 1.6 * early
    assert stored_wrong(tmp_path / "large" / "warehouse", 6000) == 0
    assert stored_wrong(tmp_path / "large" / "warehouse", 6001) == 1


def test_drawn_votes_are_a_run_that_can_be_asked_and_answers_that_differ_are_no_measurement(tmp_path: Path) -> None:
    root, run_id = make(tmp_path, 50 * VOTES)
    plain = one_file(root, run_id, tmp_path / "plain")
    [(pair,)] = plain.sql("SELECT min(id) FROM preferences").fetchall()
    with connect(root) as ours:
        [counts] = ask(ours, "SELECT count(*), count(DISTINCT pair_id), any_value(p_ba) IS NULL FROM couples").rows
        assert counts == (50 * VOTES // 2, 50, False)
        for what in ("votes by judge and principle", "votes of one pair", "provenance of one preference"):
            found = beside(ours, plain, QUESTIONS[what].format(run=run_id, pair=pair))
            assert found["ours"]["cpu"] > 0 < found["plain"]["cpu"]
        plain.execute("CREATE TABLE few AS SELECT * FROM judgements LIMIT 7")
        plain.execute("CREATE OR REPLACE VIEW judgements AS FROM few")
        with pytest.raises(SystemExit, match="not the same rows"):
            beside(ours, plain, "SELECT count(*) FROM judgements")
    plain.close()


def test_a_broken_promise_is_a_fail() -> None:
    marks = [{"done": n, "seconds": n, "cpu_seconds": n, "rss_mib": 200.0, "left": 10 - n} for n in range(1, 11)]
    run: dict[str, Any] = {"prompts": 1000, "prepared": [1, 1], "seconds": 10, "cpu_seconds": 10, "at_work": [3, 3]}
    run |= {"peak_mib": 250.0, "marks": marks}
    found = {"small": run, "large": run, "resumed": run, "wrong": 0}
    assert all(line.startswith("- PASS") for line in judged(list(run_verdicts(found))))
    assert run_tables(found)
    for broken in ({"large": {**run, "peak_mib": 326.0}}, {"wrong": 1}, {"resumed": {**run, "at_work": [40, 40]}}):
        lines = judged(list(run_verdicts({**found, **broken})))
        assert sum(line.startswith("- FAIL") for line in lines) == 1
    question = {"what": "q", "ours": {"cpu": 3.1}, "plain": {"cpu": 1.0}}
    audit = {"cpu": 1, "plain_cpu": 1, "peak_mib": 1, "bound_mib": 2}
    lines = judged(list(votes_verdicts({"layouts": {"compacted": [question]}, "audit": audit})))
    assert [line[:6] for line in lines] == ["- FAIL", "- PASS", "- PASS"]
