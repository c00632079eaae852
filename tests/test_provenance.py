"""One preference's provenance is enough to make its answers, its votes and its label again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from run_once import run_once

from constitution import templates
from constitution.engines.base import Request
from constitution.engines.fake import FakeEngine
from constitution.identity import digest
from constitution.judge.methods import METHODS
from constitution.judge.question import SAMPLING
from constitution.judge.read import checklist_sum, outgrade, read_choices
from constitution.judge.ways import stop_of
from constitution.recipe import FakeModel
from constitution.records import Criterion, Exemplar, Message, Principle, Sampling
from constitution.warehouse import ask, connect

ROOT = Path(__file__).parents[1]
RECIPE = """
name = "small"
constitution = "weighed@1.0.0"
[prompts]
format = "sql"
query = "SELECT 'How does thing ' || n || ' work?' AS prompt FROM range(4) t(n)"
[model.policy]
engine = "fake"
[model.judge]
engine = "fake"
model = "fake-judge"
position_bias = 0.7
[revise]
critique = { temperature = 0.5 }
[judge]
principles = 3
"""


async def provenance(tmp_path: Path, *settings: str) -> list[dict[str, Any]]:
    """The rows of provenance() for one kept pair of a run whose principles weigh differently."""
    text = (ROOT / "principles" / "general" / "1.2.0.toml").read_text(encoding="utf-8")
    text = text.replace('name = "general"', 'name = "weighed"').replace('version = "1.2.0"', 'version = "1.0.0"')
    weights, lines, table = iter(range(2, 99)), [], ""
    for line in text.splitlines():
        table = line if line.startswith("[") else table
        if table != "[[principles]]" or not line.startswith("weight"):
            lines.append(line)
        if table == "[[principles]]" and line.startswith("id = "):
            lines.append(f"weight = {next(weights)}")
    folder = tmp_path / "principles" / "weighed"
    folder.mkdir(parents=True)
    (folder / "1.0.0.toml").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    await run_once(tmp_path / "recipe.toml", tmp_path / "warehouse", list(settings))
    with connect(tmp_path / "warehouse") as connection:
        answer = ask(connection, "FROM provenance((SELECT id FROM preferences WHERE kept ORDER BY id LIMIT 1))")
        return [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]


@pytest.fixture
async def found(tmp_path: Path) -> list[dict[str, Any]]:
    return await provenance(tmp_path)


def principle(row: dict[str, Any]) -> Principle:
    criteria = tuple(Criterion(**each) for each in row["principle"]["criteria"])
    own = {name: value for name, value in row["principle"].items() if value is not None}
    return Principle(id=row["principle_id"], **{**own, "criteria": criteria})


def engine(row: dict[str, Any]) -> FakeEngine:
    """The engine as the run's recipe has it, checked against the identity of the model that the row names."""
    models = json.loads(row["recipe"])["model"]
    made = FakeEngine(FakeModel(**models["judge" if row["part"] == "vote" else "policy"]))
    assert made.describe() == json.loads(row["model_identity"])
    return made


def conversation(rows: list[dict[str, Any]]) -> tuple[Message, ...]:
    [row] = [row for row in rows if row["part"] == "prompt"]
    return tuple(Message(**message) for message in json.loads(row["text"]))


async def test_answers_can_be_made_anew(found: list[dict[str, Any]]) -> None:
    initial, *revisions = [row for row in found if row["part"] == "response"]
    assert len(revisions) == 2
    prompt, parent = conversation(found), initial["text"]
    section = json.loads(initial["recipe"])["revise"]
    done = await engine(initial).generate(Request(prompt, Sampling(**json.loads(initial["sampling"])), initial["seed"]))
    assert done.text == parent
    for row in revisions:
        assert row["templates"] == dict(templates.REVISE.texts)
        shown = [
            Exemplar(**{**each, "messages": tuple(Message(**message) for message in each["messages"])})
            for each in row["exemplars"][: section["exemplars"]]
        ]
        assert len(shown) == 2
        rule = principle(row)
        asked = templates.critique_messages(prompt, parent, rule, shown)
        done = await engine(row).generate(Request(asked, Sampling(**section["critique"]), row["critique_seed"]))
        assert done.text == row["critique"]
        asked = templates.revision_messages(prompt, parent, done.text, rule, shown)
        done = await engine(row).generate(Request(asked, Sampling(**json.loads(row["sampling"])), row["seed"]))
        assert done.text == row["text"]
        parent = row["text"]


