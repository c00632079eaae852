"""What an export says of answers is what the votes said: labels by some principles, scores, rounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from export_runs import make_export, make_run
from small_project import table
from warehouse_rows import RUN, chain, fill, prompt

from constitution.export import Cleaning, Settings, export
from constitution.judge.pairs import Pair
from constitution.judge.read import checklist_sum
from constitution.labels import Rules, label_pair
from constitution.records import Judgement, Preference, Response, Run
from constitution.warehouse import Warehouse


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("export")


@pytest.fixture(scope="module")
def voted(folder: Path) -> Run:
    return make_run(folder, "voted", 'principles = "all"\nonly = ["helpful"]\nrepeats = 2', prompts=16)


@pytest.mark.parametrize("clamp", [None, (0.35, 0.55)])
def test_pairs_are_labelled_anew_by_some_principles_alone(
    folder: Path, voted: Run, tmp_path: Path, clamp: tuple[float, float] | None
) -> None:
    """As label_pair labels them, given these principles' votes and no others; also where the votes reason."""
    rules = Rules(margin=0.02)
    if clamp:
        rules = replace(rules, clamp=clamp)
        reasoned = f'method = "rationale"\nprinciples = "all"\nonly = ["helpful"]\nrepeats = 2\nclamp = {list(clamp)}'
        voted = make_run(folder, "reasoned", reasoned, prompts=16)
    warehouse = Warehouse(folder / "warehouse")
    constitution = warehouse.read_principles(voted.run_id)
    assert constitution is not None
    weights = {principle.id: principle.weight for principle in constitution.principles}
    asked = table(
        warehouse.root, f"SELECT DISTINCT principle_id FROM judgements WHERE run_id = '{voted.run_id}' ORDER BY ALL"
    )
    ours = {asked[0][0], asked[-1][0]}
    assert len(asked) > 2

    done, rows = make_export(warehouse.root, voted, tmp_path / "out", "dpo", principles=sorted(ours))
    of_export = f"FROM exported WHERE run_id = '{voted.run_id}' AND export_id = '{done.export_id}'"
    reasons = dict(table(warehouse.root, f"SELECT id, drop_reason {of_export}"))
    written = {row["pair_id"]: row for row in rows}
    turned = 0
    prompts = [id for (id,) in table(warehouse.root, f"SELECT id FROM prompts WHERE run_id = '{voted.run_id}'")]
    for found in warehouse.rows_of(voted.run_id, prompts).values():
        answers = {row.id: row for row in found if isinstance(row, Response)}
        for stored in (row for row in found if isinstance(row, Preference)):
            pair = Pair(stored.id, stored.kind, answers[stored.a_id], answers[stored.b_id])
            votes = [r for r in found if isinstance(r, Judgement) and r.pair_id == pair.id and r.principle_id in ours]
            expected = label_pair(pair, votes, len(votes), weights, rules)
            assert reasons[stored.id] == expected.drop_reason
            if expected.kept:
                row = written.pop(stored.id)
                assert (row["chosen_id"], row["rejected_id"]) == (expected.chosen_id, expected.rejected_id)
                numbers = (expected.p_chosen, expected.agreement, expected.consistency)
                assert (row["p_chosen"], row["agreement"], row["consistency"]) == pytest.approx(numbers, abs=1e-9)
                assert row["votes"] == expected.votes == 2 * 2 * len(ours)
                assert row["label_by"] == expected.label_by == ("mean, rationale" if clamp else "mean")
                turned += expected.chosen_id != stored.chosen_id
    assert not written
    assert turned, "these principles agree with all: the test would not see the difference"


@pytest.mark.parametrize("method", ["score", "rubric"])
def test_scores_are_what_was_read_of_an_answer_by_itself(folder: Path, tmp_path: Path, method: str) -> None:
    run = make_run(folder, method, f'method = "{method}"\nprinciples = 3', 12, "general@1.2.0")
    warehouse = Warehouse(folder / "warehouse")
    constitution = warehouse.read_principles(run.run_id)
    assert constitution is not None
    principles = {principle.id: principle for principle in constitution.principles}

    def value(vote: Judgement, read: Sequence[float]) -> float:
        if method == "rubric":
            return checklist_sum(principles[vote.principle_id].criteria, read)
        return math.fsum(place * p for place, p in enumerate(read)) / math.fsum(read) / (len(read) - 1)

    prompts = [id for (id,) in table(warehouse.root, f"SELECT id FROM prompts WHERE run_id = '{run.run_id}'")]
    readings: dict[str, dict[str, list[float]]] = {}
    for found in warehouse.rows_of(run.run_id, prompts).values():
        for vote in (row for row in found if isinstance(row, Judgement)):
            for id, read in ((vote.first_id, vote.read_first), (vote.second_id, vote.read_second)):
                assert read is not None
                readings.setdefault(id, {}).setdefault(vote.principle_id, []).append(value(vote, read))
    middle = 0.5 if method == "rubric" else 0.6
    _, rows = make_export(warehouse.root, run, tmp_path / "kto", "kto", good=middle)
    variants = f"SELECT id FROM responses WHERE run_id = '{run.run_id}' AND kind = 'perturbation'"
    assert {row["response_id"] for row in rows} == readings.keys() - {id for (id,) in table(warehouse.root, variants)}
    for row in rows:
        by_principle = readings[row["response_id"]]
        weights = [principles[id].weight for id in by_principle]
        means = [math.fsum(values) / len(values) for values in by_principle.values()]
        expected = sum(map(math.prod, zip(weights, means, strict=True))) / sum(weights)
        assert row["score"] == pytest.approx(expected, abs=1e-9)
        assert row["label"] is (row["score"] >= middle)
        assert row["readings"] == sum(map(len, by_principle.values()))
        assert [message["role"] for message in row["completion"]] == ["assistant"]
    assert {row["label"] for row in rows} == {True, False}

    one = next(iter(next(iter(readings.values()))))
    done, by_one = make_export(warehouse.root, run, tmp_path / "one", "kto", principles=[one])
    assert {row["response_id"] for row in by_one} == {
        row["response_id"] for row in rows if one in readings[row["response_id"]]
    }
    assert done.dropped["principle"] == len(rows) - len(by_one)


