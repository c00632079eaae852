"""One preference's provenance is enough to make its answers, its votes and its label anew."""

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
from constitution.judge import SAMPLING, read_labels
from constitution.recipe import FakeModel
from constitution.records import Exemplar, Message, Principle, Sampling
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


@pytest.fixture
async def found(tmp_path: Path) -> list[dict[str, Any]]:
    """The rows of provenance() for one kept pair of a run whose principles weigh differently."""
    text = (ROOT / "principles" / "general" / "1.1.0.toml").read_text(encoding="utf-8")
    text = text.replace('name = "general"', 'name = "weighed"').replace('version = "1.1.0"', 'version = "1.0.0"')
    weights = iter(range(2, 99))
    lines = [
        f"{line}\nweight = {next(weights)}" if line.startswith("id = ") else line
        for line in text.splitlines()
        if not line.startswith("weight")
    ]
    folder = tmp_path / "principles" / "weighed"
    folder.mkdir(parents=True)
    (folder / "1.0.0.toml").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    await run_once(tmp_path / "recipe.toml", tmp_path / "warehouse", [])
    with connect(tmp_path / "warehouse") as connection:
        answer = ask(connection, "FROM provenance((SELECT id FROM preferences WHERE kept ORDER BY id LIMIT 1))")
        return [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]


def principle(row: dict[str, Any]) -> Principle:
    return Principle(id=row["principle_id"], **row["principle"])


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
        p_first, mass = read_labels(done.choice_logprobs)
        assert (1 - p_first if a_first else p_first, mass) == (row["p_b"], row["label_mass"])
    weights = [row["principle"]["weight"] for row in votes]
    assert len(set(weights)) == 3
    label = sum(row["p_b"] * weight for row, weight in zip(votes, weights, strict=True)) / sum(weights)
    assert label == pytest.approx(pair["p_b"])
