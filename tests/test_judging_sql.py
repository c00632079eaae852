"""judging.sql and votes.sql: style, order-averaged votes, gold, and what the plain figures of an audit come from."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from judging_rows import RUN, Scene, answer, column
from warehouse_page import queries

from constitution.judge.pairs import Pair
from constitution.labels import Rules, label_pair
from constitution.records import Failure, Judgement, Preference, Response
from constitution.warehouse import Warehouse, connect


def odds(p: float) -> float:
    return math.log(p / (1 - p))


@pytest.mark.parametrize(
    ("text", "tokens", "headers", "lists", "bold"),
    [
        ("", 0, 0, 0, 0),
        ("Héllo, wörld_1! 你好", 5, 0, 0, 0),
        ("# a\n## b\n#c\n####### d", 15, 2, 0, 0),
        ("- a\n* b\n+ c\n1. d\n  - e\n-f\n2.g", 16, 0, 5, 0),
        ("**a** and __b__ and **c", 11, 0, 0, 2),
        ("# x\n```\n# y\n- z\n**w**\n```\n# v", 19, 2, 0, 0),
        ("# x\n```\n# never closed", 8, 1, 0, 0),
    ],
)
def test_style_is_counted(tmp_path: Path, text: str, tokens: int, headers: int, lists: int, bold: int) -> None:
    scene = Scene()
    scene.pair(a=text, b="word")
    scene.write(tmp_path)
    (row,) = answer(tmp_path, "FROM style WHERE response_id = 'a0'")
    assert (row["tokens"], row["headers"], row["lists"], row["bold"]) == (tokens, headers, lists, bold)


def test_differences_in_style_are_b_less_a(tmp_path: Path) -> None:
    scene = Scene()
    scene.pair(a="# one two", b="one **two** three")  # 3 and 7 tokens
    scene.pair(a="", b="")
    scene.pair(a="same **text**", b="same **text**")
    scene.write(tmp_path)
    first, empty, same = answer(tmp_path, "FROM style_differences ORDER BY pair_id")
    assert first["length"] == pytest.approx((7 - 3) / 10)
    assert first["headers"] == pytest.approx((0 - 1 / 3) / (1 / 3 + 1))
    assert first["bold"] == pytest.approx((1 / 7) / (1 / 7 + 1))
    for row in (empty, same):
        assert [row[name] for name in ("length", "headers", "lists", "bold")] == [0, 0, 0, 0]


def test_an_averaged_vote_is_of_both_orders(tmp_path: Path) -> None:
    scene = Scene()
    pair = scene.pair()
    scene.vote(pair, "kind", 0.6, 0.9)
    scene.vote(pair, "true", 0.3, 0.8)
    scene.vote(pair, "plain", 0.7, None)
    scene.write(tmp_path)
    kind, true = answer(tmp_path, "FROM averaged_votes ORDER BY principle_id")
    assert (kind["principle_id"], true["principle_id"]) == ("kind", "true")
    assert (kind["p_ab"], kind["p_ba"], kind["p_b"]) == pytest.approx((0.6, 0.9, 0.75))
    assert kind["l_b"] == pytest.approx((odds(0.6) + odds(0.9)) / 2)
    assert kind["position"] == pytest.approx((odds(0.4) + odds(0.9)) / 2)
    assert (kind["same_place"], kind["first_place"]) == (False, None)
    assert (true["same_place"], true["first_place"]) == (True, True), "each time, the first"


def test_ties_certainty_repeats_methods_and_label_mass(tmp_path: Path) -> None:
    scene = Scene(recipe={"judge": {"min_label_mass": 0.5}})
    pair = scene.pair()
    scene.vote(pair, "kind", 0.5, 0.9, judge="tied")
    scene.vote(pair, "kind", 1.0, 0.0, judge="certain")
    scene.vote(pair, "kind", 0.2, 0.4, judge="twice")
    scene.vote(pair, "kind", 0.4, 0.6, judge="twice", repeat=1)
    scene.vote(pair, "kind", 0.8, None, judge="grades", method="score")
    scene.vote(pair, "kind", 0.8, 0.8, judge="mumbles", label_mass=0.4)
    scene.write(tmp_path)
    found = {row["judge"]: row for row in answer(tmp_path, "FROM averaged_votes")}
    assert set(found) == {"tied", "certain", "twice", "grades"}
    assert found["tied"]["same_place"] is None
    assert found["certain"]["l_b"] == pytest.approx(0, abs=1e-9)
    assert found["certain"]["position"] == pytest.approx(-math.log(1e6)), "clipped; the second place, each time"
    assert (found["twice"]["p_ab"], found["twice"]["p_ba"]) == pytest.approx((0.3, 0.5))
    grades = found["grades"]
    assert (grades["p_b"], grades["l_b"]) == pytest.approx((0.8, odds(0.8)))
    assert [grades[name] for name in ("p_ba", "position", "same_place", "first_place")] == [None] * 4


def test_averaged_votes_are_those_that_make_the_label(tmp_path: Path) -> None:
    """The mean of a pair's order-averaged votes is the preference that label_pair() makes of the same votes."""
    scene = Scene()
    pair = scene.pair()
    for judge, principle, ab, ba in [("x", "kind", 0.31, 0.92), ("x", "true", 0.5, 0.5), ("y", "kind", 0.77, 0.11)]:
        scene.vote(pair, principle, ab, ba, judge=judge)
    scene.vote(pair, "plain", 0.9, None)
    scene.write(tmp_path)
    a, b = (row for row in scene.rows if isinstance(row, Response))
    votes = [row for row in scene.rows if isinstance(row, Judgement)]
    weights = {"kind": 1.0, "true": 1.0, "plain": 1.0}
    made = label_pair(Pair("pair0", "parent", a, b), votes, len(votes), weights, Rules())
    ((mean, ties, consistency),) = column(
        answer(
            tmp_path,
            "SELECT avg(p_b) AS p_b, count(*) FILTER (side(p_b) = 0) AS ties, "
            "avg((side(p_ab) = side(p_ba))::INT) AS consistency FROM averaged_votes",
        ),
        "p_b", "ties", "consistency",
    )  # fmt: skip
    assert mean == pytest.approx(made.p_b)
    assert (ties, consistency) == (made.ties, pytest.approx(made.consistency))