def test_sft_takes_the_rounds_that_are_asked_for(folder: Path, voted: Run, tmp_path: Path) -> None:
    root = folder / "warehouse"
    answers = {
        id: about
        for id, *about in table(root, "SELECT id, kind, round, principle_id, text FROM responses "
                                f"WHERE run_id = '{voted.run_id}' AND kind <> 'perturbation'")
    }  # fmt: skip
    led = next(about[2] for about in answers.values() if about[2])
    cases: dict[str, tuple[dict[str, Any], Any]] = {
        "last": ({}, lambda kind, round, by: kind != "given" and round == 2),
        "all": ({"rounds": "all"}, lambda kind, round, by: True),
        "0": ({"rounds": [0]}, lambda kind, round, by: kind == "initial"),
        "by": ({"rounds": "all", "principles": [led]}, lambda kind, round, by: by == led),
    }
    for name, (settings, holds) in cases.items():
        done, rows = make_export(root, voted, tmp_path / name, "sft", **settings)
        assert {row["response_id"] for row in rows} == {id for id, about in answers.items() if holds(*about[:3])}
        assert all(row["completion"][0]["content"] == answers[row["response_id"]][3] for row in rows)
        assert done.candidates == len(answers)


def test_grpo_rows_bring_principles_and_criteria(folder: Path, voted: Run, tmp_path: Path) -> None:
    constitution = Warehouse(folder / "warehouse").read_principles(voted.run_id)
    assert constitution is not None
    _, rows = make_export(folder / "warehouse", voted, tmp_path / "all", "grpo")
    compared = [(p.id, p.comparison_question, p.weight) for p in constitution.principles if p.compares]
    for row in rows:
        assert [(each["id"], each["question"], each["weight"]) for each in row["principles"]] == compared
        assert row["prompt"][-1]["role"] == "user"
    _, rows = make_export(folder / "warehouse", voted, tmp_path / "one", "grpo", principles=[compared[0][0]])
    assert [each["id"] for each in rows[0]["principles"]] == [compared[0][0]]


def test_cut_and_empty_answers_are_not_learnt(tmp_path: Path) -> None:
    """A revision that was skipped has its parent's text, and with it the parent's cut."""
    warehouse = Warehouse(fill(tmp_path / "warehouse").root)
    number = 50
    warehouse.write_prompts(RUN, 1, [replace(prompt(number), tags=("late",))])
    initial, first, second = [row for row in chain(number) if isinstance(row, Response)]
    made = [
        replace(initial, outcome="ok"),
        replace(first, outcome="cut", text="Half a sen"),
        replace(second, outcome="skipped", text="Half a sen"),
        replace(second, id="e" * 32, round=3, outcome="empty", text="", parent_id=second.id),
    ]
    warehouse.write_part("responses", RUN, made)
    done = export(
        warehouse.root,
        RUN,
        Settings(format="sft", rounds="all", where="list_contains(tags, 'late')", cleaning=Cleaning(dedupe="off")),
        tmp_path / "out",
    )
    fates = dict(
        table(warehouse.root, "SELECT id, drop_reason FROM exported SEMI JOIN responses r ON r.id = exported.id "
              f"WHERE prompt_id = '{initial.prompt_id}' AND export_id = '{done.export_id}'")
    )  # fmt: skip
    assert fates == {made[0].id: None, made[1].id: "cut", made[2].id: "cut", made[3].id: "empty"}
    # The last round with text is the skipped one: cut, so that nothing of this prompt is left.
    last = export(warehouse.root, RUN, Settings(format="sft"), tmp_path / "last")
    query = f"SELECT count(*) FROM exported WHERE prompt_id = '{initial.prompt_id}' AND split IS NOT NULL"
    assert table(warehouse.root, f"{query} AND export_id = '{last.export_id}'") == [(0,)]
