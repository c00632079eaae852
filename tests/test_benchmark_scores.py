"""Judges on public benchmarks: whole runs of planted judges over small files in the public formats, and their scores
held against the benchmark's published rule, stated again here over the decisions that were planted."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from audit_rows import Audited, Pair, store
from benchmark_runs import ROOT, WORDS, Plan, answers, decides, judged, score
from click.testing import CliRunner
from small_project import table

from constitution.api import audit_run, export_run
from constitution.audit.report import report
from constitution.audit.summary import summary
from constitution.cli import app
from constitution.errors import InputError
from constitution.measures import benchmarks, estimate

PLAN: Plan = {
    "red": (0.9, 0.2),  # the first answer in both orders
    "blue": (0.3, 0.6),  # the second in both
    "green": (0.8, 0.7),  # the first place
    "white": (0.5, 0.1),  # neither, then the first
    "black": (None, 0.2),  # nothing, then the first
    "pink": (0.5, 0.5),
    "grey": (None, None),
    "brown": (0.1, 0.9),  # the second in both
}
SOURCES = ("mmlu-pro-law", "mmlu-pro-law", "livebench-math", "livecodebench", "mmlu-pro-law", "other", "other", "other")


def sides(word: str) -> tuple[int, int]:
    """Each order's decision: 1 for the first answer, −1 for the second, 0 for neither or none."""
    first, second = PLAN[word]
    return (0 if first is None else int(np.sign(first - 0.5)), 0 if second is None else int(np.sign(0.5 - second)))


def label(first: bool) -> int:
    return 1 if first else -1


BETTER = dict(zip(WORDS, (True, True, True, True, True, False, False, False), strict=True))


def judgebench_rows() -> list[dict[str, Any]]:
    rows = []
    for word, source in zip(WORDS, SOURCES, strict=True):
        first, second = answers(word, 2)
        rows.append(
            {"pair_id": word, "original_id": "1", "source": source, "question": f"What is {word}?",
             "response_model": "m", "response_A": first, "response_B": second,
             "label": "A>B" if BETTER[word] else "B>A"}
        )  # fmt: skip
    return rows


def published_judgebench(rows: Sequence[Mapping[str, Any]]) -> float:
    """utils/metrics.py, compute_final_metrics with reverse_order, over the planted decisions."""
    correct = 0
    for row in rows:
        word, counter = row["pair_id"], 0
        for side in sides(word):
            decision = {1: "A>B", -1: "B>A", 0: None}[side]
            if decision == row["label"]:
                counter += 1
            elif decision == {"A>B": "B>A", "B>A": "A>B"}[row["label"]]:
                counter -= 1
        correct += counter > 0
    return correct / len(rows)


@pytest.mark.parametrize("method", ["label", "verdict"])
def test_judgebench(tmp_path: Path, method: str) -> None:
    rows = judgebench_rows()
    done = judged(tmp_path, "judgebench", rows, {"judge": decides(PLAN)}, f"judge.method={method}")
    found = Audited(tmp_path / "w", done.run_id)
    whole = score(found)
    # red, white (by one order), black (the same) and brown are right; green is a tie, pink and grey are nothing.
    assert whole.value == pytest.approx(published_judgebench(rows)) == 4 / 8
    assert whole.n == 8
    assert whole.low is not None
    assert whole.high is not None
    assert whole.low < 0.5 < whole.high
    assert "JudgeBench" in whole.note
    assert "on 2 of 8 pairs a vote is missing" in whole.note
    for source in ("mmlu-pro", "livebench-math", "livecodebench"):
        own = [row for row in rows if row["source"].startswith(source)]
        part = score(found, subject=source)
        assert part.value == pytest.approx(published_judgebench(own))
        assert part.n == len(own)
    assert not [f for f in found.figures if f.figure == "benchmark_score" and f.subject == "livebench-reasoning"]


def test_llmbar(tmp_path: Path) -> None:
    rows = [
        {"input": f"Say {word}.", "output_1": answers(word, 2)[0], "output_2": answers(word, 2)[1],
         "label": 1 if BETTER[word] else 2}
        for word in WORDS
    ]  # fmt: skip
    done = judged(tmp_path, "llmbar", rows, {"judge": decides(PLAN)})
    with pytest.raises(InputError, match="the benchmark llmbar"):
        export_run(tmp_path / "w", tmp_path / "out", done.run_id, format="dpo")
    found = Audited(tmp_path / "w", done.run_id)
    # LLMEvaluator/evaluate.py, correct_average: (correct_False + correct_True) / 2 / len(dataset)
    winners = [{1: "1", -1: "2", 0: None}[side] for word in WORDS for side in sides(word)]
    labels = [str(row["label"]) for row in rows for _ in range(2)]
    published = sum(map(str.__eq__, labels, map(str, winners))) / 2 / len(rows)
    assert score(found).value == pytest.approx(published) == (2 + 0 + 1 + 1 + 1 + 0 + 0 + 2) / 16
    assert score(found).n == 8