def test_position(tmp_path: Path) -> None:
    scene = Scene()
    for ab, ba in [(0.3, 0.8), (0.4, 0.9), (0.9, 0.2), (0.8, 0.8), (0.5, 0.8)]:
        scene.vote(scene.pair(), "kind", ab, ba)
    scene.write(tmp_path)
    (row,) = answer(tmp_path, "FROM position")
    assert (row["votes"], row["decided"]) == (5, 4)
    assert row["same_place"] == pytest.approx(3 / 4)
    assert row["first_place"] == pytest.approx(2 / 3)


def test_gold_is_the_mean_over_raters(tmp_path: Path) -> None:
    scene = Scene()
    zero, one, two = scene.pair(gold_id="b0"), scene.pair(), scene.pair()
    scene.say("ann", 0, pair=zero)
    scene.say("bob", 1, pair=zero)
    scene.say("ann", 3, response="a1")
    scene.say("ann", 7, response="b1")
    scene.say("bob", 1, response="a1")  # and nothing of b1
    scene.say("ann", 1, pair=two)
    scene.say("ann", 5, response="a2")
    scene.say("ann", 4, response="b2")
    scene.say("bob", 2, response="a2", about="kind")
    scene.say("bob", 2, response="b2", about="kind")
    scene.write(tmp_path)
    found = answer(tmp_path, "FROM gold ORDER BY pair_id, principle_id")
    assert column(found, "pair_id", "principle_id", "p_b", "raters") == [
        ("pair0", "", pytest.approx(2 / 3), 3),  # ann a, bob b, the prompts b
        ("pair1", "", 1.0, 1),
        ("pair2", "", 1.0, 1),  # ann's word on the pair, not what her words on the responses say
        ("pair2", "kind", 0.5, 1),
    ]
    assert one == 1


