"""Whole runs with adaptive votes, beside the same with all votes: planted judges, audit, replay."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import NamedTuple

import pytest
from adaptive_run import ADAPTIVE, MIXED, PLANTED, command
from audit_rows import Audited
from click.testing import CliRunner
from run_once import run_once
from small_project import small_project, table

from constitution.cli import app
from constitution.errors import InputError, RecipeError
from constitution.pipeline import prepare
from constitution.recipe import load_recipe
from constitution.records import Run


class Ran(NamedTuple):
    root: Path
    all: Run
    adaptive: Run


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The same prompts, answers and judges in one warehouse, with all votes and with adaptive ones."""
    folder = tmp_path_factory.mktemp("planted")
    recipe, root = small_project(folder, 200, PLANTED), folder / "w"
    whole, adaptive = (asyncio.run(run_once(recipe, root, overrides)) for overrides in ([], [ADAPTIVE]))
    return Ran(root, whole, adaptive)


BESIDE = """
    SELECT {columns} FROM (FROM preferences WHERE run_id = '{all}') AS x
    JOIN (FROM preferences WHERE run_id = '{adaptive}') AS y USING (prompt_id, kind)
    JOIN responses AS b ON b.run_id = x.run_id AND b.id = x.b_id
    JOIN responses AS c ON c.run_id = y.run_id AND c.id = y.b_id AND c.perturbation IS NOT DISTINCT FROM b.perturbation
"""


def beside(ran: Ran, columns: str, where: str = "true") -> list[tuple[object, ...]]:
    """Of each pair of the run with all votes (x) and the same of the other (y)."""
    query = BESIDE.format(columns=columns, all=ran.all.run_id, adaptive=ran.adaptive.run_id)
    return table(ran.root, f"{query} WHERE {where}")


def test_two_fifths_of_the_calls_are_saved_and_hardly_a_label_changes(ran: Ran) -> None:
    [(pairs, votes, spared, changed)] = beside(
        ran,
        "count(*), sum(x.votes), sum(y.votes_spared), count(*) FILTER (side(x.p_b) <> side(y.p_b) OR x.kept <> y.kept)",
        "x.kind = 'first-last' AND x.votes > 0",
    )
    assert isinstance(pairs, int)
    assert pairs > 150
    assert float(str(spared)) / float(str(votes)) >= 0.4
    assert float(str(changed)) / pairs <= 0.01


def test_every_vote_is_cast_or_spared_and_none_is_missing(ran: Ran) -> None:
    assert beside(ran, "count(*)", "x.votes <> y.votes + y.votes_spared OR y.votes_missing <> 0") == [(0,)]
    assert beside(ran, "count(*) > 20, sum(y.votes_spared)", "x.kind = 'perturbation'") == [(True, 0)]
    counts = ran.adaptive.counts
    assert counts["judgements"] + counts["votes_spared"] == ran.all.counts["judgements"]
    assert (counts["votes_missing"], ran.all.counts["votes_spared"]) == (0, 0)
    rows = table(ran.root, "SELECT judge, asked, \"cast\", missing, spared FROM missing_votes "
                           f"WHERE run_id = '{ran.adaptive.run_id}'")  # fmt: skip
    assert rows == [("planted", counts["judgements"], counts["judgements"], 0, counts["votes_spared"])]
    assert table(ran.root, f"SELECT votes_spared FROM runs WHERE run_id = '{ran.adaptive.run_id}'") == [
        (counts["votes_spared"],)
    ]
    calls = [sum(each.calls for each in run.usage if each.stage == "vote") for run in (ran.all, ran.adaptive)]
    assert calls[0] - calls[1] == counts["votes_spared"]


def test_the_votes_that_are_cast_are_those_of_a_run_with_all(ran: Ran) -> None:
    said = "SELECT prompt_id, principle_id, seed, p_first, label_mass FROM judgements WHERE run_id = '{}'"
    every, some = (set(table(ran.root, said.format(run.run_id))) for run in (ran.all, ran.adaptive))
    assert some < every
    waves = dict(table(ran.root, "SELECT wave, count(*) FROM judgements JOIN preferences AS p ON p.id = pair_id "
                                 f"WHERE p.run_id = '{ran.adaptive.run_id}' AND p.kind = 'first-last' "
                                 "GROUP BY ALL ORDER BY 1"))  # fmt: skip
    assert list(waves) == list(range(len(waves)))
    assert len(waves) > 4
    assert list(waves.values()) == sorted(waves.values(), reverse=True)
    assert table(ran.root, f"SELECT max(wave) FROM judgements WHERE run_id = '{ran.all.run_id}'") == [(0,)]


