"""The command `constitution show`: what it prints, finds, asks again, and refuses to show."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import seams
from click.testing import CliRunner, Result
from fingerprints import ALL, Fingerprints
from run_once import run_once
from shown_runs import METHODS, RECIPE, project
from small_project import ROOT, table

from constitution.ask.panel import Panel
from constitution.ask.scorecard import Order, score
from constitution.cli import app
from constitution.errors import ConstitutionError
from constitution.pipeline import open_run, prepare
from constitution.principles import load_constitution
from constitution.recipe import FakeModel, JudgeSection, load_recipe
from rehearsal.server import FakeServer

CHANGED = {"vote.txt": "Options:", "critique.txt": "Look only"}
"""Templates → words that are in them once."""
ASKED = """
import json
from click.testing import CliRunner
from constitution.cli import app
found = {{}}
for name, id in {ids}.items():
    said = CliRunner().invoke(app, ["show", id, "--warehouse", {root!r}])
    told = CliRunner().invoke(app, ["show", id, "--warehouse", {root!r}, "--json"])
    found[name] = said.exit_code, said.stdout, json.loads(told.stdout)["requests"]
print(json.dumps(found))
"""
FAKE = RECIPE.replace('engine = "openai"\nmodel = "fake"\nbase_url = "{url}"\nretries = 0', 'engine = "fake"')


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The warehouse of two runs of one recipe on the fake engine."""
    folder = tmp_path_factory.mktemp("two")
    recipe = project(folder, FAKE)
    for fresh in (False, True):
        asyncio.run(run_once(recipe, folder / "warehouse", ["judge.method=rationale"], fresh))
    return folder / "warehouse"


def show(root: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["show", *words, "--warehouse", str(root)])


def as_json(root: Path, *words: str, code: int = 0) -> dict[str, Any]:
    result = show(root, *words, "--json")
    assert result.exit_code == code, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def refusal(root: Path, *words: str) -> str:
    """Why the command can do nothing, and the hint."""
    error = show(root, *words).exception
    assert isinstance(error, ConstitutionError)
    return f"{error} ({error.hint})"


def one(root: Path, query: str) -> str:
    return str(table(root, query)[0][0])


def digests(root: Path) -> dict[Path, str]:
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in root.rglob("*") if path.is_file()}


def test_a_vote_is_printed_with_its_messages_what_came_back_and_how_to_ask_it_again(root: Path) -> None:
    id, run_id, judge, rationale = map(str, table(root, "SELECT id, run_id, judge, rationale FROM judgements")[0])
    said = show(root, id)
    assert said.exit_code == 0
    for each in (
        f"vote {id} of run {run_id}",
        f"Request 1 of 2 to judge {judge}: temperature",
        "[answer A ",
        rationale,
        f"Request 2 of 2 to judge {judge}: max_tokens 1, seed",
        "log-probabilities of A, B",
        "--- assistant, which the model continues\nThe answer is: (" if not rationale else "The answer is: (",
        "=== came back: P(A) ",
        " on these labels together",
        f"constitution show {id} --run {run_id} --again --warehouse {root}",
    ):
        assert each in said.stdout


def test_json_has_all_of_it(root: Path) -> None:
    [(id, critique)] = table(root, "SELECT id, critique FROM responses WHERE kind = 'revision' ORDER BY id LIMIT 1")
    found = as_json(root, id)
    assert (found["kind"], found["table"], found["id"], found["doubt"]) == ("answer", "responses", id, "")
    assert [each["step"] for each in found["requests"]] == ["critique-1", "revision-1"]
    first, second = found["requests"]
    assert first["reply"]["text"] == critique == found["row"]["critique"]
    assert critique in second["messages"][-2]["content"]
    assert first["seed"] == found["row"]["critique_seed"]
    assert second["sampling"]["max_tokens"] == found["row"]["sampling"]["max_tokens"]
    assert first["reply"]["finish_reason"] is None  # which is not stored
    assert second["reply"]["finish_reason"] == found["row"]["finish_reason"]
    assert found["models"]["policy"]["engine"] == "fake"


@pytest.mark.parametrize(("kind", "part"), [("prompts", "initial 0"), ("preferences", "p_first")])
def test_what_is_asked_of_no_model_is_shown_with_what_belongs_to_it(root: Path, kind: str, part: str) -> None:
    [(id, run_id)] = table(root, f"SELECT id, run_id FROM {kind} ORDER BY ALL LIMIT 1")
    said = show(root, id, "--run", run_id)
    assert said.exit_code == 0
    assert part in said.stdout
    assert as_json(root, id, "--run", run_id)["parts"]
    refused = refusal(root, id, "--run", run_id, "--again")
    assert "is asked of no model" in refused


