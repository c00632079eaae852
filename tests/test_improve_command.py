"""`constitution principles improve`: from a file of preferences to a proposal, resumed, decided by a person."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from run_once import run_once

from constitution.ask.panel import Panel
from constitution.cli import app
from constitution.engines import Completion, Engine, Request
from constitution.engines.fake.world import SENTENCES
from constitution.principles import check
from constitution.principles.languages import known
from constitution.propose.file import read
from constitution.propose.gold import read_gold
from constitution.propose.wordings import Writer, Wrong, messages
from constitution.recipe import FakeModel, load_recipe
from constitution.records import Criterion, Principle
from constitution.warehouse import ask, connect

RECIPE = """
name = "imp"
constitution = "kind"
[prompts]
path = "prefs.jsonl"
answers = ["chosen", "rejected"]
gold = "chosen"
[model.policy]
engine = "fake"
[model.judge]
engine = "fake"
model = "judge"
accuracy = { "which answer is unlike" = 0.1, "*" = 0.97 }
[judge]
pairs = ["given"]
"""
KIND = """
name = "kind"
version = "1.0.0"
description = "For a trial."
[[principles]]
id = "careful"
comparison_question = "Which answer is unlike the others?"
[[principles.examples]]
prompt = "How do I do it?"
better = "Check the label before you begin."
worse = "Nobody reads labels, just begin."
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A principle that its judge reads as the opposite, and pairs of which the more careful answer is gold."""
    (tmp_path / "principles" / "kind").mkdir(parents=True)
    (tmp_path / "principles" / "kind" / "1.0.0.toml").write_text(KIND)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    chance, lines = random.Random(1), list[str]()
    while len(lines) < 90:
        sides = sorted([[chance.randint(0, 1) for _ in SENTENCES] for _ in "ab"], key=sum)
        if sum(sides[0]) < sum(sides[1]):
            texts = [" ".join(pair[which] for pair, which in zip(SENTENCES, side, strict=True)) for side in sides]
            row = {"prompt": f"How do I clean thing {len(lines)}?", "chosen": texts[0], "rejected": texts[1]}
            lines.append(json.dumps(row))
    (tmp_path / "prefs.jsonl").write_text("\n".join(lines) + "\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def improve(*more: str) -> Result:
    words = ["principles", "improve", "kind", "--gold", "prefs.jsonl", "--recipe", "recipe.toml", "--impact", "10"]
    return CliRunner().invoke(app, [*words, *more], catch_exceptions=False)


def test_a_kept_wording_is_a_proposal_with_its_tests_and_changes_no_principle(project: Path) -> None:
    before = (project / "principles" / "kind" / "1.0.0.toml").read_bytes()
    told = improve("--also", "requests").output
    assert "careful    whole" in told
    assert "kept" in told
    assert "{+" in told
    assert "their own examples judged rightly: 0 before, 1 after, of 1" in told
    assert "labels that flip with 1 new wordings" in told
    assert (project / "principles" / "kind" / "1.0.0.toml").read_bytes() == before
    assert [path.name for path in (project / "principles").iterdir()] == ["kind"]
    assert check(project / "principles") == []
    found = read(project / "proposals" / "kind-improve" / "proposals.toml")
    [proposal] = found.proposals
    assert (found.kind, found.constitution) == ("improve", "kind@1.0.0")
    assert (proposal.status, proposal.action, proposal.id, proposal.fault) == ("proposed", "replace", "careful", "")
    assert proposal.note.startswith("was: Which answer is unlike the others?; agreement with gold on ")
    assert "on the whole, not by this principle" in proposal.note
    assert "were not measured" in proposal.note
    assert proposal.principle.examples
    assert proposal.principle.critique_request


def test_the_same_call_asks_nothing_again_and_another_one_has_nothing_left(project: Path) -> None:
    assert "0 answered from what was kept" not in improve("--json").output  # the held-out half was judged before
    again = improve()
    assert "\n0 requests, " in again.output
    assert "the same test as on 20" in again.output
    other = improve("--seed", "2", "--name", "other")
    assert "were spent by earlier tests, so new gold is needed" in other.output
    assert read(project / "proposals" / "other" / "proposals.toml").proposals == ()
    told = json.loads(improve("--json").output)
    [principle] = told["principles"]
    assert (principle["decision"], principle["gold"]) == ("kept", "whole")
    assert principle["rise"]["low"] > 0


def test_what_a_person_decided_stays(project: Path) -> None:
    improve()
    path = project / "proposals" / "kind-improve" / "proposals.toml"
    path.write_text(path.read_text().replace('status = "proposed"', 'status = "refused"  # asks for something else'))
    told = improve().output
    assert [each.status for each in read(path).proposals] == ["refused"]
    assert "proposals.before.toml" in told


def test_a_call_is_refused_with_what_to_do(project: Path) -> None:
    bare = ["principles", "improve", "kind", "--gold", "prefs.jsonl"]
    assert "nothing says who judges" in str(CliRunner().invoke(app, bare).exception)
    recipe = project / "recipe.toml"
    recipe.write_text(RECIPE + 'method = "rubric"\n')
    words = ["principles", "improve", "kind", "--gold", "prefs.jsonl", "--recipe", "recipe.toml"]
    assert "read criteria" in str(CliRunner().invoke(app, words).exception)


PRINCIPLE = Principle("careful", "Where?", "Rewrite it.", "Which answer is more careful?")


class Replying(Engine):
    """A writer that says one thing."""

    def __init__(self, text: str, reason: str = "stop") -> None:
        self.text, self.reason = text, reason

    @property
    def model(self) -> str:
        return "replying"

    async def generate(self, request: Request) -> Completion:
        return Completion(self.text, self.reason, 1, 1)


def said(**item: object) -> str:
    return json.dumps([{"comparison_question": "Which answer is kinder?", "reason": "So.", **item}])


@pytest.mark.parametrize(
    ("text", "more", "fault"),
    [
        (said(comparison_question="which answer is  MORE careful"), (), "is the wording that there is"),
        (said(comparison_question="Which is better, the first answer?"), (), "presupposes an order"),
        (said(comparison_question="Is answer B always better?"), (), "presupposes an order"),
        (said(comparison_question="Which answer is kinder?\u202e"), (), "holds signs that are not shown"),
        (said(comparison_question="Which\nanswer?"), (), "line breaks"),
        (said(comparison_question="Which answer is kind " + "and " * 200 + "good?"), (), "characters, more than 600"),
        (said(comparison_question="Which fits {{prompt}}?"), (), "is filled in only in critique_request"),
        (said(comparison_question=["Which?"]), (), "comparison_question: is no text"),
        (said(comparison_question="<|im_end|> Which answer?"), (), "leftover scaffolding"),
        (said(weight=9), (), "has the keys 'comparison_question', 'reason', 'weight'"),
        (said(criteria=[{"question": "Is it not kind?", "good": "maybe"}]), ("criteria",), "criteria: "),
        (said(criteria=[{"question": "It is kind.", "good": "yes"}]), ("criteria",), "is no question"),
        (said(critique_request="{{nope}}", revision_request="Do."), ("requests",), "does not exist"),
    ],
)
async def test_a_hostile_wording_falls_with_its_reason(text: str, more: tuple[str, ...], fault: str) -> None:
    found, failed = await Writer(Replying(text), 1, known("en"), more).propose(PRINCIPLE, (), 1)
    assert (len(found), failed) == (1, [])
    assert fault in found[0].fault


@pytest.mark.parametrize("text", ["Which answer is kinder?", "{}", "[1]", "[]", '[{"a": 1', '[{"a":1,"a":2}]'])
async def test_a_reply_that_is_no_list_is_a_failed_call(text: str) -> None:
    found, failed = await Writer(Replying(text), 1, known("en")).propose(PRINCIPLE, (), 1)
    assert (len(found), len(failed)) == (0, 1)
    _, cut = await Writer(Replying(said(), "length"), 1, known("en")).propose(PRINCIPLE, (), 1)
    assert "ended before its end" in cut[0]


async def test_right_criteria_are_taken(project: Path) -> None:
    text = said(criteria=[{"question": "Is the answer kind?", "good": "yes"}])
    [wording], _ = await Writer(Replying(text), 1, known("en"), ("criteria",)).propose(PRINCIPLE, (), 1)
    assert (wording.fault, wording.principle.criteria) == ("", (Criterion("Is the answer kind?"),))


def test_the_writer_is_shown_pairs_both_ways_round_and_disarmed(project: Path) -> None:
    gold = read_gold("prefs.jsonl", project / "warehouse")
    [asked] = messages(PRINCIPLE, [Wrong(pair) for pair in gold.pairs[:6]], 2, "abc123")
    assert asked.content.count("People prefer answer A") == 3
    assert asked.content.count("[end abc123]") == 18
    assert "Write 2 other wordings" in asked.content


def test_judges_are_the_recipes(project: Path) -> None:
    recipe = load_recipe(project / "recipe.toml")
    assert isinstance(Panel.of(recipe.model, recipe.judge).judges[""], FakeModel)


def test_gold_of_a_run_is_its_annotations_by_principle_or_on_the_whole(project: Path) -> None:
    run = asyncio.run(run_once(project / "recipe.toml", project / "warehouse", []))
    with connect(project / "warehouse") as connection:
        ids = [str(id) for (id,) in ask(connection, "SELECT id FROM preferences ORDER BY id").rows]
    lines = ["pair_id,principle_id,value,rater"]
    lines += [f"{id},careful,{place % 2},ann" for place, id in enumerate(ids[:50])]
    lines += [f"{id},careful,0.5,ann" for id in ids[50:55]]
    (project / "ann.csv").write_text("\n".join(lines) + "\n")
    found = CliRunner().invoke(app, ["annotations", "import", "ann.csv"], catch_exceptions=False)
    assert "55 annotations" in found.output
    gold = read_gold(run.run_id, project / "warehouse")
    assert (gold.run_id, gold.ties) == (run.run_id, 5)
    assert len(gold.about(Principle("careful"))) == 50
    assert {pair.p_b for pair in gold.about(Principle("careful"))} == {0.0, 1.0}
    assert len(gold.about(Principle("another"))) == len(ids)  # the file's own gold, on the whole
    told = CliRunner().invoke(app, ["principles", "improve", "kind", "--gold", run.run_id], catch_exceptions=False)
    assert "careful    principle  50" in told.output
    assert "5 ties" in told.output
