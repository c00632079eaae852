"""Groups against the truth (`make methods` is all of it): its arithmetic by hand, and a small run by brute force."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from benchmarks.methods import measure
from benchmarks.methods_figures import EXPECTED, GAP, RULES, Group, Pair, Result, note, pairs_of, tables, tau, verdicts
from constitution import query
from constitution.pocket.world import truth
from constitution.records import Response


def group(name: str, rewards: list[float], faults: list[int], texts: list[str] | None = None) -> Group:
    answers = tuple(
        Response(f"{name}{number}", "run", name, "sample", number, text, "ok", "m")
        for number, text in enumerate(texts or [f"text {number}" for number in range(len(rewards))])
    )
    return Group(answers, np.array(rewards), np.array(faults, float), np.arange(len(rewards), dtype=float), "harmless")


def result(*groups: Group) -> Result:
    return Result(groups, tuple(pair for each in groups for pair in pairs_of(each, 1)), 0, 10, 1.0, 1.0)


def test_pairs_are_right_tied_and_wrong_by_how_many_principles_their_answers_break() -> None:
    found = {pair.rule: pair for pair in pairs_of(group("p", [0.9, 0.7, 0.4, 0.8], [1, 0, 3, 1]), 1)}
    assert found["best-worst"] == Pair("p", "best-worst", 0.9 - 0.4, 2.0, True)
    assert found["best-second"] == Pair("p", "best-second", 0.9 - 0.8, 0.0, True)
    assert set(found) == set(RULES)
    wrong = group("q", [0.9, 0.1], [2, 1])
    assert [pair.saved for pair in pairs_of(wrong, 1)] == [-1.0] * 4
    of = result(wrong, group("r", [0.9, 0.8], [0, 1]))
    assert len(of.of("best-worst")) == 2
    assert [pair.prompt_id for pair in of.of("best-worst", GAP)] == ["q"]
    rows = next(table.rows for table in tables(of) if table.title.startswith("Pair rules"))
    assert [cell.split(" [")[0] for cell in rows[0]] == ["the worst", "2", "50.0%", "0.0%", "50.0%", "50.0%"]
    assert [cell.split(" [")[0] for cell in rows[4]][1:] == ["1", "0.0%", "0.0%", "100.0%", "100.0%"]


def test_an_answer_is_not_paired_with_its_own_text_or_where_all_rewards_are_the_same() -> None:
    assert not list(pairs_of(group("p", [0.5, 0.5], [0, 1], ["same", "same"]), 1))
    same = {pair.rule for pair in pairs_of(group("p", [0.5, 0.5], [0, 1]), 1)}
    assert "best-worst" not in same
    assert "best-low" not in same


def test_tau_counts_groups_in_which_both_orders_tell_answers_apart() -> None:
    first, flat = group("p", [0.1, 0.2, 0.3], [2, 1, 0]), group("q", [0.1, 0.2, 0.3], [1, 1, 1])
    for groups, order, expected in (([first, flat], "reward", 1.0), ([first], "shortest", -1.0)):
        value, count = tau(groups, order, "truth")
        assert value == pytest.approx(expected)
        assert count == 1


def test_promises_can_be_broken() -> None:
    backwards = result(
        *(group(f"p{number}", [0.1 * place for place in range(8)], [0] + [1] * 7) for number in range(4))
    )
    broken = {verdict.what for verdict in verdicts(backwards) if not verdict.passes}
    assert {f"best of {n} by reward breaks a principle: from {EXPECTED[n]:.0%}" for n in (1, 2, 8)} <= broken
    assert "best of 8: by reward less than by shortness" in broken
    assert "CPU seconds in all" in {each.what for each in verdicts(replace(backwards, cpu_s=1e4)) if not each.passes}


def test_a_small_run_is_measured_as_brute_force_does(tmp_path: Path) -> None:
    found = measure(tmp_path, ["prompts.limit=4", "sample.pocket.n=4", "sample.pocket.max_tokens=40"])
    rows = query(
        tmp_path,
        """SELECT r.prompt_id, r.text, w.value, p.last_user FROM responses r JOIN rewards w ON w.response_id = r.id
        JOIN prompts p ON p.id = r.prompt_id WHERE w.source = 'rubric'""",
    )
    assert len(rows) == 16
    groups: dict[str, list[tuple[float, bool]]] = {}
    for row in rows:
        groups.setdefault(row["prompt_id"], []).append((row["value"], bool(truth(row["last_user"], row["text"]))))
    for n in (1, 2, 4):
        shares = []
        for own in groups.values():
            best = [[broken for value, broken in few if value == max(few)[0]] for few in combinations(own, n)]
            shares += [sum(each) / len(each) for each in best]
        assert found.best("reward", n).value == pytest.approx(sum(shares) / len(shares))
    # An answer is sampled, read by seven criteria and scored once; equal texts are read once.
    assert found.calls == 4 * 4 * 9 - 8 * (16 - len({(row["prompt_id"], row["text"]) for row in rows}))
    assert len(list(tables(found))) == 5
    assert f"4 groups of 4 answers (0 more had one without text), {found.calls} calls" in note(found)
    assert (
        measure(tmp_path, ["prompts.limit=4", "sample.pocket.n=4", "sample.pocket.max_tokens=40"]).pairs == found.pairs
    )