async def test_votes_and_label_can_be_made_anew(found: list[dict[str, Any]]) -> None:
    pair, votes = found[0], [row for row in found if row["part"] == "vote"]
    answers = {row["round"]: row["text"] for row in found if row["part"] == "response"}
    a, b = answers[0], answers[max(answers)]
    [asked_of] = [row for row in found if row["part"] == "prompt"]
    assert len(votes) == 6
    for row in votes:
        assert row["templates"] == dict(templates.JUDGE.texts)
        a_first = row["what"].startswith("a first")
        nonce = digest([json.loads(row["recipe"])["seed"], asked_of["id"]])[:6]
        asked = templates.vote_messages(conversation(found), *((a, b) if a_first else (b, a)), principle(row), nonce)
        done = await engine(row).generate(Request(asked, SAMPLING, row["seed"], choices=templates.LABELS))
        (first, second), mass, _ = read_choices(done, templates.LABELS)
        p_first = first / (first + second)
        assert (1 - p_first if a_first else p_first, mass) == (row["p_b"], row["label_mass"])
    weights = [row["principle"]["weight"] for row in votes]
    assert len(set(weights)) == 3
    label = sum(row["p_b"] * weight for row, weight in zip(votes, weights, strict=True)) / sum(weights)
    assert label == pytest.approx(pair["p_b"])


@pytest.mark.parametrize("method", ["rationale", "score", "rubric"])
async def test_votes_by_every_method_can_be_made_anew(tmp_path: Path, method: str) -> None:
    settings = [f"judge.method={method}", "judge.repeats=2", "judge.rationale={temperature=0.5, max_tokens=40}"]
    found = await provenance(tmp_path, *settings)
    votes = [row for row in found if row["part"] == "vote"]
    answers = {row["round"]: row["text"] for row in found if row["part"] == "response"}
    a, b = answers[0], answers[max(answers)]
    assert len(votes) == (12 if method == "rationale" else 6)
    for row in votes:
        assert row["templates"] == dict(METHODS[method].templates.texts)  # type: ignore[index]
        p_first = row["p_b"] if row["what"].startswith("b first") else 1 - row["p_b"]
        shown = (a, b) if row["what"].startswith("a first") else (b, a)
        again, mass = await made_anew(row, method, found, shown)
        assert again == pytest.approx(p_first)
        assert mass == row["label_mass"]


async def made_anew(
    row: dict[str, Any], method: str, found: list[dict[str, Any]], shown: tuple[str, str]
) -> tuple[float, float]:
    """The vote of `row` and its label mass, out of nothing but the rows of provenance()."""
    judge, rule, seed, recipe = engine(row), principle(row), row["seed"], json.loads(row["recipe"])
    [asked_of] = [each for each in found if each["part"] == "prompt"]
    prompt, nonce = conversation(found), digest([recipe["seed"], asked_of["id"]])[:6]

    async def read(messages: tuple[Message, ...], labels: tuple[str, ...]) -> tuple[tuple[float, ...], float]:
        done = await judge.generate(Request(messages, SAMPLING, seed, choices=labels))
        return read_choices(done, labels)[:2]

    if method == "rationale":
        settings = recipe["judge"]["rationale"]
        sampling = Sampling(**{**settings, "stop": (*settings["stop"], stop_of(templates.RATIONALE))})
        asked = templates.rationale_messages(prompt, *shown, rule, nonce)
        assert (await judge.generate(Request(asked, sampling, seed))).text.strip() == row["text"]
        ended = templates.rationale_messages(prompt, *shown, rule, nonce, row["text"])
        (first, second), mass = await read(ended, templates.LABELS)
        return first / (first + second), mass
    if method == "score":
        asked_each = [templates.score_messages(prompt, text, rule, nonce) for text in shown]
        graded = [await read(asked, templates.GRADES) for asked in asked_each]
        return outgrade(graded[0][0], graded[1][0]), min(mass for _, mass in graded)
    sums, masses = [], []
    for text in shown:
        readings = [await read(templates.rubric_messages(prompt, text, c, nonce), ("Y", "N")) for c in rule.criteria]
        sums.append(checklist_sum(rule.criteria, [yes / (yes + no) for (yes, no), _ in readings]))
        masses += [mass for _, mass in readings]
    return 0.5 + (sums[0] - sums[1]) / 2, min(masses)