def agrees(ran: Ran, *settings: str) -> None:
    shown = command("relabel", ran.all.run_id, "--replay", *settings, "--warehouse", ran.root)
    cells = re.search(r"0\.99 +([\d,]+) \([\d.]+%\) +(\d+) \(", shown)
    assert cells, shown
    [(spared, changed)] = beside(
        ran,
        "sum(y.votes_spared), count(*) FILTER (x.kept <> y.kept OR x.kept AND side(x.p_b) <> side(y.p_b))",
        "x.kind = 'first-last' AND x.votes > 0",
    )
    assert (cells[1].replace(",", ""), cells[2]) == (str(spared), str(changed))


def test_a_replay_says_what_the_run_saves_and_changes(ran: Ran) -> None:
    agrees(ran)


@pytest.mark.parametrize(
    "settings",
    [
        ["judge.margin=0.15", "model.judge.accuracy=0.65"],
        ["judge.method=verdict", "judge.verdict.n=2", "judge.principles=6"],
        ["judge.aggregate=majority", "judge.repeats=2", "judge.principles=7"],
    ],
)
async def test_so_it_does_by_other_settings(tmp_path: Path, settings: list[str]) -> None:
    recipe, root = small_project(tmp_path, 30, PLANTED), tmp_path / "w"
    whole, adaptive = [await run_once(recipe, root, [*settings, *more]) for more in ([], [ADAPTIVE])]
    assert adaptive.counts["votes_spared"]
    agrees(Ran(root, whole, adaptive))


def test_what_a_replay_refuses(ran: Ran) -> None:
    for words, said in (
        ([ran.adaptive.run_id, "--replay"], "its votes were adaptive"),
        ([ran.all.run_id, "--sure", "0.9"], "--sure is for --replay"),
    ):
        result = CliRunner().invoke(app, ["relabel", *words, "--warehouse", str(ran.root)])
        assert result.exit_code
        assert said in (str(result.exception) if isinstance(result.exception, InputError) else result.output)
    before = table(ran.root, "FROM preferences ORDER BY id")
    assert command("relabel", ran.all.run_id, "--replay", "--sure", "0.9", "--warehouse", ran.root).count("%)") == 2
    assert table(ran.root, "FROM preferences ORDER BY id") == before


def test_labels_made_again_are_the_same(ran: Ran) -> None:
    columns = "id, p_b, votes, votes_missing, votes_spared, drop_reason, dissent"
    before = table(ran.root, f"SELECT {columns} FROM preferences ORDER BY id")
    command("relabel", ran.adaptive.run_id, "--warehouse", ran.root)
    for row, was in zip(table(ran.root, f"SELECT {columns} FROM preferences ORDER BY id"), before, strict=True):
        assert (row[0], *row[2:]) == (was[0], *was[2:])
        assert row[1] == pytest.approx(was[1], abs=1e-9)


# --- what is said of judges and principles

OF_VOTES = {
    "position_bias", "first_place", "position_effect", "label_mass", "censored", "ties", "win_rate",
    "win_rate_length_controlled", "win_rate_style_controlled", "style_effect", "style_effect_sd", "style_logistic",
    "principle_win_rate", "entropy", "phi", "length_correlation", "markdown_correlation", "perturbation_penalty",
}  # fmt: skip
"""Figures that are means of votes: those of close pairs must not count for more."""
OF_PAIRS = {"agreement", "labels_changed", "pairs", "kept", "dropped", "change_won", "cycles"}
"""Of each pair as a whole."""
COUNTED = {
    "votes_cast",
    "votes_missing",
    "votes_spared",
    "failures",
    "drawn",
    "changed",
    "copied",
    "answers_copied",
    "dead",
}
OF_FEWER = {"majority_agreement"}
"""What most of the other principles say is less clear where fewer are asked."""
NOT_HERE = {"repetition_stability", "alpha", "self_preference", "drift"}
"""They need repeats, a jury, families or an earlier run."""


