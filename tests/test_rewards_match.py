"""Rewards by match with the reference: right, wrong, and what is neither."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from audit_rows import Audited
from hypothesis import given, settings
from hypothesis import strategies as st
from run_once import stop_midway
from small_project import table

from constitution.engines.base import Completion, Engine, Request
from constitution.errors import RecipeError
from constitution.judge.sources import reads_of
from constitution.pipeline import open_run, prepare
from constitution.recipe import MatchSection, RewardSection, load_recipe
from constitution.records import Constitution, Extraction, Message, Prompt, ReferenceCheck, Response, Run
from constitution.warehouse import Warehouse

RECIPE = """
name = "match"
constitution = "small@1.0.0"
[prompts]
path = "prompts.jsonl"
[model.policy]
engine = "fake"
[sample.plain]
n = 4
[revise]
rounds = 1
[reference]
from = "revision"
bar = 0
[reward]
by = ["match"]
match = { how = "number" }
[output]
window = 4
flush_seconds = 0.05
"""
CONSTITUTION = """
name = "small"
version = "1.0.0"
description = "Of tests."
[[principles]]
id = "kind"
critique_request = "Is it unkind?"
revision_request = "Make it kind."
comparison_question = "Which answer is kinder?"
"""
SAYS = ("It is 1,042.00.", "So 41", "I do not know.", "#### 1042\nor 7")
REWARDS = """
SELECT r.text, w.value, w.raw, w.said, w.reason, w.readings, w.missing FROM rewards AS w
JOIN responses AS r ON r.id = w.response_id WHERE r.kind = 'sample' ORDER BY r.round"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "principles" / "small").mkdir(parents=True)
    (tmp_path / "principles" / "small" / "1.0.0.toml").write_text(CONSTITUTION, encoding="utf-8")
    rows = [{"prompt": f"How much is thing {n}?"} for n in range(3)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (tmp_path / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    return tmp_path


class Sums(Engine):
    """Samples that are right, wrong and neither, and a revision that says what is right."""

    model = "sums"

    def __init__(self, right: str = "Thus it is $1,042.") -> None:
        self.right, self.sampled = right, 0

    async def generate(self, request: Request) -> Completion:
        if request.closed:
            right = "042" in request.messages[-1].content
            return Completion("", "stop", 3, 1, choice_logprobs={"<z>": -14.0 if right else -22.0})
        if request.step.startswith("sample"):
            self.sampled += 1
            return Completion(SAYS[int(request.step.rpartition("-")[2]) % 4], "stop", 3, 2)
        return Completion(self.right if request.step.startswith("revision") else "Let me see.", "stop", 3, 2)


async def matched(project: Path, policy: Engine, *overrides: str, root: str = "w") -> Run:
    path = project / "recipe.toml"
    recipe = load_recipe(path, ["prompts.limit=1", *overrides]).with_engines({"policy": policy})
    async with open_run(prepare(recipe, path, project / root)) as session:
        await session.walk()
        return await session.finish()


async def test_right_is_one_wrong_is_nothing_and_what_cannot_be_read_is_neither(project: Path) -> None:
    run = await matched(project, Sums())
    assert run.finished_at
    neither = ("I do not know.", None, None, None, "unread", 0, 0)
    rows = table(project / "w", REWARDS)
    assert sorted(rows) == sorted([
        ("It is 1,042.00.", 1.0, 1.0, "1042", None, 0, 0), ("So 41", 0.0, 0.0, "41", None, 0, 0), neither,
        ("#### 1042\nor 7", 1.0, 1.0, "1042", None, 0, 0),
    ])  # fmt: skip
    assert table(project / "w", "SELECT count(*) FROM rewards AS w JOIN responses AS r ON r.id = response_id "
                 "WHERE kind = 'reference'") == [(0,)]  # fmt: skip
    assert table(project / "w", "SELECT agrees, majority FROM reference_checks") == [(2 / 3, True)]
    await matched(project, Sums(), "reward.match.unread=wrong", root="strict")
    [unread] = [row for row in table(project / "strict", REWARDS) if row[0] == neither[0]]
    assert unread[1:] == (0.0, 0.0, None, None, 0, 0)


@pytest.mark.parametrize(
    ("policy", "overrides", "reason"),
    [
        (Sums("I cannot say."), (), "reference-unread"),
        (Sums(""), (), "no-reference"),
        (Sums("It is 3 or 4."), ("reward.match.how=boxed",), "reference-unread"),
    ],
)
async def test_without_a_reference_that_says_something_nothing_is_right(
    project: Path, policy: Engine, overrides: Sequence[str], reason: str
) -> None:
    run = await matched(project, policy, *overrides, "reward.match.unread=wrong")
    assert run.counts["rewards"] > 0
    said = "SELECT DISTINCT value, raw, said, reason FROM rewards SEMI JOIN (FROM responses WHERE text <> '') AS r "
    assert table(project / "w", f"{said} ON r.id = response_id") == [(None, None, None, reason)]


async def test_the_audit_holds_other_rewards_against_it(project: Path) -> None:
    """Of prompts with two right samples and a wrong one, all told apart."""
    token = 'reward.last_token={ token = "<z>", c_ref = -23.0, anyway = true }'
    run = await matched(project, Sums(), "prompts.limit=3", 'reward.by=["match", "last-token"]', token)
    found = Audited(project / "w", run.run_id)("reward_auc", subject="last-token/match")
    assert (found.value, found.n) == (1.0, 9)
    assert [each.subject for each in Audited(project / "w", run.run_id).figures if each.figure == "reward_auc"] == [
        "last-token/match"
    ]


async def test_an_answer_that_comes_with_the_prompt(project: Path) -> None:
    """Given as GSM8K has it, its steps before the mark."""
    row = {"prompt": "How much?", "answer": "It is 2 * 521 = <<2*521=1042>>1042.\n#### 1,042"}
    (project / "prompts.jsonl").write_text(json.dumps(row), encoding="utf-8")
    await matched(project, Sums(), "revise.rounds=0", "reference.from=given", "prompts.reference=answer")
    values = table(project / "w", "SELECT said, value, reason FROM rewards ORDER BY ALL")
    assert values == [("1042", 1.0, None), ("1042", 1.0, None), ("41", 0.0, None), (None, None, "unread")]


async def test_a_run_resumes_and_is_mended(project: Path) -> None:
    over = ["prompts.limit=3", 'reward.match.how="exact"']
    rows = "SELECT id, response_id, value, raw, said, reason FROM rewards ORDER BY id"
    path = project / "recipe.toml"
    run = await matched(project, Sums(), over[0])
    whole = table(project / "w", rows)
    assert len(whole) == 18
    warehouse = Warehouse(project / "w")
    for name in ("rewards", "responses", "reference_checks"):
        [part] = warehouse.parts(name, run.run_id)
        part.write_bytes(part.read_bytes()[:-9] + b"otherwise")
        with warehouse.lock(run.run_id):
            assert warehouse.repair(run.run_id)
        await matched(project, Sums(), over[0])
        assert table(project / "w", rows) == whole
        assert warehouse.verify(run.run_id) == []
    await stop_midway(path, project / "cut", over[1:], prompts=1)


SECTION = RewardSection(by=("match",), match=MatchSection(how="number"))
PROMPT = Prompt((Message("user", "How much?"),))


def response(id: str, text: str, **fields: Any) -> Response:
    return Response(
        id=id, run_id="r", prompt_id=PROMPT.id, kind="reference", round=0, text=text, outcome="ok", model="m", **fields
    )


def check(**fields: Any) -> ReferenceCheck:
    values: dict[str, Any] = {
        "id": "c", "run_id": "r", "prompt_id": PROMPT.id, "response_id": "ref", "source": "given", "agrees": None,
        "majority": None, "readings": 0, "missing": 0, "least": None, "principle_id": None, "drop_reason": None,
    }  # fmt: skip
    return ReferenceCheck(**values | fields)


@settings(max_examples=80, deadline=None)
@given(st.text(max_size=30), st.text(max_size=30), st.sampled_from(["number", "boxed", "choice", "exact", "json"]))
def test_what_is_missing_never_becomes_a_number(reference: str, text: str, how: Extraction) -> None:
    """Until a reference is there, and checked, and says something, nothing is said of any answer."""
    section = RewardSection(by=("match",), match=MatchSection(how=how))
    of_prompt = reads_of("match", section, Constitution("small", "1.0.0", "", ())).of_prompt
    assert of_prompt is not None
    made = {"ref": response("ref", reference)}
    assert of_prompt(PROMPT, {}) is None
    assert of_prompt(PROMPT, made) is None
    dropped = of_prompt(PROMPT, {**made, "c": check(drop_reason="breaks")})
    assert dropped is not None
    assert (dropped.reason, dropped.rules) == ("no-reference", None)
    found = of_prompt(PROMPT, {**made, "c": check()})
    assert found is not None
    assert (found.rules is None) == (found.reason is not None)
    said = found.rules(text) if found.rules else None
    if said is not None and not isinstance(said, str):
        [part] = said
        assert part.value in (0.0, 1.0)
        assert part.said
    same = found.rules(reference) if found.rules else None
    assert same is None or isinstance(same, str) or same[0].value == 1.0


def test_an_answer_that_is_given_may_be_the_bare_value() -> None:
    section = RewardSection(by=("match",), match=MatchSection(how="choice", letters="ABCDE"))
    of_prompt = reads_of("match", section, Constitution("small", "1.0.0", "", ())).of_prompt
    assert of_prompt is not None
    for source, said in (("given", [(1.0, "E")]), ("synthesis", [])):
        found = of_prompt(PROMPT, {"ref": response("ref", "e"), "c": check(source=source)})
        assert found is not None
        ruled = found.rules("The answer is (E).") if found.rules else ()
        assert [(part.value, part.said) for part in ruled if not isinstance(part, str)] == said


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["reward.match.how=guess"], "how"),
        (["reward.match.letters=AB"], "letters: is for how = 'choice'"),
        (["reward.match.how=json", "reward.match.letters=AB"], "letters: is for"),
        (["reward.match.how=choice", "reward.match.letters=a"], "letters"),
        (['reward.by=["rule"]', "reward.rules.words=[1,9]"], "come together"),
        (["reward.combine=veto"], "veto is for rubric and rule"),
        (["reference.from=best"], "which is made from the reference itself"),
        (["revise.start=best", "revise.rounds=1"], "a reference that is only made once the chain is there"),
    ],
)
def test_what_cannot_be_is_refused(project: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        prepare(load_recipe(project / "recipe.toml", overrides), project / "recipe.toml", project / "w")


def test_without_references_there_is_nothing_to_match(project: Path) -> None:
    path = project / "recipe.toml"
    path.write_text(RECIPE.replace('[reference]\nfrom = "revision"\nbar = 0\n', ""), encoding="utf-8")
    with pytest.raises(RecipeError, match=r"there is no section \[reference\]"):
        load_recipe(path)
