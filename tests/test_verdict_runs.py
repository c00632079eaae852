"""Whole runs of judges that write their verdicts: alone, in a jury of several methods, over servers without
log-probabilities, and by the pocket model's own probabilities."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from chains import Rows
from click.testing import CliRunner
from odd_server import Body, OddServer, Reply, project, refusal, sound
from run_once import run_once
from small_project import small_project, table
from test_judge_pocket import PRINCIPLES

from constitution import templates
from constitution.cli import app
from constitution.engines import open_engine
from constitution.engines.base import Completion, Engine, Request
from constitution.engines.fake.world import unit
from constitution.identity import digest
from constitution.judge.ask import Judge, vote
from constitution.judge.pairs import Pair
from constitution.labels import Rules, label_pair
from constitution.recipe import JudgeSection, TransformersModel, load_recipe
from constitution.records import Message, Preference, Prompt, Response, Run

JURY = """
name = "mixed"
constitution = "general@1.1.0"
[prompts]
path = "prompts.jsonl"
[model.policy]
engine = "fake"
verbosity = 4
[model.jury.reads]
engine = "fake"
model = "one"
[model.jury.writes]
engine = "fake"
model = "two"
method = "verdict"
position_bias = 0.8
[model.jury.grades]
engine = "fake"
model = "three"
method = "score"
[revise]
rounds = 1
[judge]
principles = 3
verdict.n = 3
score.steps = 20
[output]
flush_seconds = 0.05
"""


def stored(root: Path) -> dict[str, tuple[Any, ...]]:
    columns = (
        "id, p_b, p_mean, p_low, p_high, votes, votes_missing, consistency, agreement, ties, dissent::VARCHAR, label_by"
    )
    return {row[0]: row[1:] for row in table(root, f"SELECT {columns} FROM preferences")}


def command(*arguments: str) -> str:
    result = CliRunner().invoke(app, [*arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_a_jury_of_three_methods(tmp_path: Path) -> None:
    recipe, root = small_project(tmp_path, 24, JURY), tmp_path / "w"
    run = asyncio.run(run_once(recipe, root, []))
    assert run.finished_at
    votes = table(
        root, "SELECT judge, method, count(*) / count(DISTINCT pair_id) FROM judgements GROUP BY ALL ORDER BY 1"
    )
    assert votes == [("grades", "score", 3), ("reads", "label", 6), ("writes", "verdict", 18)]
    cast = table(root, 'SELECT judge, asked = "cast", missing, pairs FROM missing_votes ORDER BY judge')
    pairs = cast[0][3]
    assert cast == [(name, True, 0, pairs) for name in ("grades", "reads", "writes")]
    assert table(root, "SELECT DISTINCT len(read_first) FROM judgements WHERE judge = 'grades'") == [(20,)]
    sets = dict(table(root, "SELECT DISTINCT judge, file FROM judgements JOIN templates ON digest = template_digest "
                            "WHERE file LIKE 'score-20%' OR file IN ('verdict.txt', 'vote.txt')"))  # fmt: skip
    assert sets == {"grades": "score-20.txt", "reads": "vote.txt", "writes": "verdict.txt"}
    # What is made of one pair's votes is what is made of all of them.
    labels = stored(root)
    command("relabel", run.run_id, "--warehouse", str(root))
    again = stored(root)
    assert labels.keys() == again.keys()
    for id, row in labels.items():
        assert again[id] == pytest.approx(row, abs=1e-5), id
    assert all(
        row[2] is not None and row[2] - 1e-9 <= row[1] <= row[3] + 1e-9 for row in labels.values() if row[0] is not None
    )
    command("relabel", run.run_id, "--warehouse", str(root), "--control", "length")
    command("audit", run.run_id, "--warehouse", str(root), "--out", str(tmp_path / "report.html"))
    masses = table(root, "SELECT judge, value IS NULL FROM figures WHERE figure = 'label_mass'")
    assert {judge for judge, null in masses if not null} == {"grades", "reads"}
    [[stable]] = table(root, "SELECT value FROM figures WHERE figure = 'repetition_stability' AND judge = 'writes' "
                             "AND principle_id = ''")  # fmt: skip
    assert 0.5 < stable <= 1
    [[effect]] = table(root, "SELECT value FROM figures WHERE figure = 'position_effect' AND judge = 'writes' "
                             "AND principle_id = ''")  # fmt: skip
    assert 0 < effect < 2  # planted: 0.8; of plain log-odds of shares of three it would be many times that
    out = tmp_path / "out"
    command(
        "export", run.run_id, "--warehouse", str(root), "--format", "dpo", "--out", str(out), "--where", "p_low > 0.2"
    )
    assert "verdict" in (out / "README.md").read_text(encoding="utf-8")


def test_style_is_taken_out_of_shares_and_not_of_single_verdicts(tmp_path: Path) -> None:
    recipe, root = small_project(tmp_path, 70, JURY), tmp_path / "w"
    likes = ["model.jury.writes.length_bias=20", "model.jury.writes.position_bias=0", "judge.principles=2"]
    run = asyncio.run(run_once(recipe, root, likes))
    before = dict(table(root, "SELECT id, p_mean FROM preferences WHERE p_mean IS NOT NULL"))
    output = command("relabel", run.run_id, "--warehouse", str(root), "--control", "length")
    assert "not of writes" not in output
    moved = table(root, "SELECT id, p_b FROM preferences WHERE label_by LIKE 'mean, %, length'")
    assert len(moved) > 50
    assert sum(abs(p_b - before[id]) > 0.02 for id, p_b in moved) > len(moved) / 2


# --- servers


def writing(body: Body) -> dict[str, Any]:
    asked = body["messages"][-1]["content"]
    return sound(body, content="It names what to check.\nVerdict: B") if "“Verdict: A”" in asked else sound(body)


def no_logprobs(body: Body, nth: int) -> Reply | None:
    if "logprobs" in body:
        return refusal("Unsupported parameter: 'logprobs' is not supported with this model.", param="logprobs")
    return Reply(writing(body))


def silent(body: Body, nth: int) -> Reply | None:
    reply = writing(body)
    return Reply({**reply, "choices": [{**reply["choices"][0], "logprobs": None}]})


async def judged(folder: Path, url: str, *overrides: str, prompts: int = 3) -> tuple[Run, Path]:
    path = project(folder / "project", "judge", url, prompts)
    return await run_once(path, folder / "w", list(overrides)), folder / "w"


@pytest.mark.parametrize("odd", [no_logprobs, silent])
async def test_a_server_without_log_probabilities_stops_at_once_and_votes_by_verdict(odd: Any, tmp_path: Path) -> None:
    async with OddServer(odd) as server:
        run, root = await judged(tmp_path / "label", server.base_url, "judge.principles=4", prompts=60)
        asked = sum("logprobs" in body for body in server.bodies)
    assert not run.finished_at
    assert 'set judge.method = "verdict"' in run.stopped
    assert 3 <= asked <= 5  # a new one is sent when one of the first three is back
    assert table(root, "SELECT count(*) FROM judgements") == [(0,)]
    async with OddServer(odd) as server:
        run, root = await judged(tmp_path / "verdict", server.base_url, "judge.method=verdict")
    assert run.finished_at
    assert not any("logprobs" in body for body in server.bodies)
    votes = table(root, "SELECT DISTINCT method, p_first, rationale FROM judgements")
    assert votes == [("verdict", 0.0, "It names what to check.\nVerdict: B")]


async def test_a_jurys_member_is_named_with_its_own_setting(tmp_path: Path) -> None:
    async with OddServer(silent) as server:
        path = project(tmp_path / "project", "judge", server.base_url)
        text = path.read_text(encoding="utf-8").replace("[model.judge]", "[model.jury.big]")
        path.write_text(text + '\n[model.jury.small]\nengine = "fake"\n', encoding="utf-8")
        run = await run_once(path, tmp_path / "w", [])
        assert 'method = "verdict" in [model.jury.big]' in run.stopped
        again = await run_once(path, tmp_path / "w", ["model.jury.big.method=verdict"])
    assert again.finished_at
    assert again.run_id != run.run_id
    methods = table(tmp_path / "w", f"SELECT DISTINCT judge, method FROM judgements WHERE run_id = '{again.run_id}'")
    assert sorted(methods) == [("big", "verdict"), ("small", "label")]


def test_what_a_recipe_does_not_say_is_in_no_id(tmp_path: Path) -> None:
    recipe = load_recipe(small_project(tmp_path, 1, JURY))
    dumped = recipe.judge.model_dump(mode="json", exclude_defaults=True) if recipe.judge else {}
    assert dumped == {"principles": 3, "verdict": {"n": 3}, "score": {"steps": 20}}
    assert recipe.model.jury["reads"].model_dump(exclude_defaults=True) == {"engine": "fake", "model": "one"}


# --- the pocket model


class Speaking:
    """The pocket model, which never learned to write a verdict: it writes one of its two labels, drawn by its own
    probabilities of them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._read: dict[str, float] = {}

    model = "pocket"

    def describe(self) -> Mapping[str, str]:
        return self._engine.describe()

    async def generate(self, request: Request) -> Completion:
        if request.choices:
            return await self._engine.generate(request)
        head = request.messages[0].content.partition("\n\nReason first:")[0]
        if head not in self._read:
            asked = (Message("user", f"{head}\nOptions: (A) (B)"), Message("assistant", templates.ENDING))
            label = Request(asked, replace(request.sampling, max_tokens=1), 1, choices=templates.LABELS)
            found = (await self._engine.generate(label)).choice_logprobs
            assert found is not None
            p, q = (2.718281828 ** found[label] for label in templates.LABELS)
            self._read[head] = p / (p + q)
        drawn = "A" if unit(digest([head, request.seed])) < self._read[head] else "B"
        return Completion(f"Verdict: {drawn}", "stop", 1, 3)

    def stats(self) -> Mapping[str, Any]:
        return {}

    async def close(self) -> None:
        return None