@pytest.fixture(scope="module")
def audited(ran: Ran) -> tuple[Audited, Audited]:
    return Audited(ran.root, ran.all.run_id), Audited(ran.root, ran.adaptive.run_id)


def test_figures_of_votes_are_those_of_a_run_with_all(audited: tuple[Audited, Audited]) -> None:
    whole, adaptive = audited
    listed = OF_VOTES | OF_PAIRS | COUNTED | OF_FEWER | NOT_HERE
    gold = {"alignment", "brier", "ece", "reliability_predicted", "reliability_observed", "kappa"}
    gold |= {"benchmark_score"}
    gold |= {f"group_{what}" for what in ("alignment", "ceiling", "distance", "gap")}
    # Of answers, of labels beside rewards, of clauses; and of labels by other weights, with `profile_undecided`.
    apart = (
        "clause",
        "profile_",
        "scorecard_",
        "round_",
        "reward_",
        "best_of",
        "sample_",
        "criteri",
        "reference_",
        "rubric_",
    )
    others = {each.figure for each in adaptive.figures if not each.figure.startswith(apart)}
    assert others <= listed | gold, "a figure that is not known to hold where votes are adaptive"
    far, seen = [], 0
    key = {(each.figure, each.judge, each.principle_id, each.subject): each for each in whole.figures}
    for each in adaptive.figures:
        true = key.get((each.figure, each.judge, each.principle_id, each.subject))
        if each.figure not in OF_VOTES or each.value is None or each.low is None or each.high is None:
            continue
        assert true is not None
        assert true.value is not None
        seen += 1
        reach = 1.3 * max(each.high - each.value, each.value - each.low)
        if abs(true.value - each.value) > reach + 0.003:
            far.append((each, true.value))
    assert seen > 150
    assert len(far) <= 0.03 * seen, far[:5]


def test_of_all_that_were_cast_they_would_be_those_of_close_pairs(ran: Ran) -> None:
    """Why only the first wave's votes count."""

    def entropy(view: str, run: Run) -> float:
        bits = "-coalesce(p_b * log2(nullif(p_b, 0)), 0) - coalesce((1 - p_b) * log2(nullif(1 - p_b, 0)), 0)"
        query = f"SELECT avg({bits}) FROM {view} WHERE run_id = '{run.run_id}' AND kind = 'first-last'"
        return float(table(ran.root, query)[0][0])

    true = entropy("averaged_votes", ran.all)
    assert abs(entropy("first_votes", ran.adaptive) - true) < 0.02
    assert entropy("averaged_votes", ran.adaptive) > true + 0.03


def test_the_audit_says_that_votes_stopped(ran: Ran, audited: tuple[Audited, Audited]) -> None:
    whole, adaptive = audited
    assert not any(figure.figure == "votes_spared" for figure in whole.figures)
    spared = adaptive("votes_spared", "planted")
    assert spared.value == ran.adaptive.counts["votes_spared"]
    assert spared.n == ran.all.counts["judgements"]
    assert "too high" in adaptive("agreement").note
    assert adaptive.value("agreement") > whole.value("agreement")
    shown = command("audit", ran.adaptive.run_id, "--warehouse", ran.root, "--out", ran.root.parent / "report.html",
                   "--replicates", 100)  # fmt: skip
    assert "Votes not needed" in shown
    assert "votes were adaptive" in (ran.root.parent / "report.html").read_text(encoding="utf-8")


def test_an_export_says_so_too(ran: Ran) -> None:
    out = ran.root.parent / "out"
    command("export", ran.adaptive.run_id, "--warehouse", ran.root, "--format", "dpo", "--out", out,
            "--where", "votes_spared > 0")  # fmt: skip
    assert "too sure" in (out / "README.md").read_text(encoding="utf-8")
    [(further,)] = beside(ran, "avg(abs(y.p_b - 0.5) - abs(x.p_b - 0.5))", "y.votes_spared > 0")
    assert 0.005 < float(str(further)) < 0.1


