"""Exports of groups of answers by their rewards: which rows, what the columns say, and what is refused."""

from __future__ import annotations

import json
import shutil
import statistics
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from export_runs import NO_CLEANING, make_export
from small_project import table
from warehouse_rows import CONSTITUTION, RUN, fill, prompt, run

from constitution.errors import InputError
from constitution.export import Cleaning, Exported, Settings, card, export, sides
from constitution.export.formats import FORMATS
from constitution.export.layouts import LAYOUTS
from constitution.records import Preference, Response, Reward, Run
from constitution.warehouse import Warehouse

GROUPS: dict[int, list[tuple[str, str, float | None, float]]] = {
    0: [("a", "sample", 0.9, 0), ("b", "sample", 0.9, 0), ("c", "sample", 0.25, 0)],
    1: [("a", "sample", 0.5, 0), ("b", "sample", 0.5, 0)],
    2: [("a", "sample", None, 0), ("b", "sample", None, 0)],
    3: [("a", "sample-cut", 0.75, 0), ("b", "sample", 0.625, 0), ("c", "sample", 0.25, 0)],
    4: [("a", "initial", 0.25, 0), ("b", "revision", 0.75, 0)],
    5: [("a", "initial", 1.0, 0), ("b", "sample", 0.75, -0.625), ("c", "sample", 0.25, 0), ("d", "sample", None, 0)],
}
"""Of each prompt its answers: a letter, the kind, the reward by rubric and its length penalty. By rule all have 1."""
BEST = {"0a", "3b", "4b", "5c"}


def answers(number: int) -> Iterator[tuple[Response, list[Reward]]]:
    """The ids are the prompt's number and the letter."""
    prompt_id = prompt(number).id
    for letter, made_as, value, penalty in GROUPS[number]:
        id, kind, cut = f"{number}{letter}", made_as.removesuffix("-cut"), made_as.endswith("cut")
        text = f"This is answer {letter} to question number {number}." + " And more of it." * (letter == "a")
        sampler = "plain" if kind == "sample" else None
        response = Response(
            id, RUN, prompt_id, kind, int(kind == "revision"), text, "cut" if cut else "ok", "m", sampler=sampler,  # type: ignore[arg-type]
            parent_id=f"{number}a" if kind == "revision" else None,
        )  # fmt: skip
        reason = "readings-missing" if value is None else None
        rubric = Reward(
            f"{id}-w",
            RUN,
            prompt_id,
            id,
            "rubric",
            value,
            value,
            2,
            0,
            None,
            penalty,
            ("judge",),
            reason,  # type: ignore[arg-type]
        )
        yield response, [rubric, Reward(f"{id}-r", RUN, prompt_id, id, "rule", 1.0, 1.0, 0, 0, None, None)]


