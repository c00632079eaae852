"""`constitution try`: what it says of servers and models that will not do, and how little it asks of them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chains import Scripted
from click.testing import CliRunner, Result
from odd_modes import context
from odd_server import Body, Odd, OddServer, Reply, Role, project, sound
from small_project import ROOT, small_project

from constitution.cli import app
from constitution.cli.trial import trial
from constitution.engines.base import Completion, Request
from constitution.pipeline import open_run, prepare
from constitution.recipe import Recipe, load_recipe
from constitution.records import Response
from constitution.trial import Trial, try_recipe
from constitution.warehouse import Warehouse
from constitution.warehouse.upkeep.inventory import TRIALS

LITTLE = 20
"""Requests."""


async def tried(folder: Path, role: Role, odd: Odd, *settings: str, prompts: int = 16) -> tuple[Trial, int]:
    """A trial on a server, and how many requests it got."""
    async with OddServer(odd) as server:
        path = project(folder / "p", role, server.base_url, 40)
        found = await try_recipe(load_recipe(path, settings), path, folder / "w", prompts)
    return found, len(server.bodies)


def said(found: Trial) -> list[tuple[str, str]]:
    return [(each.what, each.setting) for each in found.findings]


def changed(change: Callable[[dict[str, Any]], object]) -> Odd:
    """A sound reply with its choice changed."""

    def odd(body: Body, nth: int) -> Reply:
        reply = sound(body)
        change(reply["choices"][0])
        return Reply(reply)

    return odd


def off_label(choice: dict[str, Any]) -> None:
    """A third of the probability is on the labels."""
    if choice["logprobs"]:
        likely = [("Sure", 0.6), ("A", 0.2), ("B", 0.1), ("The", 0.05), ("I", 0.05)]
        choice["logprobs"]["content"][0]["top_logprobs"] = [
            {"token": token, "logprob": math.log(p) - 1e-6} for token, p in likely
        ]


def thinking(choice: dict[str, Any]) -> None:
    choice["message"] |= {"content": "", "reasoning_content": "Let me see, the user asks"}
    choice["finish_reason"] = "length"


async def test_a_judge_without_log_probabilities(tmp_path: Path) -> None:
    found, asked = await tried(tmp_path, "judge", changed(lambda choice: choice.update(logprobs=None)))
    [(what, setting)] = said(found)
    assert what.startswith("vote by m: ")
    assert "the reply has no log-probabilities" in what
    assert setting.startswith('judge.method = "verdict"')
    assert found.run.stopped
    assert asked <= 4
    assert found.run.stopped


async def test_a_judge_whose_server_refuses_log_probabilities(tmp_path: Path) -> None:
    def odd(body: Body, nth: int) -> Reply:
        words = "You are not allowed to request logprobs from this model"
        refused = Reply(
            {"error": {"message": words, "type": "invalid_request_error", "param": None, "code": None}}, 400
        )
        return refused if body.get("logprobs") else Reply(sound(body))

    found, _ = await tried(tmp_path, "judge", odd)
    [(what, setting)] = said(found)
    assert "You are not allowed to request logprobs" in what
    assert setting.startswith('judge.method = "verdict"')


async def test_a_reasoning_model_that_never_comes_to_the_answer(tmp_path: Path) -> None:
    found, asked = await tried(tmp_path, "policy", changed(thinking))
    [(what, setting)] = said(found)
    assert what.startswith("2 of 2 initial answers were cut by max_tokens (2 of 2 reasoned")
    assert setting.startswith("a larger revise.initial.max_tokens (now 900)")
    assert 'model.policy.reasoning = "off"' in setting
    assert found.run.stopped == "trial: every initial answer came without text"
    assert asked == 2


async def test_a_reasoning_model_that_thinks_more_than_it_says(tmp_path: Path) -> None:
    def odd(body: Body, nth: int) -> Reply:
        reply = sound(body, reasoning_content="Let me see.")
        reply["usage"] |= {"completion_tokens_details": {"reasoning_tokens": 15}}
        return Reply(reply)

    found, asked = await tried(tmp_path, "policy", odd, prompts=4)
    assert [what for what, _ in said(found)] == [
        f"75% of the tokens of {step}s are reasoning (4 of 4 reasoned, 15 tokens in the mean)"
        for step in ("initial answer", "critique", "revision")
    ]
    assert {setting for _, setting in said(found)} == {
        'model.policy.reasoning = "off", if the answers are as good without'
    }
    assert asked < LITTLE


async def test_a_judge_that_says_other_words_than_the_labels(tmp_path: Path) -> None:
    found, asked = await tried(tmp_path, "judge", changed(off_label))
    [(what, setting)] = said(found)
    assert what.startswith("m puts 30% of its probability on the labels (method label")
    assert "model.judge" in setting
    assert found.run.stopped == "trial: every vote by m has most of its probability on other words than the labels"
    assert asked == 4


@pytest.mark.parametrize(
    ("bias", "pairs", "begins"),
    [
        (-0.9, "given", "fake-judge prefers the same place in both orders in 9"),
        (2.0, "given", "fake-judge prefers the first answer by "),
        (0.2, "first-last", ""),
    ],
)
async def test_a_judge_that_looks_at_the_place(bias: float, pairs: str, begins: str, tmp_path: Path) -> None:
    """It is told once: by what place adds, or where that is little, by the votes that it decides."""
    path = small_project(tmp_path)
    recipe = load_recipe(path, [f"model.judge.position_bias={bias}", f'judge.pairs=["{pairs}"]'])
    told = said(await try_recipe(recipe, path, tmp_path / "w"))
    assert [what[: len(begins)] for what, _ in told] == ([begins] if begins else [])
    assert all("judge.margin" in setting for _, setting in told)


async def test_written_verdicts_have_no_labels(tmp_path: Path) -> None:
    path = small_project(tmp_path)
    recipe = load_recipe(path, ["judge.method=verdict", "judge.verdict.n=2", "judge.principles=1"])
    found = await try_recipe(recipe, path, tmp_path / "w", 2)
    [votes] = [step for step in found.steps if step.judge]
    assert votes.done > 0
    assert votes.label_mass is None


async def test_a_judge_that_keeps_to_no_form_of_a_verdict(tmp_path: Path) -> None:
    found, asked = await tried(tmp_path, "judge", lambda body, nth: Reply(sound(body)), 'judge.method="verdict"')
    [(what, setting)] = said(found)
    assert what.startswith("vote by m: 16 of 16 failed by MalformedReply: verdict: the last line is no verdict: …Text ")
    assert setting.startswith("model.judge: another model")
    assert "extra_body.structured_outputs" in setting
    assert asked == 16
    # What there was of its votes cost too little: nothing is foreseen of a run that cannot go like that.
    assert {each.value for each in found.forecast.values()} == {None}


async def test_a_policy_that_copies_its_exemplars(tmp_path: Path) -> None:
    """Each revision is that of the last exemplar, which lies before the prompt's own turns."""

    def odd(body: Body, nth: int) -> Reply:
        reply, turns = sound(body), [message["content"] for message in body["messages"]]
        requests = [place for place, turn in enumerate(turns) if turn.startswith("Rewrite")]
        if "logprobs" not in body and requests and requests[-1] == len(turns) - 1:
            reply["choices"][0]["message"]["content"] = turns[requests[0] + 1]
        return Reply(reply)

    found, asked = await tried(tmp_path, "policy", odd, "revise.exemplars=2")
    [(what, setting)] = said(found)
    assert what == "2 of 2 revisions repeat what the model was shown: 2 an exemplar"
    assert setting == "revise.exemplars under 2, or model.policy: a larger model"
    assert found.run.stopped == "trial: every revision repeats what the model was shown"
    assert asked < LITTLE


