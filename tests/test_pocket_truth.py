"""The grammar's truth as labels: `python -m constitution.pocket.truth`."""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import warehouse_rows
from judging_rows import Scene, answer, column

from constitution.errors import QueryError
from constitution.pocket.truth import rows
from constitution.pocket.world import World, truth
from constitution.principles import find_root, load_constitution
from constitution.records import Message, Preference, Prompt, Response
from constitution.warehouse import Warehouse
from constitution.warehouse.annotations import read_annotations

POCKET = load_constitution(find_root(Path(__file__).parent), "pocket@1.0.0")
RUN = "pocket-0123456789ab"


def fill(root: Path, count: int = 40) -> dict[str, tuple[frozenset[str], frozenset[str]]]:
    """A run of `count` pairs of the world's answers; what a and b of each pair break."""
    world = World(random.Random(5))
    prompts, answers, pairs, broken = [], [], [], {}
    for number in range(count):
        first = world.answer(world.request("train"))
        second = world.mend(first, frozenset(list(first.broken)[: number % 3]))
        prompt = Prompt((Message("user", first.request.text),), f"p#{number}")
        a, b = (
            Response(f"{name}{number}", RUN, prompt.id, "given", place, made.text, "ok", "given")
            for place, (name, made) in enumerate((("a", first), ("b", second)))
        )
        prompts.append(prompt)
        answers += [a, b]
        pairs.append(
            Preference(f"pair{number}", RUN, prompt.id, "given", a.id, b.id, None, 0, 0, None, None, None, None)
        )
        broken[f"pair{number}"] = (first.broken, second.broken)
    warehouse = Warehouse(root)
    warehouse.write_principles(RUN, POCKET)
    warehouse.write_prompts(RUN, 0, prompts)
    warehouse.write_part("responses", RUN, answers)
    warehouse.write_part("preferences", RUN, pairs)
    warehouse.write_run(replace(warehouse_rows.run(RUN), constitution=POCKET.label))
    return broken


def test_the_truth_becomes_gold(tmp_path: Path) -> None:
    broken = fill(tmp_path / "warehouse")
    out = tmp_path / "truth.csv"
    words = [
        sys.executable,
        "-m",
        "constitution.pocket.truth",
        "--out",
        str(out),
        "--warehouse",
        str(tmp_path / "warehouse"),
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"on {len(broken)} pairs of {RUN}" in done.stdout
    found = read_annotations(tmp_path / "warehouse", out)
    Warehouse(tmp_path / "warehouse").write_annotations(RUN, found.annotations)
    whole = answer(tmp_path / "warehouse", "FROM gold WHERE principle_id = ''")
    sides = dict(column(whole, "pair_id", "p_b"))
    assert sides == {pair: 0.5 if len(a) == len(b) else float(len(b) < len(a)) for pair, (a, b) in broken.items()}
    assert {0.5, 1.0} <= set(sides.values())
    comparing = [principle for principle in POCKET.principles if principle.compares]
    assert len(found.annotations) == len(broken) * (1 + len(comparing))
    for principle in comparing:
        under = answer(tmp_path / "warehouse", f"FROM gold WHERE principle_id = '{principle.id}'")
        for pair, p_b in column(under, "pair_id", "p_b"):
            a, b = broken[pair]
            fault = principle.tags[0]
            if (fault in a) != (fault in b):
                assert p_b == float(fault in a), (pair, principle.id)
            else:
                assert p_b == sides[pair], "where a principle does not tell, the number of faults does"


def test_a_run_that_is_not_of_the_world(tmp_path: Path) -> None:
    scene = Scene()
    scene.pair()
    scene.write(tmp_path)
    with pytest.raises(QueryError, match="pocket world"):
        list(rows(tmp_path, scene.rows[0].run_id))
    assert truth("question 0", "one") is None