@pytest.mark.parametrize(
    ("settings", "votes"),
    [
        (["judge.verdict.n=3"], {"one": 2, "two": 6, "weak": 1}),
        (["judge.verdict.n=1", "judge.aggregate=majority"], {"one": 2, "two": 2, "weak": 1}),
    ],
)
async def test_a_jury_of_several_methods_is_asked_principle_by_principle(
    tmp_path: Path, settings: list[str], votes: dict[str, int]
) -> None:
    recipe, root = small_project(tmp_path, 24, MIXED), tmp_path / "w"
    run = await run_once(recipe, root, [ADAPTIVE, "perturb.share=0.2", *settings])
    assert run.finished_at
    assert run.counts["votes_spared"] > 0
    assert run.counts["votes_missing"] == 0
    each = table(root, "SELECT DISTINCT judge, n FROM (SELECT judge, count(*) AS n FROM judgements "
                       "GROUP BY judge, pair_id, principle_id) ORDER BY 1")  # fmt: skip
    assert dict(each) == votes
    rows = table(root, 'SELECT judge, asked = "cast", spared FROM missing_votes ORDER BY judge')
    assert [row[:2] for row in rows] == [(name, True) for name in votes]
    assert len({spared / votes[judge] for judge, _, spared in rows}) == 1
    assert sum(spared for *_, spared in rows) == run.counts["votes_spared"]
    before = table(root, "SELECT id, p_b, votes, votes_missing, votes_spared FROM preferences ORDER BY id")
    command("relabel", run.run_id, "--warehouse", root)
    again = table(root, "SELECT id, p_b, votes, votes_missing, votes_spared FROM preferences ORDER BY id")
    assert all(row == pytest.approx(was, abs=1e-5) for row, was in zip(again, before, strict=True))


async def test_verdicts_are_asked_for_one_by_one(tmp_path: Path) -> None:
    recipe, root = small_project(tmp_path, 40, PLANTED), tmp_path / "w"
    settings = ["judge.method=verdict", "judge.principles=5", "perturb.share=0.3"]
    run = await run_once(recipe, root, [*settings, ADAPTIVE])
    each = table(
        root,
        "SELECT count(*), count(DISTINCT principle_id) FROM judgements JOIN preferences AS p ON p.id = pair_id "
        f"WHERE p.run_id = '{run.run_id}' AND p.kind = 'first-last' GROUP BY pair_id",
    )
    assert {principles for _, principles in each} == {5}, "each principle is asked before one is asked again"
    assert min(votes for votes, _ in each) == 10  # a quarter of 5 principles, 4 verdicts and 2 orders
    assert run.counts["votes_spared"] > 0.4 * 40 * len(each)
    found = Audited(root, run.run_id)
    # Repeats are asked for of close pairs alone; of perturbations all are.
    assert found("repetition_stability", "planted").n == 5 * 2 * len(
        table(root, f"FROM preferences WHERE run_id = '{run.run_id}' AND kind = 'perturbation' AND votes > 0")
    )


@pytest.mark.parametrize(
    ("settings", "refused"),
    [
        (["judge.principles=2"], True),
        (["judge.principles=3"], False),
        (["judge.principles=1", "judge.repeats=3"], False),
        (["judge.principles=1", "judge.repeats=3", "judge.aggregate=majority"], True),
        (["judge.principles=1", "judge.method=verdict", "judge.verdict.n=2"], True),
    ],
)
def test_a_recipe_of_which_no_vote_can_be_spared_is_refused(tmp_path: Path, settings: list[str], refused: bool) -> None:
    path = small_project(tmp_path, 2, PLANTED)
    recipe = load_recipe(path, [ADAPTIVE, *settings])
    if refused:
        with pytest.raises(RecipeError, match="none can be spared"):
            prepare(recipe, path, tmp_path / "w")
    else:
        assert prepare(recipe, path, tmp_path / "w").prompts == 2


async def test_a_run_with_all_votes_is_the_run_that_it_was(tmp_path: Path) -> None:
    recipe = small_project(tmp_path, 4, PLANTED)
    ids = {
        (await run_once(recipe, tmp_path / str(place), overrides)).run_id
        for place, overrides in enumerate(([], ["judge.votes=all"], ["judge.sure=0.99"]))
    }
    assert len(ids) == 1
    assert (await run_once(recipe, tmp_path / "other", [ADAPTIVE])).run_id not in ids