async def test_a_context_that_is_too_small(tmp_path: Path) -> None:
    words = "This model's maximum context length is {limit} tokens. However, you requested {total} tokens ({prompt} in "
    words += "the messages, {asked} in the completion). Please reduce the length of the messages or completion."
    found, asked = await tried(tmp_path, "policy", context(1000, words), "revise.exemplars=4")
    [(what, setting), *more] = said(found)
    assert "critique: 2 of 2 failed by ContextTooLong" in what
    assert setting.startswith("model.policy has too small a context: revise.exemplars under 4, a smaller")
    assert not more
    assert asked < LITTLE


async def test_a_judge_whose_context_is_too_small(tmp_path: Path) -> None:
    """A server's refusal may name max_tokens: no setting of the judging method is meant."""
    words = "This model's maximum context length is {limit} tokens. However, you requested {total} tokens ({prompt} in "
    words += "the messages, {asked} in the completion). Please reduce the length of the messages or max_tokens."
    found, _ = await tried(tmp_path, "judge", context(40, words))
    settings = [setting for what, setting in said(found) if what.startswith("vote by m: ")]
    assert [setting.partition(":")[0] for setting in settings] == ["model.judge has too small a context"]


async def test_a_context_that_leaves_less_room_than_was_asked_for(tmp_path: Path) -> None:
    words = "This model's maximum context length is {limit} tokens. However, you requested {total} tokens ({prompt} in "
    words += "the messages, {asked} in the completion). Please reduce the length of the messages or completion."
    found, _ = await tried(tmp_path, "policy", context(600, words), prompts=2)
    assert any("the context of policy has no room for max_tokens" in what for what, _ in said(found))