def test_the_votes_of_a_jury_are_told_in_order(tmp_path: Path) -> None:
    """By judge, principle and order, whichever came first."""
    settings = ["--limit", "1", "--set", "judge.quorum=1", "--warehouse", str(tmp_path)]
    done = CliRunner().invoke(app, ["run", str(ROOT / "recipes" / "jury.toml"), *settings])
    assert "preferences" in done.output
    pair = one(tmp_path, "SELECT id FROM preferences ORDER BY votes DESC, id")
    shown = as_json(tmp_path, pair)
    votes = [
        (vote["judge"], vote["principle_id"], vote["first_id"] != shown["row"]["a_id"], vote["repeat"])
        for vote in shown["parts"]
    ]
    assert len(votes) >= 16
    assert votes == sorted(votes)


def test_an_answer_that_came_with_the_prompt_says_so(root: Path) -> None:
    said = show(root, one(root, "SELECT id FROM responses WHERE kind = 'given'"))
    assert said.exit_code == 0
    assert "the answer came with the prompt: no model was asked for it" in said.stdout


def test_ids_may_be_cut_short_as_long_as_they_tell_one_row(root: Path) -> None:
    id = one(root, "SELECT id FROM judgements")
    assert as_json(root, id[:12].upper())["id"] == id
    assert as_json(root, f" {id} ")["id"] == id


def test_an_id_of_several_runs_takes_the_run(root: Path) -> None:
    id = one(root, "SELECT id FROM prompts")
    refused = refusal(root, id)
    assert "several rows" in refused
    assert "(name the run with --run)" in refused
    assert "give more digits, or name the run with --run" in refusal(root, id[:10])
    for [run_id] in table(root, "SELECT run_id FROM runs"):
        assert run_id in refused
        assert as_json(root, id, "--run", run_id)["run_id"] == run_id
        assert as_json(root, id, "--run", run_id[:-2])["run_id"] == run_id


def test_too_short_an_id_lists_some_of_those_that_begin_so(root: Path) -> None:
    found = table(root, "SELECT left(id, 1) AS begins FROM judgements GROUP BY 1 ORDER BY count(*) DESC LIMIT 1")
    assert refusal(root, found[0][0])
    ids = [id for [id] in table(root, "SELECT id FROM responses UNION SELECT id FROM judgements")]
    shared = {id[:4] for id in ids if sum(other.startswith(id[:4]) for other in ids) > 1}
    for begins in shared:
        refused = refusal(root, begins)
        assert all(id in refused for id in ids if id.startswith(begins))


@pytest.mark.parametrize(
    ("id", "says"),
    [
        ("f" * 32, "has no such row"),
        ("0" * 33, "an id is up to 32 hex digits"),
        ("abc", "an id is up to 32 hex digits"),
        ("' OR 1 = 1 --", "an id is up to 32 hex digits"),
        ("", "an id is up to 32 hex digits"),
    ],
)
def test_what_is_no_id_of_a_row_is_refused(root: Path, id: str, says: str) -> None:
    refused = refusal(root, id)
    assert says in refused


def test_an_unknown_run_and_an_empty_warehouse_are_refused(root: Path, tmp_path: Path) -> None:
    id = one(root, "SELECT id FROM judgements")
    assert refusal(root, id, "--run", "no-such-run")
    assert refusal(tmp_path / "none", id)
    other = one(root, f"SELECT run_id FROM runs WHERE run_id <> (SELECT run_id FROM judgements WHERE id = '{id}')")
    refused = refusal(root, id, "--run", other)
    assert f"run {other} has no such row" in refused


def test_what_cannot_be_seen_is_escaped_on_a_terminal_and_whole_in_json(root: Path) -> None:
    asked = "SELECT id AS prompt_id, run_id, messages[-1].content AS said FROM prompts WHERE contains(said, chr(27))"
    query = f"SELECT id, said FROM responses JOIN ({asked}) USING (run_id, prompt_id) WHERE kind = 'initial'"
    [(id, text), *_] = table(root, query)
    said = show(root, id)
    assert "\x1b" not in said.stdout
    assert "\\x1b[31m" in said.stdout
    assert as_json(root, id)["requests"][0]["messages"][-1]["content"] == text