def test_alignment_with_gold_of_the_principle_or_of_the_whole(tmp_path: Path) -> None:
    scene = Scene()
    for ab, ba, whole, kind in [(0.9, 0.9, 1, 0), (0.8, 0.4, 1, 0), (0.5, 0.5, 0, 1), (0.1, 0.2, 0.5, 0.5)]:
        pair = scene.pair()
        scene.vote(pair, "kind", ab, ba)
        scene.vote(pair, "true", ab, ba)
        scene.say("ann", whole, pair=pair)
        scene.say("ann", kind, pair=pair, about="kind")
    scene.write(tmp_path)
    found = answer(tmp_path, "FROM alignment ORDER BY principle_id")
    assert column(found, "principle_id", "gold_of", "n") == [("kind", "principle", 3), ("true", "whole", 3)]
    by_kind, by_true = found
    assert (by_true["one_order"], by_true["both_orders"]) == pytest.approx(((1 + 0.5 + 0.5) / 3, (1 + 1 + 0.5) / 3))
    assert (by_kind["one_order"], by_kind["both_orders"]) == pytest.approx(((0 + 0.5 + 0.5) / 3, (0 + 0 + 0.5) / 3))


def test_principles_against_each_other(tmp_path: Path) -> None:
    scene = Scene()
    for kind, true, plain in [(0.9, 0.8, 0.2), (0.9, 0.8, 0.9), (0.2, 0.3, 0.8), (0.5, 0.9, 0.9)]:
        pair = scene.pair()
        for name, p_b in (("kind", kind), ("true", true), ("plain", plain)):
            scene.vote(pair, name, p_b, p_b)
    probe = scene.pair(kind="perturbation", perturbation="terse")
    scene.vote(probe, "kind", 0.1, 0.1)
    scene.write(tmp_path)
    found = {row["principle_id"]: row for row in answer(tmp_path, "FROM principle_votes")}
    assert {name: row["votes"] for name, row in found.items()} == {"kind": 4, "true": 4, "plain": 4}
    assert found["kind"]["win_rate"] == pytest.approx((1 + 1 + 0 + 0.5) / 4)
    bits = [-p * math.log2(p) - (1 - p) * math.log2(1 - p) for p in (0.9, 0.9, 0.2, 0.5)]
    assert found["kind"]["entropy"] == pytest.approx(sum(bits) / 4)
    # plain stands against two in the first and third pair, with them in the second and with one in the last
    assert found["plain"]["majority_agreement"] == pytest.approx(2 / 4)
    assert found["kind"]["majority_agreement"] == pytest.approx(1.0), "others split on two of the pairs, it on one"
    phi = {(row["principle_id"], row["other_id"]): row for row in answer(tmp_path, "FROM phi")}
    assert phi["kind", "true"]["phi"] == pytest.approx(1.0)
    assert phi["kind", "true"]["votes"] == 3
    assert phi["true", "kind"]["phi"] == phi["kind", "true"]["phi"]
    assert phi["kind", "plain"]["phi"] == pytest.approx(-0.5)


def test_phi_of_a_principle_that_never_changes_sides(tmp_path: Path) -> None:
    scene = Scene()
    for kind in (0.9, 0.1):
        pair = scene.pair()
        scene.vote(pair, "kind", kind, kind)
        scene.vote(pair, "true", 0.9, 0.9)
    scene.write(tmp_path)
    assert column(answer(tmp_path, "FROM phi"), "phi") == [None, None]


def test_perturbations(tmp_path: Path) -> None:
    scene = Scene()
    for perturbation, p_b in [("terse", 0.2), ("terse", 0.7), ("terse", 0.5), ("sarcastic", 0.1)]:
        scene.vote(scene.pair(kind="perturbation", perturbation=perturbation), "kind", p_b, p_b)
    scene.vote(scene.pair(), "kind", 0.9, 0.9)
    scene.write(tmp_path)
    found = answer(tmp_path, "FROM perturbation_penalties ORDER BY perturbation")
    assert column(found, "perturbation", "n", "penalty") == [("sarcastic", 1, 1.0), ("terse", 3, 0.5)]