PAIRS = {"0a": "0c", "3c": "3b", "4b": "4a", "5b": "5d", "1b": "1a"}
"""Chosen by votes, and rejected."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    warehouse = Warehouse(tmp_path_factory.mktemp("groups") / "warehouse")
    warehouse.write_principles(RUN, CONSTITUTION)
    warehouse.write_prompts(RUN, 0, [prompt(number) for number in GROUPS])
    rows = [row for number in GROUPS for row in answers(number)]
    warehouse.write_part("responses", RUN, [response for response, _ in rows])
    warehouse.write_part("rewards", RUN, [reward for _, rewards in rows for reward in rewards])
    pairs = [
        Preference(
            f"{chosen}-{rejected}", RUN, prompt(int(chosen[0])).id, "best-worst", chosen, rejected, 0.25, 2, 0, 1.0,
            1.0, 0.98, None,
        )
        for chosen, rejected in PAIRS.items()
    ]  # fmt: skip
    warehouse.write_part("preferences", RUN, pairs)
    made = run()
    recipe = {
        "name": "groups",
        "sample": {"plain": {"n": 3}},
        "reward": {"by": ["rubric", "rule"], "combine": "mean", "length": {"limit": 300, "penalty": 1.0, "ramp": 50}},
        "judge": {"pairs": ["best-worst"]},
    }
    made = replace(made, recipe=recipe)
    warehouse.write_run(made)
    warehouse.rebuild_views()
    return warehouse.root, made


Made = tuple[Path, Run]


def exported(made: Made, out: Path, format: str, **settings: Any) -> tuple[Exported, list[dict[str, Any]]]:
    return make_export(*made, out, format, **{"test": 0.0, **settings})


def reasons(made: Made, done: Exported) -> dict[str, str]:
    query = f"SELECT id, drop_reason FROM exported WHERE export_id = '{done.export_id}' AND drop_reason IS NOT NULL"
    return dict(table(made[0], query))


SELECTED: list[tuple[dict[str, Any], set[str]]] = [
    ({"select": "best"}, BEST),
    ({"select": "best", "unanimous": "keep"}, BEST | {"1a"}),
    ({"select": "best", "above": 0.75}, {"0a", "4b"}),
    ({"above": 0.25}, {"0a", "0b", "0c", "1a", "1b", "3b", "3c", "4a", "4b", "5c"}),
    ({"above": 0.5}, {"0a", "0b", "1a", "1b", "3b", "4b"}),
    ({"source": "rule", "select": "best", "unanimous": "keep"}, {"0a", "1a", "2a", "3b", "4a", "5b"}),
    ({"source": "rule", "above": 1, "where": "sampler = 'plain' AND NOT unanimous"}, set()),
    ({"select": "best", "where": "id <> '0a' AND reward < 0.7 OR reward_std > 0.35"}, {"0a", "3b", "4b", "5c"}),
]


@pytest.mark.parametrize(("settings", "wanted"), SELECTED)
def test_sft_takes_the_answers_that_their_rewards_speak_for(
    made: Made, tmp_path: Path, settings: dict[str, Any], wanted: set[str]
) -> None:
    if not wanted:
        with pytest.raises(InputError, match=r"no row is left: 1 cut, .* where"):
            exported(made, tmp_path / "out", "sft", **settings)
        return
    _, rows = exported(made, tmp_path / "out", "sft", **settings)
    assert {row["response_id"] for row in rows} == wanted
    totals = {response.id: rewards for number in GROUPS for response, rewards in answers(number)}
    source = settings.get("source", "rubric")
    for row in rows:
        assert row["reward"] == totals[row["response_id"]][source == "rule"].total
        assert row["reward_source"] == source
        assert row["sampler"] == ("plain" if row["kind"] == "sample" else None)


def test_each_answer_that_is_not_taken_has_its_reason(made: Made, tmp_path: Path) -> None:
    done, _ = exported(made, tmp_path / "best", "sft", select="best")
    assert reasons(made, done) == {
        "0b": "not-best", "0c": "not-best", "1a": "unanimous", "1b": "unanimous", "2a": "no-reward", "2b": "no-reward",
        "3a": "cut", "3c": "not-best", "4a": "not-best", "5a": "group", "5b": "not-best", "5d": "no-reward",
    }  # fmt: skip
    done, _ = exported(made, tmp_path / "above", "sft", above=0.75)
    below = {id for id, why in reasons(made, done).items() if why == "below"}
    assert below == {"0c", "1a", "1b", "3b", "3c", "4a", "5b", "5c"}
    [(detail,)] = table(made[0], f"SELECT drop_detail FROM exported WHERE export_id = '{done.export_id}' AND id = '5b'")
    assert detail == "0.125"


@pytest.mark.parametrize(
    ("settings", "good", "bad"),
    [
        ({}, {"0a", "0b", "1a", "1b", "3b", "4b", "5a"}, {"0c", "3c", "4a", "5b", "5c"}),
        ({"good": 0.75, "bad": 0.25}, {"0a", "0b", "4b", "5a"}, {"5b"}),
        ({"good": 1.0, "bad": 0.3}, {"5a"}, {"0c", "3c", "4a", "5b", "5c"}),
    ],
)
def test_kto_by_a_bar_or_two(
    made: Made, tmp_path: Path, settings: dict[str, Any], good: set[str], bad: set[str]
) -> None:
    done, rows = exported(made, tmp_path / "out", "kto", **settings)
    assert {row["response_id"] for row in rows if row["label"]} == good
    assert {row["response_id"] for row in rows if not row["label"]} == bad
    assert all(row["score"] == row["reward"] and row["readings"] == 2 for row in rows)
    assert {id for id, why in reasons(made, done).items() if why == "no-reward"} == {"2a", "2b", "5d"}
    between = {id for id, why in reasons(made, done).items() if why == "between"}
    assert between == {f"{n}{row[0]}" for n, rows in GROUPS.items() for row in rows} - good - bad - {
        "2a", "2b", "5d", "3a",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("where", "lacks"), [("reward >= 0.5", "bad"), ("reward < 0.5", "good"), ("reward IS NOT NULL", "")]
)
def test_kto_of_one_side_says_so(made: Made, tmp_path: Path, where: str, lacks: str) -> None:
    done, _ = exported(made, tmp_path / "out", "kto", where=where)
    assert done.lacks == lacks
    card = (done.out / "README.md").read_text(encoding="utf-8")
    assert ("KTO learns from both sides" in card, f"No answer is {lacks}:" in card) == (bool(lacks), bool(lacks))


def test_pairs_by_the_gap_of_their_rewards(made: Made, tmp_path: Path) -> None:
    def ids(rows: list[dict[str, Any]]) -> set[str]:
        return {row["chosen_id"] for row in rows}

    done, rows = exported(made, tmp_path / "all", "dpo")
    assert ids(rows) == PAIRS.keys()
    assert {row["chosen_id"]: (row["reward_chosen"], row["reward_rejected"]) for row in rows} == {
        "0a": (0.9, 0.25), "3c": (0.25, 0.625), "4b": (0.75, 0.25), "5b": (0.125, None), "1b": (0.5, 0.5),
    }  # fmt: skip
    for format in ("dpo", "robust"):
        done, rows = exported(made, tmp_path / format, format, min_gap=0.5)
        assert ids(rows) == {"0a", "4b"}
        assert reasons(made, done) == {"3c-3b": "min-gap", "1b-1a": "min-gap", "5b-5d": "no-reward"}
    done, rows = exported(made, tmp_path / "margin", "reward", margin="gap")
    assert {row["chosen_id"]: row["margin"] for row in rows} == {"0a": 0.65, "4b": 0.5, "1b": 0.0}
    assert reasons(made, done) == {"3c-3b": "min-gap", "5b-5d": "no-reward"}


def test_grpo_leaves_out_groups_without_variance(made: Made, tmp_path: Path) -> None:
    done, rows = exported(made, tmp_path / "out", "grpo")
    numbers = {prompt(number).id: number for number in GROUPS}
    assert {numbers[row["prompt_id"]] for row in rows} == {0, 3, 4, 5}
    assert {numbers[id]: why for id, why in reasons(made, done).items()} == {1: "unanimous", 2: "no-reward"}
    assert "unanimous | all rewards of its prompt" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    totals = {
        number: [
            rewards[0].total
            for response, rewards in answers(number)
            if rewards[0].total is not None and (number == 4 or response.kind == "sample")
        ]
        for number in GROUPS
    }
    for row in rows:
        known = totals[numbers[row["prompt_id"]]]
        assert row["group_size"] == len(known)
        assert row["reward_mean"] == pytest.approx(statistics.fmean(known))
        assert row["reward_std"] == pytest.approx(statistics.stdev(known))
        assert "answer" not in json.dumps(row["prompt"][-1])
        assert not {"completion", "chosen", "rejected"} & row.keys()
    _, rows = exported(made, tmp_path / "keep", "grpo", unanimous="keep")
    assert {numbers[row["prompt_id"]]: row["group_size"] for row in rows} == {0: 3, 1: 2, 2: None, 3: 3, 4: 2, 5: 2}


def test_every_sample_of_a_prompt_is_on_one_side_and_cleaned_with_it(made: Made, tmp_path: Path) -> None:
    sides: dict[str, set[str]] = {}
    for format, settings in (("kto", {}), ("sft", {"above": -10.0}), ("grpo", {}), ("dpo", {})):
        _, rows = exported(made, tmp_path / format, format, test=0.5, **settings)
        for row in rows:
            sides.setdefault(row["prompt_id"], set()).add(row["split"])
    assert len(sides) == 5
    assert all(len(found) == 1 for found in sides.values())
    assert set.union(*sides.values()) == {"train", "test"}
    (tmp_path / "eval.jsonl").write_text(json.dumps({"prompt": "question 0\n\nagain 0"}))
    cleaning = Cleaning(dedupe="off", decontaminate=(tmp_path / "eval.jsonl",), min_words=9)
    done, rows = exported(made, tmp_path / "clean", "kto", cleaning=cleaning)
    assert {id for id, why in reasons(made, done).items() if why == "contaminated"} == {"0a", "0b", "0c"}
    assert {row["response_id"] for row in rows} == {"1a", "4a", "5a"}
    before = {path.name: path.read_bytes() for path in (tmp_path / "clean").rglob("*.*") if path.is_file()}
    again = Settings(format="kto", test=0.0, cleaning=cleaning)
    export(made[0], made[1].run_id, again, tmp_path / "clean", overwrite=True)
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "clean").rglob("*.*") if path.is_file()}


BY: dict[str, dict[str, Any]] = {
    "sft": {"select": "best"}, "dpo": {"min_gap": 0.25}, "reward": {"margin": "gap"}, "robust": {"min_gap": 0.25},
    "kto": {"source": "rubric"}, "grpo": {},
}  # fmt: skip


@pytest.mark.parametrize("confirm", ["reward", "construction"])
def test_labels_without_votes(made: Made, tmp_path: Path, confirm: str) -> None:
    root, judged = made
    shutil.copytree(root, tmp_path / "w")
    judged = replace(judged, recipe={**judged.recipe, "judge": {"pairs": ["best-worst"], "confirm": confirm}})
    Warehouse(tmp_path / "w").write_run(judged)
    other = (tmp_path / "w", judged)
    done, rows = exported(other, tmp_path / "out", "reward")
    wanted = {"0a": 0.65, "4b": 0.5, "1b": 0.0} if confirm == "reward" else dict.fromkeys(PAIRS, 0.0)
    assert {row["chosen_id"]: row["margin"] for row in rows} == wanted
    said = {"reward": "the one with the higher reward is", "construction": "one of which is meant to be better"}[
        confirm
    ]
    card = (done.out / "README.md").read_text(encoding="utf-8")
    assert said in card
    assert "Language models voted" not in card
    for format, settings in (("reward", {"margin": "log-odds"}), ("dpo", {"labels": "sampled"}), ("robust", {})):
        with pytest.raises(InputError, match=f"is about votes, and the labels of {RUN} are by {confirm}"):
            exported(other, tmp_path / "no", format, **settings)


def table_of(done: Exported) -> dict[str, list[str]]:
    """The card's table of lengths and rewards: cells by side."""
    card = (done.out / "README.md").read_text(encoding="utf-8")
    lines = card.split("## Lengths and rewards")[1].split("\n## ")[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    return {first: rest for first, *rest in cells}


def written(numbers: list[float]) -> list[str]:
    texts = [*(f"{each:.1f}" for each in numbers[:4]), *(f"{each:.3f}" for each in numbers[4:])]
    return [text.replace("-", "−") for text in texts]


def test_the_card_has_lengths_and_rewards_of_each_side(made: Made, tmp_path: Path) -> None:
    known = [each for number in GROUPS for each in answers(number)]
    texts = {response.id: response.text for response, _ in known}
    totals = {response.id: rewards[0].total for response, rewards in known}
    done, rows = exported(made, tmp_path / "out", "dpo", labels="sampled", seed=3)
    assert {row["chosen_id"] for row in rows} - PAIRS.keys(), "some label is drawn against the votes"
    sides = {side: [texts[row[f"{side}_id"]] for row in rows] for side in ("chosen", "rejected")}
    found = table_of(done)
    words: dict[str, list[int]] = {}
    means: dict[str, list[float]] = {}
    for side, said in sides.items():
        words[side], signs = [len(text.replace(".", "").split()) for text in said], list(map(len, said))
        assert all(row[f"reward_{side}"] == totals[row[f"{side}_id"]] for row in rows)  # a drawn label takes its own
        rewards = [total for row in rows if (total := totals[row[f"{side}_id"]]) is not None]
        means[side] = [
            f(values) for values in (words[side], signs, rewards) for f in (statistics.fmean, statistics.median)
        ]
        assert found[side] == [str(len(rows)), *written(means[side])]
    less = [one - other for one, other in zip(means["chosen"], means["rejected"], strict=True)]
    assert found["chosen less rejected"] == ["", *written(less)]
    card = (done.out / "README.md").read_text(encoding="utf-8")
    longer = [one > other for one, other in zip(words["chosen"], words["rejected"], strict=True)]
    shorter = [one < other for one, other in zip(words["chosen"], words["rejected"], strict=True)]
    shares = [f"{100 * sum(each) / len(each):.1f}\N{NO-BREAK SPACE}%" for each in (longer, shorter)]
    assert f"more words in {shares[0]} of the pairs, and fewer in {shares[1]}" in card
    assert "Rewards are by `rubric`, one of the run's sources (rubric, rule)" in card
    assert "| reward.by | rubric, rule |" in card
    assert "| sample.plain.n | 3 |" in card
    assert "| reward.length | limit 300, penalty 1.0, ramp 50 |" in card
    done, _ = exported(made, tmp_path / "kto", "kto")
    assert {"good", "bad", "good less bad"} <= table_of(done).keys()
    assert "The score here is the reward." in (done.out / "README.md").read_text(encoding="utf-8")
    done, _ = exported(made, tmp_path / "sft", "sft", select="best")
    assert table_of(done)["learnt"][0] == "4"
    assert "drawn by their ids" not in (done.out / "README.md").read_text(encoding="utf-8")
    manifest = json.loads((done.out / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["rewards"] == {"source": "rubric", "scores": False}


def test_of_many_rows_some_are_measured(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (card, sides):
        monkeypatch.setattr(module, "MOST", 3)
    done, _ = exported(made, tmp_path / "some", "kto")
    assert sum(int(table_of(done)[side][0]) for side in ("good", "bad")) == 3
    assert "Of 3 rows, drawn by their ids." in (done.out / "README.md").read_text(encoding="utf-8")


LAID_OUT = (
    ("messages", "kto"), ("openai", "sft"), ("llama-factory", "kto"), ("axolotl", "dpo"), ("verl", "grpo"),
    ("openrlhf", "reward"),
)  # fmt: skip


@pytest.mark.parametrize(("layout", "format"), LAID_OUT)
def test_layouts_take_them(made: Made, tmp_path: Path, layout: str, format: str) -> None:
    """With the columns of rewards, where a reader takes columns that it does not know; else the card says so."""
    wanted = {"pair": "reward_chosen", "answer": "reward", "prompt": "reward_mean"}[FORMATS[format].unit]
    asked = {"format": format, "layout": layout, "file_type": "jsonl", "test": 0.0, "cleaning": NO_CLEANING}
    done = export(made[0], made[1].run_id, Settings.model_validate({**asked, **BY[format]}), tmp_path / "out")
    rows = [json.loads(line) for line in (tmp_path / "out" / done.files[0].path).read_text().splitlines()]
    assert len(rows) == {"kto": 12, "sft": 4, "grpo": 4}.get(format, 2 + (format == "reward"))
    if LAYOUTS[layout].tasks[format].only:
        assert f"`{wanted}`" in (done.out / "README.md").read_text(encoding="utf-8").split("Not kept")[1]
    else:
        assert all(row[wanted] is not None for row in rows)


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("sft", {"source": "grade"}, "has no rewards by grade, but those by rubric, rule"),
    ("kto", {"principles": ["kind"]}, "--principles: the scores here are rewards"),
]


@pytest.mark.parametrize(("format", "settings", "said"), REFUSED)
def test_what_a_run_does_not_have_is_refused(
    made: Made, tmp_path: Path, format: str, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        exported(made, tmp_path / "out", format, **settings)


@pytest.mark.parametrize(
    ("format", "settings"),
    [("sft", {"select": "best"}), ("sft", {"above": 0.5}), ("dpo", {"min_gap": 0.1}), ("reward", {"margin": "gap"}),
     ("kto", {"source": "rubric"}), ("grpo", {"source": "rule"})],
)  # fmt: skip
def test_a_run_without_rewards(tmp_path: Path, format: str, settings: dict[str, Any]) -> None:
    root = fill(tmp_path / "w").root
    with pytest.raises(InputError, match=r"has no rewards (to choose by|by \w+, but none)"):
        make_export(root, run(), tmp_path / "out", format, **settings)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"format": "sft", "select": "best", "rounds": "all"}, "rounds: select and above"),
        ({"format": "sft", "unanimous": "keep"}, "unanimous: is for select best"),
        ({"format": "kto", "good": 0.4, "bad": 0.6}, "bad: is above good"),
        ({"format": "dpo", "margin": "gap"}, "margin is for reward alone"),
        ({"format": "reward", "margin": "gap", "clip": 0.9}, "clip: is for log-odds"),
        ({"format": "grpo", "select": "best"}, "select is for sft alone"),
        ({"format": "sft", "min_gap": 0.1}, "min-gap is for dpo, reward, robust alone"),
    ],
)
def test_settings_that_do_not_go_together(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Settings.model_validate(settings)
