"""How often three answers beat each other in a circle: the audit's figure against a count by hand."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
from audit_rows import RUN, Audited, store

from constitution.identity import row_id
from constitution.records import Judgement, Message, Preference, Prompt, Response, Row
from constitution.warehouse import Warehouse, convert

JUDGES = ("one", "two")
SIZES = (5, 4, 2)
"""Answers of each prompt."""


def tournament(number: int, size: int, draw: random.Random) -> tuple[Prompt, list[Row], list[dict[str, int]]]:
    """A prompt whose answers are compared two by two, its rows, and of every three answers with all pairs decided
    whether they go in a circle, by whom (empty: the label)."""
    prompt = Prompt((Message("user", f"question {number}"),))
    answers = [
        Response(row_id(RUN, number, place), RUN, prompt.id, "sample", place, f"text {place}", "ok", "m", sampler="s")
        for place in range(size)
    ]
    rows: list[Row] = [*answers]
    wins: dict[tuple[str, str, str], float] = {}
    for a, b in combinations(answers, 2):
        if draw.random() < 0.1:
            continue  # that pair was not compared
        pair = row_id(RUN, "pair", a.id, b.id)
        said = {judge: draw.choice([0.2, 0.5, 0.9]) for judge in JUDGES}
        for judge, p_b in said.items():
            for first, second, p_first in ((a, b, 1 - p_b), (b, a, p_b)):
                rows.append(
                    Judgement(row_id(pair, judge, first.id), RUN, prompt.id, pair, first.id, second.id, judge, "kind",
                              "d" * 64, "label", p_first, 0.9, "t" * 64)
                )  # fmt: skip
        label = sum(said.values()) / 2
        rows.append(Preference(pair, RUN, prompt.id, "all", a.id, b.id, label, 4, 0, 1.0, 1.0, 0.9, None))
        for judge, p_b in {"": label, **said}.items():
            wins[judge, a.id, b.id], wins[judge, b.id, a.id] = 1 - p_b, p_b
    found = []
    for three in combinations([answer.id for answer in answers], 3):
        circle = {}
        for judge in ("", *JUDGES):
            shares = [wins.get((judge, *pair), 0.5) for pair in combinations(three, 2)]
            if all(abs(share - 0.5) > 1e-9 for share in shares):
                beats = [sum(wins[judge, x, y] > 0.5 for y in three if y != x) for x in three]
                circle[judge] = int(beats == [1, 1, 1])
        found.append(circle)
    return prompt, rows, found


def test_circles_are_those_that_a_count_finds(tmp_path: Path) -> None:
    draw = random.Random(5)
    store(tmp_path, [])
    made = [tournament(number, SIZES[number % len(SIZES)], draw) for number in range(30)]
    warehouse = Warehouse(tmp_path)
    warehouse.write_prompts(RUN, 1, [prompt for prompt, _, _ in made])
    rows = [row for _, own, _ in made for row in own]
    for kind, table in convert.TABLE_OF.items():
        if own := [row for row in rows if isinstance(row, kind)]:
            warehouse.write_part(table, RUN, own)
    found = Audited(tmp_path)
    for judge in ("", *JUDGES):
        counted = [three[judge] for _, _, circles in made for three in circles if judge in three]
        figure = found("cycles", judge)
        assert 0 < sum(counted) < len(counted) == figure.n
        assert figure.value is not None
        assert figure.value == pytest.approx(sum(counted) / len(counted))
        assert figure.low is not None
        assert figure.high is not None
        assert figure.low < figure.value < figure.high


@pytest.mark.parametrize(("size", "label_by"), [(2, "mean"), (5, "reward"), (5, "construction")])
def test_without_three_answers_or_votes_it_says_what_it_would_take(tmp_path: Path, size: int, label_by: str) -> None:
    draw = random.Random(5)
    store(tmp_path, [])
    prompt, made, _ = tournament(1, size, draw)
    rows = [replace(row, label_by=label_by) if isinstance(row, Preference) else row for row in made]
    rows = [row for row in rows if label_by == "mean" or not isinstance(row, Judgement)]
    warehouse = Warehouse(tmp_path)
    warehouse.write_prompts(RUN, 1, [prompt])
    for kind, table in convert.TABLE_OF.items():
        if own := [row for row in rows if isinstance(row, kind)]:
            warehouse.write_part(table, RUN, own)
    figure = Audited(tmp_path)("cycles")
    assert figure.value is None
    assert "judge.pairs" in figure.note