def test_missing_votes_of_a_jury(tmp_path: Path) -> None:
    jury: dict[str, Any] = {"model": {"jury": {"x": {}, "y": {}, "z": {}}}, "judge": {}}
    scene = Scene(recipe=jury, models={"policy": {"name": "p"}})
    pair = scene.pair(votes=4, votes_missing=8)  # two principles, two orders, three judges
    scene.vote(pair, "kind", 0.5, 0.6, judge="x")
    scene.vote(pair, "true", 0.5, 0.6, judge="x")
    scene.vote(pair, "true", 0.5, None, judge="y", label_mass=0.5)
    scene.pair(a="same", b="same")  # nobody was asked
    late = Failure("f", RUN, scene.prompts[0].id, "vote", "EngineTimeout", "late", True, "y")
    scene.rows += [late, replace(late, id="g"), replace(late, id="h", judge="z")]
    scene.rows += [replace(late, id="i", step="initial", judge=None)]
    scene.write(tmp_path)
    found = answer(tmp_path, "FROM missing_votes ORDER BY judge")
    assert column(found, "judge", "pairs", "asked", "cast", "missing") == [
        ("x", 1, 4, 4, 0), ("y", 1, 4, 1, 3), ("z", 1, 4, 0, 4),
    ]  # fmt: skip
    assert column(found, "failures") == [0, 2, 1]
    assert column(found, "label_mass") == [pytest.approx(0.9), 0.5, None]


def test_missing_votes_of_a_judge_alone_that_never_spoke(tmp_path: Path) -> None:
    scene = Scene()
    scene.pair(votes=0, votes_missing=6)
    scene.write(tmp_path)
    assert column(answer(tmp_path, "FROM missing_votes"), "judge", "asked", "missing") == [("judge", 6, 6)]


def test_what_a_drawn_principle_changed_and_whether_it_won(tmp_path: Path) -> None:
    scene = Scene()
    won = scene.pair(principle_id="kind")
    scene.vote(won, "kind", 0.1, 0.1)  # its own vote does not count
    scene.vote(won, "true", 0.9, 0.9)
    scene.vote(won, "plain", 0.4, 0.4)
    lost = scene.pair(principle_id="kind")
    scene.vote(lost, "true", 0.2, 0.2)
    scene.pair(a="same", b="same", principle_id="kind")
    scene.pair(principle_id="true")
    scene.write(tmp_path)
    found = answer(tmp_path, "FROM drawn ORDER BY principle_id")
    assert column(found, "principle_id", "drawn", "changed", "judged", "against_parent", "won") == [
        ("kind", 3, 2, 2, 2, 1.0), ("true", 1, 1, 0, 0, None),
    ]  # fmt: skip


def test_a_pair_of_the_first_and_the_last_judges_each_round_that_changed_the_text(tmp_path: Path) -> None:
    scene = Scene()
    pair = scene.pair(kind="first-last", principle_id="kind")
    scene.vote(pair, "plain", 0.9, 0.9)
    scene.vote(pair, "true", 0.2, 0.2)
    first, last = (row for row in scene.rows if isinstance(row, Response))
    middle = replace(last, id="middle", text="between", principle_id="true")
    still = replace(
        last, id="still", round=2, text="between", outcome="unchanged", parent_id="middle", principle_id="plain"
    )
    scene.rows[scene.rows.index(last)] = replace(last, round=3, parent_id="still")
    scene.rows += [middle, still]
    scene.write(tmp_path)
    found = answer(tmp_path, "FROM drawn ORDER BY principle_id")
    assert column(found, "principle_id", "drawn", "changed", "judged", "against_parent", "won", "win_rate") == [
        ("kind", 1, 1, 1, 0, 1.0, 1.0),  # plain and true together: 0.55
        ("plain", 1, 0, 0, 0, None, None),  # it changed nothing
        ("true", 1, 1, 1, 0, 1.0, 1.0),  # plain alone
    ]
    # Where each was judged against its parent, that is what counts.
    step = next(row for row in scene.rows if isinstance(row, Preference))
    scene.rows.append(replace(step, id="pair1", kind="parent", a_id=first.id, b_id="middle"))
    scene.vote(pair, "plain", 0.1, None, id="step-ab", pair_id="pair1", second_id="middle")
    scene.vote(pair, "plain", None, 0.1, id="step-ba", pair_id="pair1", first_id="middle")
    scene.write(tmp_path / "both")
    found = answer(tmp_path / "both", "FROM drawn WHERE principle_id <> 'plain' ORDER BY principle_id")
    assert column(found, "principle_id", "against_parent", "won") == [("kind", 0, 1.0), ("true", 1, 0.0)]


