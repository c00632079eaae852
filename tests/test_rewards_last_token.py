"""Rewards by the token after an answer: the number, who is refused, and what is never a number."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from run_once import run_once, stop_midway
from small_project import table
from tiny import save_tiny_model

from constitution.cli import app
from constitution.engines.base import Completion, Engine, Request
from constitution.engines.read_out import KEY
from constitution.errors import EngineUnavailable, RecipeError, RequestRefused
from constitution.judge.by_last_token import ReadOut
from constitution.pipeline import prepare
from constitution.recipe import LastTokenSection, RewardSection, RulesSection, load_recipe
from constitution.records import Failure, Message, Prompt, Response, Reward, Row
from constitution.warehouse import Warehouse

RECIPE = """
name = "read-out"
constitution = "small@1.0.0"
[prompts]
path = "prompts.jsonl"
answers = ["good"]
[model.policy]
engine = "fake"
[sample.plain]
n = 3
[revise]
rounds = 1
[reward]
by = ["last-token"]
last_token = { token = "<|system|>", c_ref = -23.0, anyway = true }
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
PROMPTS = 8
ROWS = """
SELECT 'reward', id, response_id, source, value, raw, readings, missing, judges, reason FROM rewards
UNION ALL BY NAME
SELECT 'score', id, response_id, metric AS source, raw, p_yes, label_mass, grades, judge, calls FROM scores ORDER BY ALL
"""
OWN = LastTokenSection(token="<z>", c_ref=-23.0)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "principles" / "small").mkdir(parents=True)
    (tmp_path / "principles" / "small" / "1.0.0.toml").write_text(CONSTITUTION, encoding="utf-8")
    rows = [{"prompt": f"How does thing {n} work?", "good": f"Like thing {n}."} for n in range(PROMPTS)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (tmp_path / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    return tmp_path


class Told(Engine):
    """Reads what it is told to, by the answer's text."""

    model = "told"

    def __init__(self, says: Mapping[str, Any]) -> None:
        self.says = says

    async def generate(self, request: Request) -> Completion:
        assert request.closed
        said = self.says[request.messages[-1].content]
        if isinstance(said, Exception):
            raise said
        return Completion("", "stop", 5, 1, choice_logprobs=None if said is None else {"<z>": said})


def response(id: str, text: str) -> Response:
    return Response(
        id=id, run_id="r", prompt_id="p", kind="sample", round=0, parent_id=None, outcome="ok", text=text,
        critique=None, principle_id=None, principle_digest=None, template_digest="", model="m", sampling=None,
        seed=None, finish_reason="stop", prompt_tokens=0, completion_tokens=0,
    )  # fmt: skip


READINGS = st.one_of(
    st.floats(-60, 0), st.sampled_from([None, "away", "refused", math.nan, math.inf, -math.inf, 5.0, "<none>"])
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["", *"abcd"]), max_size=7), st.data())
async def test_what_is_missing_never_becomes_a_number(texts: list[str], data: st.DataObject) -> None:
    errors: dict[Any, Any] = {"away": EngineUnavailable("no"), "refused": RequestRefused("no")}
    says: dict[str, Any] = {text: data.draw(READINGS) for text in "abcd"}
    says = {text: errors.get(said, None if isinstance(said, str) else said) for text, said in says.items()}
    read = {text for text, said in says.items() if isinstance(said, float) and -math.inf < said <= 0}
    rows = [response(f"{place}", text) for place, text in enumerate(texts)]
    prompt, have = Prompt((Message("user", "Hello?"),)), dict[str, Row]()

    async def emit(made: Any) -> None:
        have.update({row.id: row for row in made})

    async def start(number: int, told: Mapping[str, Any]) -> None:
        made = ReadOut("r", number, RewardSection(by=("rule",), rules=RulesSection(words=(0, 9))), OWN, Told(told))
        await made.rewards(prompt, rows, have, emit)

    await start(1, says)
    rewards = {row.response_id: row for row in have.values() if isinstance(row, Reward)}
    for row in rows:
        if row.text in read:
            raw = 0.1 * (says[row.text] + 23)
            assert rewards[row.id].raw == pytest.approx(raw)
            assert rewards[row.id].value == pytest.approx(min(max(raw, 0), 1))
        elif says.get(row.text) is errors["away"]:
            assert row.id not in rewards
        else:
            assert (rewards[row.id].value, rewards[row.id].raw) == (None, None)
            assert rewards[row.id].reason == ("readings-missing" if row.text else "no-text")
    before = dict(have)
    await start(2, dict.fromkeys(says, -20.0))
    assert {id: have[id] for id in before} == before
    assert sum(isinstance(row, Reward) for row in have.values()) == len(rows)
    assert sum(isinstance(row, Failure) for row in have.values()) == len(set(texts) - read - {""})