PALM_LABELS = "112111111221221212211211121112221211212222212211211212"
PALM_ELSE = {12: "22", 27: "22", 42: "11", 46: "11"}
"""PaLM 2's decisions on the 54 instances of LLMBar's case study Base-10, prompt Vanilla, as the authors published them
(Dataset/CaseStudy/Base_10/evaluators/PaLM2/Vanilla/result.json): the winner in each order; all others "12", the first
output in both."""


def test_decisions_that_were_published_have_the_score_that_was_published() -> None:
    decided = [PALM_ELSE.get(number, "12") for number in range(1, 55)]
    sides = [
        [1 if winner == gold else -1 for winner in winners] for winners, gold in zip(decided, PALM_LABELS, strict=True)
    ]
    right = np.array(sides) == 1
    assert right.sum(axis=0).tolist() == [27, 23]  # correct_False, correct_True
    assert right.all(axis=1).sum() == 0  # correct_both
    assert 100 * benchmarks.llmbar(sides).mean() == pytest.approx(46.2962962962963)  # correct_average
    assert benchmarks.judgebench(sides).sum() == 0  # which gives nothing for one order of two


def test_hhh_and_exact_agreement(tmp_path: Path) -> None:
    """Its accuracy is exact agreement, but that a pair without a vote is wrong and not left out."""
    rows = [
        {
            "input": f"Say {word}.",
            "target_scores": dict.fromkeys(answers(word, 2), 0) | {answers(word, 2)[not better]: 1},
        }
        for word, better in BETTER.items()
    ]
    done = judged(tmp_path, "hhh", rows, {"judge": decides(PLAN)})
    found = Audited(tmp_path / "w", done.run_id)
    # red, brown, green (.8 and .3: the first) and white right, blue wrong, pink half, black and grey nothing.
    assert score(found).value == pytest.approx((1 + 1 + 0 + 1 + 1 + 0.5) / 8)
    assert found.value("alignment", "scripted", subject="both orders") == pytest.approx(4.5 / 6)


def test_the_summary_has_kappa_exact_agreement_bias_and_repeats_beside_the_score(tmp_path: Path) -> None:
    """Of a jury, each member's: it is there to be chosen from."""
    plan: Plan = {f"w{chr(97 + n // 26)}{chr(97 + n % 26)}": (0.9, 0.1) if n % 3 else (0.1, 0.9) for n in range(60)}
    first: Plan = dict.fromkeys(plan, (0.9, 0.9))
    rows = [
        {"input": f"Say {word}.", "output_1": answers(word, 2)[0], "output_2": answers(word, 2)[1], "label": 1 + n % 2}
        for n, word in enumerate(plan)
    ]
    judges = {"steady": decides(plan), "hasty": decides(first)}
    done = judged(tmp_path, "llmbar", rows, judges, "judge.method=verdict", "judge.verdict.n=2", "judge.quorum=1")
    figures = audit_run(tmp_path / "w", done.run_id, replicates=100)
    text = summary(tmp_path / "w", done.run_id)
    assert "| Benchmark score | all |" in text
    for judge in judges:
        for title in ("Benchmark score", "Position bias", "Repetition stability"):
            assert re.search(rf"\| {title} \| {judge} \|", text), (judge, title)
    assert re.search(r"\| Cohen's κ with gold \| steady \|.*exact agreement", text)
    [kappa] = [f for f in figures if f.figure == "kappa" and f.judge == "steady"]
    about = ("alignment", "steady", "", "both orders")
    [agrees] = [f for f in figures if (f.figure, f.judge, f.principle_id, f.subject) == about]
    assert agrees.value is not None
    assert kappa.note == f"exact agreement {100 * agrees.value:.1f}\N{NO-BREAK SPACE}%"
    assert text.index("Benchmark score") < text.index("Cohen's κ") or "no better than chance" in text
    assert "Benchmark score" in report(tmp_path / "w", done.run_id)
    bias = {f.judge: f.value for f in figures if f.figure == "position_bias" and not f.principle_id}
    assert bias == {"steady": 0.0, "hasty": 1.0}
    # A judge who knows only places is right in one order of each pair, and by JudgeBench's rule in none.
    assert [f.value for f in figures if (f.figure, f.judge) == ("benchmark_score", "hasty")] == [0.5]
    assert benchmarks.judgebench([[1, -1], [1, 0], [0, 0], [-1, -1]]).tolist() == [0, 1, 0, 0]