def test_a_sheet_does_not_say_which_answer_is_the_later(tmp_path: Path) -> None:
    scene = Scene()
    for _ in range(60):
        scene.pair()
    scene.pair(a="same", b="same")
    scene.write(tmp_path)
    sheet = answer(tmp_path, "FROM annotation_sheet")
    assert len(sheet) == 60
    assert 15 < sum(row["first_id"].startswith("b") for row in sheet) < 45
    assert all({row["first_id"][0], row["second_id"][0]} == {"a", "b"} for row in sheet)
    assert all(row["first"] == ("one" if row["first_id"].startswith("a") else "two") for row in sheet)


def test_runs_say_how_their_labels_were_made(tmp_path: Path) -> None:
    warehouse = Scene().write(tmp_path)
    asked = "SELECT labels ->> '$.aggregate' AS aggregate FROM runs"
    assert column(answer(tmp_path, asked), "aggregate") == [None]
    run = warehouse.read_run(RUN)
    assert run
    warehouse.write_run(replace(run, labels={"aggregate": "dawid-skene"}))
    assert column(answer(tmp_path, asked), "aggregate") == ["dawid-skene"]


def test_every_view_can_be_asked_of_an_empty_warehouse(tmp_path: Path) -> None:
    Warehouse(tmp_path).rebuild_views()
    with connect(tmp_path) as connection:
        names = connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()
        assert {"averaged_votes", "gold", "alignment", "drawn", "missing_votes"} <= {name for (name,) in names}
        for (name,) in set(names) - {("dictionary",), ("methods",)}:
            assert connection.execute(f'SELECT count(*) FROM "{name}"').fetchall() == [(0,)], name


def test_the_documented_queries_can_be_asked(tmp_path: Path) -> None:
    scene = Scene()
    for p_b in (0.2, 0.9):
        pair = scene.pair(votes=4, votes_missing=2)
        scene.vote(pair, "kind", p_b, p_b)
        scene.vote(pair, "true", 0.9, p_b)
        scene.say("ann", 1, pair=pair)
    scene.write(tmp_path)
    assert len(queries()) >= 5
    for query in queries():
        found = answer(tmp_path, query.replace("…", RUN))
        assert found or "perturbation" in query or "phi" in query or "principle_votes" in query, query


def test_no_two_tables_are_joined_by_their_run_alone(tmp_path: Path) -> None:
    """40,000 answers with as many others, because both are of the run: it would never end."""
    scene = Scene()
    for number in range(100):
        scene.pair(gold_id=f"b{number}")
    scene.write(tmp_path)
    joins = "".join(
        f" JOIN {table} AS {name} ON {name}.run_id = p.run_id AND {name}.{key} = p.{other}"
        for table, name, key, other in [
            ("gold", "g", "pair_id", "id"), ("prompts", "q", "id", "prompt_id"),
            ("responses", "a", "id", "a_id"), ("responses", "b", "id", "b_id"),
        ]
    )  # fmt: skip
    query = f"SELECT a.text, b.text FROM preferences AS p {joins} WHERE p.run_id = '{RUN}' AND p.kind <> 'perturbation'"
    assert len(answer(tmp_path, query)) == 100
    (plan,) = answer(tmp_path, f"EXPLAIN (FORMAT json) {query}")
    assert '"Conditions": "run_id = run_id"' not in plan["explain_value"], "no condition but this one"
    assert '"Conditions": [' in plan["explain_value"]


def test_one_run_at_a_time_for_other_clients(tmp_path: Path) -> None:
    """The variable `run` keeps a client of warehouse.duckdb to the files of one run."""
    import duckdb

    scene = Scene()
    scene.pair()
    scene.write(tmp_path).rebuild_views()
    with duckdb.connect(str(tmp_path / "warehouse.duckdb"), read_only=True) as client:
        client.execute("SET VARIABLE root = ?", [str(tmp_path)])
        assert client.execute("SELECT count(*) FROM responses").fetchall() == [(2,)]
        client.execute(f"SET VARIABLE run = '{RUN}'")
        assert client.execute("SELECT count(*) FROM responses").fetchall() == [(2,)]
        client.execute("SET VARIABLE run = 'none'")
        assert client.execute("SELECT count(*) FROM responses").fetchall() == [(0,)]