async def test_a_run_by_it_resumes_and_is_mended(project: Path) -> None:
    path = project / "recipe.toml"
    run = await run_once(path, project / "whole", [])
    assert run.counts["rewards"] == run.counts["scores"] == 6 * PROMPTS
    rows = table(project / "whole", "SELECT w.raw, w.value, s.raw FROM rewards w JOIN scores s USING (response_id)")
    assert [row[0] for row in rows] == [pytest.approx(0.1 * (row[2] + 23)) for row in rows]
    assert all(value == min(max(raw, 0), 1) for raw, value, _ in rows)
    usage = {used.stage: used for used in run.usage}["reward-last-token"]
    texts = table(project / "whole", "SELECT count(DISTINCT (prompt_id, text)) FROM responses")[0][0]
    assert (usage.model, usage.calls) == ("fake", texts)
    assert usage.prompt_tokens > 0
    await stop_midway(path, project / "cut", [], prompts=3)
    await run_once(path, project / "cut", [])
    whole = table(project / "whole", ROWS)
    assert table(project / "cut", ROWS) == whole
    warehouse = Warehouse(project / "cut")
    for name in ("scores", "rewards"):
        [part] = warehouse.parts(name, run.run_id)
        part.write_bytes(part.read_bytes()[:-9] + b"otherwise")
        with warehouse.lock(run.run_id):
            assert warehouse.repair(run.run_id)
        await run_once(path, project / "cut", [])
        assert table(project / "cut", ROWS) == whole
    [(score,)] = table(project / "whole", "SELECT id FROM scores WHERE calls > 0 LIMIT 1")
    command = ["show", score, "--again", "--warehouse", str(project / "whole")]
    shown = await asyncio.to_thread(CliRunner().invoke, app, command)
    assert shown.exit_code == 0, shown.output
    assert "after which a token is read" in shown.output
    assert "log-probabilities of <|system|>" in shown.output
    then, now = (line.rpartition(", of ")[2] for line in shown.output.splitlines() if "came back" in line)
    assert then == now


async def test_who_was_not_trained_for_it_is_refused(project: Path) -> None:
    """A fake, a model as it is, and one that was trained by other settings; one that was is not, nor is any anyway."""
    path, folder = project / "recipe.toml", save_tiny_model(project / "tiny")
    model = f'model.policy={{ engine = "transformers", model = "{folder}" }}'
    few = ["prompts.limit=1", "revise.rounds=0", "sample={}", "reward.last_token.anyway=false"]
    with pytest.raises(RecipeError, match="nothing in the files of fake says that it was") as refused:
        await run_once(path, project / "w", few)
    assert "reward.last_token.anyway = true" in str(refused.value.hint)
    with pytest.raises(RecipeError, match="nothing in the files of tiny says"):
        await run_once(path, project / "w", [model, *few])
    assert table(project / "w", "SELECT count(*) FROM rewards") == [(0,)]
    config = json.loads((folder / "config.json").read_text())
    config[KEY] = {"token": "<|system|>", "c_ref": -5.5, "beta": 0.1}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(RecipeError, match=r"reward.last_token.c_ref: it is -23.0, and tiny was trained with -5.5"):
        await run_once(path, project / "w", [model, *few])
    run = await run_once(path, project / "w", [model, *few, "reward.last_token.c_ref=-5.5"])
    assert run.finished_at
    assert table(project / "w", "SELECT count(value), min(judges[1]) FROM rewards") == [(1, "tiny")]


def test_anyway_is_said_on_the_command_line(project: Path) -> None:
    path = project / "recipe.toml"
    path.write_text(RECIPE.replace(", anyway = true", ""), encoding="utf-8")
    command = ["run", str(path), "--limit", "1", "--warehouse", str(project / "w")]
    refused = CliRunner().invoke(app, command).exception
    assert isinstance(refused, RecipeError)
    assert "run --anyway" in str(refused.hint)
    done = CliRunner().invoke(app, [*command, "--anyway"])
    assert done.exit_code == 0, done.output
    assert table(project / "w", "SELECT count(value) FROM rewards") == [(6,)]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (['reward.by=["rule"]', "reward.rules.words=[1,9]"], "come together"),
        (['reward.by=["last-token","rubric"]', "reward.last_token.c_ref=1"], "less than or equal to 0"),
        (['model.policy={ engine = "openai", model = "m", base_url = "http://a/v1" }'], "the API of m does not have"),
        (["reward.combine=veto"], "veto is for rubric and rule"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(project: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        prepare(load_recipe(project / "recipe.toml", overrides), project / "recipe.toml", project / "w")
