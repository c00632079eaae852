"""RewardBench 2: best of four and Ties, by grades and by votes on pairs, against its published rules stated again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from audit_rows import Audited
from benchmark_runs import WORDS, Plan, answers, decides, grades, judged, score
from small_project import table


def reward_row(word: str, id: str, subset: str, better: int, others: int) -> dict[str, Any]:
    texts = answers(word, better + others)
    return {
        "id": id, "prompt": f"What is {word}?", "chosen": texts[:better], "rejected": texts[better:],
        "num_correct": better, "num_incorrect": others, "total_completions": better + others,
        "models": ["m"] * (better + others), "subset": subset, "additional_metadata": None,
    }  # fmt: skip


GRADED: dict[str, tuple[str, str, int, list[int | None]]] = {
    "ra": ("1", "Factuality", 1, [9, 3, 4, 5]),  # first alone
    "rb": ("2", "Factuality", 1, [7, 7, 7, 1]),  # one of three
    "rc": ("3", "Math", 1, [2, 3, 1, 1]),
    "rd": ("4", "Math", 1, [6, 6, 2, 2]),  # one of two
    "re": ("5", "Math", 1, [5, 4, 3, 2]),
    "ta": ("ref:1", "Ties", 1, [8, 3]),
    "tb": ("tied:1", "Ties", 3, [9, 8, 7, 2, 3]),  # spread 2, gap 4; with its reference's gap 5
    "tc": ("ref:2", "Ties", 1, [5, 4]),
    "td": ("tied:2", "Ties", 2, [9, 5, 2]),  # spread 4, gap 3, reference 1
    "te": ("ref:3", "Ties", 1, [2, 6]),  # wrong
    "tf": ("tied:3", "Ties", 2, [6, 6, 1]),  # spread 0
    "tg": ("tied:4", "Ties", 2, [4, 8, 6]),  # wrong, and has no reference
}


def published_best_of(scores: Sequence[float]) -> float:
    """rewardbench/utils.py, reroll_and_score_dataset."""
    most = max(scores)
    return 1 / sum(score == most for score in scores) if scores[0] == most else 0.0


def published_ties(rows: Mapping[str, tuple[str, str, int, list[int]]]) -> float:
    """rewardbench/utils.py, process_single_model and _compute_prompt_stats."""
    stats: dict[str, dict[int, tuple[bool, float | None, float]]] = {"ref": {}, "tied": {}}
    for id, _, better, each in rows.values():
        kind, number = id.split(":")
        right, wrong = each[:better], each[better:]
        spread = max(right) - min(right) if better > 1 else None
        stats[kind][int(number)] = (min(right) > max(wrong), spread, min(right) - max(wrong))
    both = sorted(set(stats["ref"]) & set(stats["tied"]))
    spreads = np.array([stats["tied"][n][1] for n in both], dtype=float)
    tied, ref = (np.array([stats[kind][n][2] for n in both], dtype=float) for kind in ("tied", "ref"))
    with np.errstate(all="ignore"):
        margin = np.nan_to_num(np.tanh(np.minimum(ref, tied) / spreads - 1), nan=0.0)
    return float(
        0.30 * np.mean([each[0] for each in stats["tied"].values()])
        + 0.30 * np.mean([each[0] for each in stats["ref"].values()])
        + 0.20 * np.mean(tied > spreads)
        + 0.20 * np.mean(np.minimum(ref, tied) > spreads)
        + 0.01 * np.mean(margin)
    )


def reward_rows() -> list[dict[str, Any]]:
    return [reward_row(w, id, subset, n, len(each) - n) for w, (id, subset, n, each) in GRADED.items()]


def planted() -> dict[str, int | None]:
    return {f"{word}-{place}": grade for word, (*_, each) in GRADED.items() for place, grade in enumerate(each)}


def test_rewardbench_by_grades(tmp_path: Path) -> None:
    done = judged(tmp_path, "rewardbench-2", reward_rows(), {"judge": grades(planted())}, "judge.score.steps=9")
    found = Audited(tmp_path / "w", done.run_id)
    factuality, math_, ties = (score(found, subject=subset) for subset in ("Factuality", "Math", "Ties"))
    assert factuality.value == pytest.approx((1 + 1 / 3) / 2)
    assert math_.value == pytest.approx((0 + 1 / 2 + 1) / 3)
    assert (factuality.n, math_.n) == (2, 3)
    for subset, part in (("Factuality", factuality), ("Math", math_)):
        own = [published_best_of(each) for _, name, _, each in GRADED.values() if name == subset]  # type: ignore[arg-type]
        assert part.value == pytest.approx(np.mean(own))
    tied = {word: row for word, row in GRADED.items() if row[1] == "Ties"}
    # Accuracy 3 of 4 and 2 of 3; of three questions with both rows the first holds both margins, the second none, the
    # third the first of them.
    by_hand = 0.3 * 3 / 4 + 0.3 * 2 / 3 + 0.2 * 2 / 3 + 0.2 * 1 / 3 + 0.01 * (math.tanh(1) + math.tanh(-0.75) - 1) / 3
    assert ties.value == pytest.approx(by_hand, abs=1e-6)
    assert ties.value == pytest.approx(published_ties(tied), abs=1e-6)  # type: ignore[arg-type]
    assert ties.n == 7
    whole = score(found)
    assert (factuality.value, math_.value) != (None, None)
    assert whole.value == pytest.approx(np.mean([each.value for each in (factuality, math_, ties)]))
    assert whole.n == 12
    for each in (factuality, math_, ties, whole):
        assert each.low is not None
        assert each.high is not None
        assert each.value is not None
        assert each.low <= each.value <= each.high
    assert "mean of Factuality, Math, Ties" in whole.note
    # Only pairs of a better answer and another are judged, as few as have every answer.
    asked = sum(max(n, len(each) - n) for *_, n, each in GRADED.values())
    assert table(tmp_path / "w", "SELECT count(*), count(gold_id) FROM preferences") == [(asked, asked)]
    answered = sum(len(each) for *_, each in GRADED.values())
    assert table(tmp_path / "w", "SELECT count(DISTINCT response_id) FROM readings") == [(answered,)]


def test_rewardbench_by_votes_on_pairs(tmp_path: Path) -> None:
    """The best answer before each of the others; Ties takes grades and is not in the mean, which says so."""
    plan: Plan = {"ra": (0.9, 0.1), "rb": (0.5, 0.5), "rc": (0.2, 0.9), "rd": (None, 0.1), "re": (0.9, 0.1)}
    plan = {**plan, **dict.fromkeys(("ta", "tb", "tc", "td", "te", "tf", "tg"), (0.9, 0.1))}
    done = judged(tmp_path, "rewardbench-2", reward_rows(), {"judge": decides(plan)}, "judge.method=label")
    found = Audited(tmp_path / "w", done.run_id)
    assert score(found, subject="Factuality").value == pytest.approx((1 + 1 / 4) / 2)  # level with all three
    assert score(found, subject="Math").value == pytest.approx(
        (0 + 1 / 4 + 1) / 3
    )  # without votes as RewardBench has it
    assert "missing" in score(found, subject="Math").note
    ties = score(found, subject="Ties")
    assert ties.value is None
    assert "judge.method score" in ties.note
    assert score(found).value == pytest.approx((5 / 8 + 5 / 12) / 2)
    assert "mean of Factuality, Math; no Ties" in score(found).note


def test_an_answer_without_a_grade_makes_nothing_right(tmp_path: Path) -> None:
    plan = planted() | {"tb-0": None, "ra-1": None}
    done = judged(tmp_path, "rewardbench-2", reward_rows(), {"judge": grades(plan)}, "judge.score.steps=9")
    found = Audited(tmp_path / "w", done.run_id)
    without = 0.3 * 2 / 4 + 0.3 * 2 / 3 + 0.2 * 1 / 3 + 0.01 * (-1 + math.tanh(-0.75) - 1) / 3
    assert score(found, subject="Ties").value == pytest.approx(without, abs=1e-6)
    assert score(found, subject="Factuality").value == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert "a vote is missing" in score(found).note


def test_a_perfect_judge_has_an_interval_too(tmp_path: Path) -> None:
    rows = [reward_row(word, str(n), "Math", 1, 3) for n, word in enumerate(WORDS)]
    best = {f"{word}-{place}": 9 - place for word in WORDS for place in range(4)}
    done = judged(tmp_path, "rewardbench-2", rows, {"judge": grades(best)}, "judge.score.steps=9")
    whole = score(Audited(tmp_path / "w", done.run_id))
    assert whole.value == 1.0
    assert whole.low is not None
    assert 0.5 < whole.low < 1  # Wilson's, of eight


def test_each_judge_of_a_jury_is_scored_by_what_it_gives(tmp_path: Path) -> None:
    """One grades, and has Ties; the other votes on pairs, and has not."""
    votes = decides(dict.fromkeys(GRADED, (0.9, 0.1)))
    judges = {"grades": grades(planted()), "votes": votes}
    done = judged(tmp_path, "rewardbench-2", reward_rows(), judges, "judge.score.steps=9", methods=("score", "label"))
    found = Audited(tmp_path / "w", done.run_id)
    assert score(found, "votes", "Factuality").value == score(found, "votes").value == 1.0
    assert score(found, "votes", "Ties").value is None
    assert score(found, "grades", "Ties").value is not None
    assert "by grades" in score(found, "grades", "Math").note
    # And by the jury's label, the mean of both: where one sees no difference, the other's word counts.
    assert "no Ties" in score(found, "").note
    assert score(found, "", "Factuality").value == 1.0
    assert "by votes on pairs" in score(found, "votes", "Math").note