# --- a sound recipe


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(trial, list(arguments))


def test_nothing_is_wrong(tmp_path: Path) -> None:
    path = small_project(tmp_path)
    result = invoke(str(path), "--warehouse", str(tmp_path / "w"), "--json", "--show")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["prompts"], told["tried"], told["stopped"], told["warnings"]) == (50, 16, "", [])
    assert {step["step"] for step in told["steps"]} == {"initial", "critique", "revision", "vote"}
    assert told["forecast"]["cost"]["low"] < told["forecast"]["cost"]["value"] < told["forecast"]["cost"]["high"]
    assert {example["step"] for example in told["examples"]} == {"initial", "critique", "revision", "vote (label)"}


def test_what_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Words whole on eighty columns and on many; the next command has the settings that were tried."""
    path = small_project(tmp_path)
    told = {}
    for columns in ("80", "200"):
        monkeypatch.setenv("COLUMNS", columns)
        result = invoke(str(path), "--warehouse", str(tmp_path / "w"), "--prompts", "2", "--set", 'description="a b"')
        assert result.exit_code == 0, result.output
        told[columns] = result.output
    command = f"""constitution run {path} --set 'description="a b"' --warehouse {tmp_path / "w"}\n"""
    for output in told.values():
        assert output.endswith(command)
        for word in ("step", "initial", "revision", "failed", "unchanged", "reasoned", "first place adds", "method"):
            assert re.search(rf"(^| ){word}( |$)", output, re.MULTILINE), word
    heads = ["step", "initial", "critique", "revision"]
    assert [line.split() for line in told["80"].splitlines()].count(heads) == 1
    assert "step" in told["200"].split()
    assert [line.split()[:3] for line in told["200"].splitlines()].count(["step", "asked", "failed"]) == 1


def test_a_trial_is_no_run(tmp_path: Path) -> None:
    """Its warehouse is whole, and nothing that reads the runs' sees it; a run afterwards takes nothing from it."""
    path, warehouse = small_project(tmp_path), tmp_path / "w"
    invoke(str(path), "--warehouse", str(warehouse), "--prompts", "3")
    [folder] = (warehouse / TRIALS).iterdir()
    shown = CliRunner().invoke(app, ["runs", "--warehouse", str(warehouse)])
    assert "there is no warehouse here" in str(shown.exception)
    assert Warehouse(warehouse).run_ids() == []
    [run_id] = Warehouse(folder).run_ids()
    assert Warehouse(folder).verify(run_id) == []
    done = CliRunner().invoke(app, ["run", str(path), "--warehouse", str(warehouse), "--limit", "3"])
    assert done.exit_code == 0, done.output
    assert len(Warehouse(warehouse).run_ids()) == 1
    counted = CliRunner().invoke(
        app, ["sql", "--warehouse", str(warehouse), "SELECT count(*) AS n FROM runs", "--format", "json"]
    )
    assert json.loads(counted.output) == [{"n": 1}]
    assert Warehouse(warehouse).verify(Warehouse(warehouse).run_ids()[0]) == []


def test_the_same_prompts_are_drawn_by_the_seed_whatever_their_order(tmp_path: Path) -> None:
    path = small_project(tmp_path)

    def drawn(*settings: str) -> set[str]:
        told = json.loads(
            invoke(str(path), "--warehouse", str(tmp_path / "w"), "--json", "--prompts", "5", *settings).stdout
        )
        return Warehouse(Path(told["warehouse"])).ids("prompts", told["run_id"])

    once = drawn()
    lines = path.with_name("prompts.jsonl").read_text(encoding="utf-8").split("\n")
    path.with_name("prompts.jsonl").write_text("\n".join(reversed(lines)), encoding="utf-8")
    assert drawn() == once
    assert len(once) == 5
    assert drawn("--set", "seed=2") != once