@pytest.mark.parametrize("method", ["label", "rationale", "verdict", "rubric"])
def test_asking_again_asks_the_same_and_writes_nothing(tmp_path: Path, method: str) -> None:
    async def asked_twice() -> None:
        async with FakeServer(Fingerprints(), labels=ALL) as server:
            path = project(tmp_path, RECIPE.replace("{url}", server.base_url), ["Is a boat wood?"])
            await run_once(path, tmp_path / "w", list(METHODS[method]) if method != "label" else [])
            before = digests(tmp_path / "w")
            ids = "SELECT id FROM responses WHERE kind <> 'given' UNION SELECT id FROM judgements"
            for [id] in table(tmp_path / "w", ids):
                sent = [received.body for received in server.requests]
                said = await asyncio.to_thread(as_json, tmp_path / "w", id, "--again")
                fresh = [received.body for received in server.requests][len(sent) :]
                assert fresh
                assert all(body in sent for body in fresh)
                assert len(fresh) == len(said["requests"])
                assert all("error" not in each["again"] for each in said["requests"])
                if said["kind"] == "vote":
                    assert said["again"]["probability"] == pytest.approx(said["row"]["p_first"])
                    assert said["requests"][-1]["again"]["shares"] == pytest.approx(
                        said["requests"][-1]["reply"]["shares"]
                    )
                else:
                    written = "critique" if said["row"]["outcome"] == "skipped" else "text"
                    assert said["requests"][-1]["again"]["text"].strip() == said["row"][written]
            assert digests(tmp_path / "w") == before

    asyncio.run(asked_twice())


def test_asking_a_server_that_is_gone_says_so(tmp_path: Path) -> None:
    async def run() -> None:
        async with FakeServer(Fingerprints(), labels=ALL) as server:
            path = project(tmp_path, RECIPE.replace("{url}", server.base_url), ["Is a boat wood?"])
            await run_once(path, tmp_path / "w", [])

    asyncio.run(run())
    refused = refusal(tmp_path / "w", one(tmp_path / "w", "SELECT id FROM judgements"), "--again")
    assert "127.0.0.1" in refused


def test_what_another_recipes_judge_or_an_engine_of_a_program_was_asked_cannot_be_asked_again(tmp_path: Path) -> None:
    path = project(tmp_path, FAKE, ["Is a boat wood?"])
    card = load_constitution(ROOT / "principles", "scorecard")

    async def asked() -> None:
        plan = prepare(load_recipe(path).with_engines({"policy": Fingerprints()}), path, tmp_path / "w")
        async with open_run(plan) as session:
            await session.walk()
            run = await session.finish()
        for seed in (1, 7):
            panel = Panel({"": FakeModel(engine="fake", model=f"other-{seed}")}, JudgeSection(), seed)
            await score(tmp_path / "w", run, Order(card, panel))

    asyncio.run(asked())
    for query, code, says in (
        ("SELECT id FROM scores WHERE judge = 'other-1'", 0, "has no judge other-1: another recipe asked"),
        ("SELECT id FROM scores WHERE judge = 'other-7'", 1, "asked with another seed than the run's"),
        ("SELECT id FROM responses WHERE kind = 'initial'", 0, "an engine that a Python program passed"),
    ):
        id = one(tmp_path / "w", query)
        said = show(tmp_path / "w", id)
        assert said.exit_code == code
        assert says in said.stdout
        assert ("\nRequest to " in said.stdout) == (code == 0)
        assert "Ask it again" not in said.stdout
        assert as_json(tmp_path / "w", id, code=code)["command"] == ""
        assert refusal(tmp_path / "w", id, "--again")


def test_a_principle_that_has_changed_since_changes_nothing_that_is_shown(tmp_path: Path) -> None:
    path = project(tmp_path, FAKE, ["Is a boat wood?"])
    (tmp_path / "principles").unlink()
    shutil.copytree(ROOT / "principles", tmp_path / "principles")
    asyncio.run(run_once(path, tmp_path / "w", []))
    id = one(tmp_path / "w", "SELECT id FROM judgements")
    before = as_json(tmp_path / "w", id)
    file = tmp_path / "principles" / "general" / "1.2.0.toml"
    file.write_text(file.read_text(encoding="utf-8").replace("Which", "Now which"), encoding="utf-8")
    assert as_json(tmp_path / "w", id) == before


def test_messages_of_other_templates_are_not_shown(tmp_path: Path) -> None:
    """Rows that other templates made, in a copy of the package whose templates differ."""
    path = project(tmp_path, FAKE, ["Is a boat wood?"])
    asyncio.run(run_once(path, tmp_path / "w", []))
    changed = {f"constitution/templates/{name}": [(text, f"{text} now")] for name, text in CHANGED.items()}
    copy = seams.stub(tmp_path / "copy", new={}, changed=changed, limit=2)
    queries = {
        "vote": "SELECT id FROM judgements",
        "revision": "SELECT id FROM responses WHERE kind = 'revision'",
        "initial": "SELECT id FROM responses WHERE kind = 'initial'",
    }
    ids = {name: one(tmp_path / "w", query) for name, query in queries.items()}
    found = json.loads(copy.python(ASKED.format(ids=ids, root=str(tmp_path / "w"))))
    for name in ("vote", "revision"):
        code, said, requests = found[name]
        assert code == 1
        assert "The messages are not shown: the templates are others now" in said
        assert "Request" not in said
        assert requests == []
    assert found["initial"][0] == 0  # which no template is in
    assert "Request to policy" in found["initial"][1]
