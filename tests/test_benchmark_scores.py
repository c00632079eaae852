"""Judges on public benchmarks: whole runs of planted judges over small files in the public formats, and their scores
held against the benchmark's published rule, stated again here over the decisions that were planted."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from audit_rows import Audited, Pair, store
from chains import Scripted, said
from click.testing import CliRunner
from small_project import table

from constitution.api import audit_run, run
from constitution.audit.report import report
from constitution.audit.summary import summary
from constitution.cli import app
from constitution.engines.base import Completion, Request
from constitution.errors import RequestRefused
from constitution.measures import benchmarks, estimate
from constitution.recipe import load_recipe
from constitution.records import Figure, Run

ROOT = Path(__file__).parents[1]

Decision = float | None
"""P(the answer shown first is better); None: the vote fails."""
Plan = Mapping[str, tuple[Decision, Decision]]
"""Word that only one question has → what the judge says where its first answer is shown first, and second."""

ANSWER = re.compile(r"\banswer ([a-z]+)-(\d+)\b")


def decides(plan: Plan) -> Scripted:
    """A judge by label, or by written verdict, who decides as planned."""

    def reply(request: Request) -> Completion:
        text = request.messages[0].content
        (word, first), (_, second) = ANSWER.findall(text)[:2]
        p = plan[word][0 if int(first) < int(second) else 1]
        if p is None:
            raise RequestRefused("planted")
        if not request.choices:
            return said(f"So it is.\nVerdict: {'tie' if p == 0.5 else 'A' if p > 0.5 else 'B'}")
        return said("A", logprobs={"A": math.log(p), "B": math.log(1 - p)})

    return Scripted(reply)


def grades(plan: Mapping[str, int | None]) -> Scripted:
    """A judge by score: a grade for each answer, 1 to 9."""

    def reply(request: Request) -> Completion:
        [(word, place)] = ANSWER.findall(request.messages[0].content)
        grade = plan[f"{word}-{place}"]
        if grade is None:
            raise RequestRefused("planted")
        each = {choice: math.log(1 - 8e-9 if choice == str(grade) else 1e-9) for choice in request.choices}
        return said(str(grade), logprobs=each)

    return Scripted(reply)


def judged(
    folder: Path,
    name: str,
    rows: Sequence[Mapping[str, Any]],
    judges: Mapping[str, Scripted],
    *settings: str,
    methods: Sequence[str] = (),
) -> Run:
    """The shipped recipe over these rows; one judge, or a jury of several by their names, each with its method."""
    (folder / "principles").symlink_to(ROOT / "principles")
    path = folder / "recipe.toml"
    path.write_text((ROOT / "recipes" / f"{name}.toml").read_text(encoding="utf-8"), encoding="utf-8")
    if 'format = "json"' in path.read_text(encoding="utf-8"):
        (folder / "rows.json").write_text(json.dumps(list(rows)), encoding="utf-8")
        settings = (f"prompts.path={folder / 'rows.json'}", *settings)
    else:
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        settings = (f"prompts.path={folder / 'rows.jsonl'}", *settings)
    if len(judges) > 1:
        settings = (*settings, *(f'model.jury.{judge}={{engine = "fake", model = "{judge}"}}' for judge in judges))
    settings = (*settings, *map('model.jury.{}.method="{}"'.format, judges, methods))
    return run(load_recipe(path, list(settings)), folder / "w", engines=judges)


def answers(word: str, count: int) -> list[str]:
    return [f"This is answer {word}-{place}." for place in range(count)]


WORDS = ("red", "blue", "green", "white", "black", "pink", "grey", "brown")
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


def score(found: Audited, judge: str = "scripted", subject: str = "") -> Figure:
    return found("benchmark_score", judge, subject=subject)


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
    found = Audited(tmp_path / "w", done.run_id)
    # LLMEvaluator/evaluate.py, correct_average: (correct_False + correct_True) / 2 / len(dataset)
    winners = [{1: "1", -1: "2", 0: None}[side] for word in WORDS for side in sides(word)]
    labels = [str(row["label"]) for row in rows for _ in range(2)]
    published = sum(map(str.__eq__, labels, map(str, winners))) / 2 / len(rows)
    assert score(found).value == pytest.approx(published) == (2 + 0 + 1 + 1 + 1 + 0 + 0 + 2) / 16
    assert score(found).n == 8


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
    assert "by votes on pairs" in score(found, "votes", "Math").note


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