async def test_a_trial_asks_what_the_run_will_ask(tmp_path: Path) -> None:
    """No second pipeline: its answers and votes are those of the run, row by row, but for the run's id."""
    path = small_project(tmp_path)
    recipe = load_recipe(path)
    found = await try_recipe(recipe, path, tmp_path / "w", 4)
    plan = prepare(recipe, path, tmp_path / "w")
    async with open_run(plan) as session:
        await session.walk()
        await session.finish()

    def texts(folder: Path, run_id: str) -> dict[tuple[str, str, int], str]:
        store = Warehouse(folder)
        rows = store.rows_of(run_id, store.ids("prompts", run_id))
        return {
            (row.prompt_id, row.kind, row.round): row.text
            for each in rows.values()
            for row in each
            if isinstance(row, Response)
        }

    tried = texts(found.folder, found.run.run_id)
    assert tried.items() <= texts(tmp_path / "w", plan.run_id).items()


def test_a_budget_that_will_not_do(tmp_path: Path) -> None:
    path = small_project(tmp_path)
    result = invoke(str(path), "--warehouse", str(tmp_path / "w"), "--set", "budget.limit=0.0001")
    assert result.exit_code == 1
    assert "! all prompts will cost more than the budget of 0.0001 USD" in result.output
    assert "change: budget.limit, or a smaller prompts.limit" in result.output


def test_what_cannot_be_tried_leaves_nothing(tmp_path: Path) -> None:
    path = small_project(tmp_path, recipe=(ROOT / "recipes" / "fake.toml").read_text(encoding="utf-8"))
    result = invoke(str(path), "--warehouse", str(tmp_path / "w"), "--set", "judge.only=['none']")
    assert result.exit_code != 0
    assert list((tmp_path / "w" / TRIALS).iterdir()) == []


def even(request: Request) -> Completion:
    return Completion("A", "stop", 10, 2, choice_logprobs=dict.fromkeys(request.choices, math.log(0.46)))


@pytest.mark.parametrize(
    ("settings", "text", "what", "setting"),
    [
        ((), None, "pairs are dropped: tie", "another judge"),
        (("judge.min_label_mass=0.95",), None, "pairs are dropped: votes-missing", "a smaller judge.min_label_mass"),
        (("judge.method=verdict",), "Both.\nVerdict: tie", "pairs are dropped: tie", "a larger judge.verdict.n"),
    ],
)
async def test_a_judge_of_whose_votes_no_label_comes(
    tmp_path: Path, settings: tuple[str, ...], text: str | None, what: str, setting: str
) -> None:
    """Each vote is sound by itself."""
    path = small_project(tmp_path)
    judge = Scripted(even if text is None else lambda request: Completion(text, "stop", 10, 2))
    found = await try_recipe(load_recipe(path, settings).with_engines({"judge": judge}), path, tmp_path / "w", 4)
    [(told, change)] = [each for each in said(found) if " pairs " in each[0]]
    assert told.endswith(what)
    assert change.startswith(setting)


@pytest.mark.parametrize("kept", [True, False])
async def test_a_gateway_that_keeps_replies_makes_no_verdicts_of_one(tmp_path: Path, kept: bool) -> None:
    def reply(request: Request) -> Completion:
        of = len(request.messages[0].content) if kept else request.seed
        better = "AB"[request.messages[0].content.find("careful") % 2]
        text = f"The one that is better, by reason {of}, names what to look for and the other does not at all.\n"
        return Completion(f"{text}Verdict: {better}", "stop", 10, 2)

    path = small_project(tmp_path)
    recipe = load_recipe(path, ["judge.method=verdict"]).with_engines({"judge": Scripted(reply)})
    found = [what for what, _ in said(await try_recipe(recipe, path, tmp_path / "w", 4)) if "very text" in what]
    assert bool(found) is kept


async def test_verdicts_that_are_cut(tmp_path: Path) -> None:
    path = small_project(tmp_path)
    judge = Scripted(lambda request: Completion("Both are", "length", 10, 2))
    recipe = load_recipe(path, ["judge.method=verdict"]).with_engines({"judge": judge})
    [setting] = [each for what, each in said(await try_recipe(recipe, path, tmp_path / "w", 4)) if "vote by" in what]
    assert setting == "a larger judge.verdict.max_tokens"


async def test_engines_of_ones_own_can_be_tried(tmp_path: Path) -> None:
    """One that gives no log-probabilities is found out in the same way."""
    path = small_project(tmp_path)

    def reply(request: Request) -> Completion:
        return Completion("A" if request.choices else "Some words.", "stop", 10, 2)

    recipe: Recipe = load_recipe(path).with_engines({"judge": Scripted(reply)})
    found = await try_recipe(recipe, path, tmp_path / "w")
    assert [each.setting for each in found.findings if "no log-probabilities" in each.what]
    assert found.run.stopped