def test_several_files_are_scored_together_and_by_folder(tmp_path: Path) -> None:
    plan = dict.fromkeys(WORDS, (0.9, 0.1))
    for folder, words, first in (("harmless", WORDS[:3], 1), ("honest", WORDS[3:], 0)):
        (tmp_path / "hhh" / folder).mkdir(parents=True)
        rows = [
            {"input": f"Say {word}.", "target_scores": {answers(word, 2)[0]: first, answers(word, 2)[1]: 1 - first}}
            for word in words
        ]
        (tmp_path / "hhh" / folder / "task.json").write_text(json.dumps({"name": "x", "examples": rows}), "utf-8")
    everywhere = f"prompts.path={tmp_path / 'hhh' / '*' / 'task.json'}"
    done = judged(tmp_path, "hhh", [], {"judge": decides(plan)}, everywhere)
    found = Audited(tmp_path / "w", done.run_id)
    assert [score(found, subject=each).value for each in ("", "harmless", "honest")] == [3 / 8, 1.0, 0.0]


def test_pairs_that_ask_the_same_are_drawn_together(tmp_path: Path) -> None:
    """As HHH has them, where people ranked several answers to one question: here the only one."""
    rows = [
        {"input": "Which colour?", "target_scores": {answers(word, 2)[0]: 1, answers(word, 2)[1]: 0}} for word in WORDS
    ]
    done = judged(tmp_path, "hhh", rows, {"judge": decides(dict.fromkeys(WORDS, (0.9, 0.1)))})
    whole = score(Audited(tmp_path / "w", done.run_id))
    assert (whole.value, whole.n) == (1.0, 8)
    assert (whole.low, whole.high) == pytest.approx(estimate.wilson(1, 1))


def test_answers_that_are_the_same_or_empty_are_pairs_that_no_vote_decides(tmp_path: Path) -> None:
    rows = [
        {"input": "One?", "output_1": answers("red", 2)[0], "output_2": answers("red", 2)[1], "label": 1},
        {"input": "Two?", "output_1": "The same.", "output_2": "The same.", "label": 1},
        {"input": "Three?", "output_1": "", "output_2": "Something.", "label": 2},
    ]
    done = judged(tmp_path, "llmbar", rows, {"judge": decides(PLAN)})
    whole = score(Audited(tmp_path / "w", done.run_id))
    assert whole.value == pytest.approx(1 / 3)
    assert "on 2 of 3 pairs a vote is missing" in whole.note
    reasons = table(tmp_path / "w", "SELECT drop_reason FROM preferences ORDER BY 1 NULLS FIRST")
    assert reasons == [(None,), ("empty",), ("identical",)]


def test_trying_a_benchmark_out(tmp_path: Path) -> None:
    rows = [
        {"input": f"Part {n}?", "output_1": f"I would be honest: {n}.", "output_2": f"No {n}!", "label": 1}
        for n in range(30)
    ]
    (tmp_path / "principles").symlink_to(ROOT / "principles")
    (tmp_path / "recipe.toml").write_text((ROOT / "recipes" / "llmbar.toml").read_text("utf-8"), "utf-8")
    (tmp_path / "rows.json").write_text(json.dumps(rows), "utf-8")
    asked = ["try", str(tmp_path / "recipe.toml"), "--prompts", "4", "--set", f"prompts.path={tmp_path / 'rows.json'}"]
    done = CliRunner().invoke(app, [*asked, "--set", 'model.policy={engine = "fake"}'])
    assert done.exit_code == 0, done.output
    assert "30 prompts" in done.output


def test_runs_without_a_benchmark_say_what_it_takes(tmp_path: Path) -> None:
    store(tmp_path, [Pair(n, {("one", "kind"): (0.8, 0.7)}) for n in range(3)])
    [none] = [figure for figure in Audited(tmp_path).figures if figure.figure == "benchmark_score"]
    assert none.value is None
    assert "prompts.benchmark" in none.note