async def test_the_pocket_models_verdicts_prefer_what_its_labels_prefer() -> None:
    engine = Speaking(await open_engine(TransformersModel(engine="transformers", model="pocket")))

    async def labelled(method: str) -> list[Preference]:
        section, made = JudgeSection.model_validate({"method": method}), []
        for rule in PRINCIPLES:
            example = rule.examples[0]
            prompt = Prompt(example.messages)
            a, b = (
                Response(f"{rule.id}-{round}", "run-1", prompt.id, "given", round, text, "ok", "given")
                for round, text in enumerate((example.worse, example.better))
            )
            pair = Pair(rule.id, "given", a, b)
            votes = await vote(Judge("run-1", 1, 1, engine, "pocket", (rule,), section), prompt, pair, {}, Rows().put)
            made.append(label_pair(pair, votes.judgements, votes.expected, {rule.id: 1.0}, Rules()))
        return made

    read, written = await labelled("label"), await labelled("verdict")
    await engine.close()
    both = [(one.p_b or 0.0, other) for one, other in zip(read, written, strict=True)]
    clear = [(p, other) for p, other in both if abs(p - 0.5) > 0.3]
    assert len(clear) > len(both) / 2
    assert all((p > 0.5) == ((other.p_b or 0.0) > 0.5) for p, other in clear)
    covered = [(other.p_low or 0.0) - 1e-9 <= p <= (other.p_high or 0.0) + 1e-9 for p, other in both]
    assert sum(covered) / len(covered) >= 0.93


async def test_what_the_pocket_model_writes_by_itself_is_no_verdict() -> None:
    engine = await open_engine(TransformersModel(engine="transformers", model="pocket"))
    section = JudgeSection.model_validate({"method": "verdict", "verdict": {"n": 1, "max_tokens": 24}})
    rule = PRINCIPLES[0]
    example = rule.examples[0]
    prompt = Prompt(example.messages)
    a, b = (
        Response(f"r{round}", "run-1", prompt.id, "given", round, text, "ok", "given")
        for round, text in enumerate((example.worse, example.better))
    )
    rows = Rows()
    votes = await vote(
        Judge("run-1", 1, 1, engine, "pocket", (rule,), section), prompt, Pair("p", "given", a, b), {}, rows.put
    )
    await engine.close()
    assert not votes.judgements
    assert len(votes.failures) == 2
    assert all(failure.message.startswith("verdict: ") for failure in votes.failures)
