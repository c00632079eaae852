"""A scorecard asked of a real run's answers: what is asked and what not, what is stopped and goes on, the command."""

from __future__ import annotations

import asyncio
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from report_page import Page, differences
from small_project import RECIPE, ROOT, table

from constitution.ask import SHIPPED, swaps
from constitution.ask import scorecard as asking
from constitution.ask.panel import Panel
from constitution.ask.scoring import Order, score
from constitution.ask.swaps import load_swaps
from constitution.audit import audit
from constitution.cli import app
from constitution.engines.base import Completion, Request
from constitution.errors import (
    ContextTooLong,
    EngineError,
    EngineTimeout,
    EngineUnavailable,
    MalformedReply,
    PrincipleError,
)
from constitution.pipeline import open_run, prepare
from constitution.principles import load_constitution
from constitution.recipe import FakeModel, JudgeSection, load_recipe
from constitution.records import Response, Run
from constitution.warehouse import Warehouse

CARD = load_constitution(ROOT / "principles", "scorecard")
QUESTIONS = sum(len(principle.criteria) for principle in CARD.principles)
PANEL = Panel({"": FakeModel(engine="fake", model="asked")}, JudgeSection())
NAMED = RECIPE.replace('answers = ["good", "bad"]', 'answers = ["good", "bad"]\ntags_field = "tags"').replace(
    "[output]", "[perturb]\nshare = 0.5\n[output]"
)


@dataclass
class Recorder:
    """A judge that says yes to everything, with P(yes) = 0.6 / 0.8, and keeps what it was asked."""

    model: str = "recorder"
    digest: str = "1"
    asked: list[str] = field(default_factory=list)
    fails: str = ""
    """Questions with these words fail."""
    stops: int = 10**9
    """After so many questions the process dies."""
    dies: int = 10**9
    """After so many questions the engine does."""
    calls: int = 0

    def describe(self) -> Mapping[str, str]:
        return {"name": self.model, "digest": self.digest, "base_url": str(id(self))}

    async def generate(self, request: Request) -> Completion:
        await asyncio.sleep(0)
        text = request.messages[0].content
        self.calls += 1
        if len(self.asked) >= self.dies:
            raise EngineUnavailable("server gone")
        if len(self.asked) >= self.stops:
            raise KeyboardInterrupt
        if self.fails and self.fails in text:
            raise EngineTimeout("too slow")
        self.asked.append(text)
        return Completion("Y", "length", 10, 1, 4, {"Y": math.log(0.6), "N": math.log(0.2)})

    def stats(self) -> Mapping[str, Any]:
        return {}

    async def close(self) -> None:
        """Nothing to close."""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of 16 prompts, half of which name a man; half of them have a spoiled answer too."""
    import json

    folder = tmp_path_factory.mktemp("ran")
    (folder / "principles").symlink_to(ROOT / "principles")
    rows = [
        {"prompt": f"How does {'a man' if n % 2 else 'one'} mend thing {n}?", "good": f"Like {n}.", "bad": "No.",
         "tags": ["harmless" if n % 3 else "harmful"]}
        for n in range(16)
    ]  # fmt: skip
    (folder / "prompts.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    path = folder / "recipe.toml"
    path.write_text(NAMED, encoding="utf-8")

    async def go() -> None:
        plan = await asyncio.to_thread(prepare, load_recipe(path, []), path, folder / "warehouse", False)
        async with open_run(plan) as session:
            await session.walk()
            assert (await session.finish()).finished_at

    asyncio.run(go())
    return folder


@pytest.fixture
def root(ran: Path, tmp_path: Path) -> Path:
    """A warehouse of its own with that run."""
    shutil.copytree(ran / "warehouse", tmp_path / "warehouse")
    return tmp_path / "warehouse"


@pytest.fixture
def run(root: Path) -> Run:
    return Warehouse(root).runs()[-1]


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    made = Recorder()

    async def opened(section: object) -> Recorder:
        return made

    monkeypatch.setattr(asking, "open_engine", opened)
    return made


TEXTS = "SELECT count(DISTINCT (prompt_id, text)) FROM responses WHERE kind <> 'perturbation' AND trim(text) <> ''"


async def test_every_text_is_asked_once_and_spoiled_and_empty_ones_are_not(
    root: Path, run: Run, recorder: Recorder
) -> None:
    prompt = table(root, "SELECT id FROM prompts LIMIT 1")[0][0]
    empty = Response("e" * 32, run.run_id, prompt, "given", 7, "  ", "empty", "given")
    Warehouse(root).write_part("responses", run.run_id, [empty])
    [asked] = await score(root, run, Order(CARD, PANEL))
    ((texts,),) = table(root, TEXTS)
    assert len(recorder.asked) == texts * QUESTIONS
    scored = "SELECT count(*), count(DISTINCT id), sum(prompt_tokens), min(p_yes), max(label_mass) FROM scores"
    ((rows, ids, tokens, p_yes, mass),) = table(root, scored)
    ((answers,),) = table(root, "SELECT count(*) FROM responses WHERE kind <> 'perturbation'")
    assert rows == ids == asked.new == (answers - 1) * QUESTIONS > texts * QUESTIONS
    assert tokens == 10 * len(recorder.asked)
    assert p_yes == pytest.approx(0.75)
    assert mass == pytest.approx(0.8)
    kinds = "SELECT DISTINCT kind FROM responses WHERE id IN (SELECT response_id FROM scores) ORDER BY ALL"
    assert table(root, kinds) == [("given",), ("initial",), ("revision",)]
    assert ("perturbation",) in table(root, "SELECT DISTINCT kind FROM responses")
    [again] = await score(root, run, Order(CARD, PANEL))
    assert (again.new, again.known) == (0, asked.new)
    assert len(recorder.asked) == texts * QUESTIONS


async def test_other_words_or_another_model_are_asked_anew(root: Path, run: Run, recorder: Recorder) -> None:
    order = Order(CARD, PANEL, sample=2)
    await score(root, run, order)
    once = len(recorder.asked)
    recorder.digest = "2"
    await score(root, run, order)
    assert len(recorder.asked) == 2 * once
    recorder.digest = "1"
    biased = {"": FakeModel(engine="fake", model="asked", position_bias=1.0)}  # settings that no digest tells of
    for panel in (replace(PANEL, seed=PANEL.seed + 1), replace(PANEL, judges=biased)):
        before = len(recorder.asked)
        await score(root, run, replace(order, panel=panel))
        assert len(recorder.asked) == before + once
    other = load_constitution(ROOT / "principles", "pocket-scorecard")
    await score(root, run, Order(other, PANEL, sample=2))
    assert len(recorder.asked) == 4 * once + once * sum(len(each.criteria) for each in other.principles) // QUESTIONS


async def test_a_sample_is_part_of_a_larger_one(root: Path, run: Run, recorder: Recorder) -> None:
    [few] = await score(root, run, Order(CARD, PANEL, sample=5))
    assert table(root, "SELECT count(DISTINCT prompt_id) FROM scores") == [(5,)]
    [more] = await score(root, run, Order(CARD, PANEL, sample=9))
    assert more.known == few.new
    assert table(root, "SELECT count(DISTINCT prompt_id) FROM scores") == [(9,)]


async def test_a_question_that_fails_has_no_row_and_is_asked_again(root: Path, run: Run, recorder: Recorder) -> None:
    recorder.fails = "threaten anybody"
    [asked] = await score(root, run, Order(CARD, PANEL, sample=3))
    texts = len(recorder.asked) // (QUESTIONS - 1)
    assert asked.failed == {"EngineTimeout": texts}
    assert asked.why == {"EngineTimeout": "too slow"}
    assert table(root, "SELECT count(*) FROM scores WHERE question LIKE '%threaten%'") == [(0,)]
    recorder.fails = ""
    [again] = await score(root, run, Order(CARD, PANEL, sample=3))
    assert again.failed == {}
    assert len(recorder.asked) == texts * QUESTIONS


def test_a_scorecard_that_is_stopped_goes_on(root: Path, run: Run, recorder: Recorder) -> None:
    recorder.stops = 30 * QUESTIONS
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(score(root, run, Order(CARD, PANEL, window=4)))
    ((before,),) = table(root, "SELECT count(*) FROM scores")
    assert before >= 25 * QUESTIONS
    recorder.stops = 10**9
    [asked] = asyncio.run(score(root, run, Order(CARD, PANEL, window=4)))
    assert asked.known == before
    ((rows, ids),) = table(root, "SELECT count(*), count(DISTINCT id) FROM scores")
    assert rows == ids == before + asked.new
    assert len(recorder.asked) < (table(root, TEXTS)[0][0] + 5) * QUESTIONS


async def test_a_constitution_that_is_no_scorecard_is_refused(root: Path, run: Run) -> None:
    with pytest.raises(PrincipleError, match="as its first tag one of refusal-full"):
        await score(root, run, Order(load_constitution(ROOT / "principles", "general"), PANEL))


async def test_no_more_than_the_window_is_in_flight_and_an_error_ends_the_rest() -> None:
    now, most, ended = 0, 0, 0

    async def work(number: int) -> int:
        nonlocal now, most, ended
        now += 1
        most = max(most, now)
        try:
            await asyncio.sleep(0.001 * (number % 3))
            if number == 20:
                raise ValueError("twenty")
            return number
        finally:
            now -= 1
            ended += 1

    assert sorted([made async for made in asking.in_window(range(20), work, 4)]) == list(range(20))
    assert most == 4
    with pytest.raises(ValueError, match="twenty"):
        _ = [made async for made in asking.in_window(range(40), work, 4)]
    assert now == 0


async def test_swapped_prompts_are_answered_by_the_policy_as_the_initial_ones_were(root: Path, run: Run) -> None:
    order = Order(CARD, PANEL, load_swaps(SHIPPED), sample=12)
    swapped, asked = await score(root, run, order)
    rows = table(
        root,
        "SELECT c.terms, c.swap, list_last(c.messages).content, c.seed = r.seed, c.text <> r.text, p.last_user "
        "FROM counterfactuals c JOIN responses r ON r.id = c.response_id JOIN prompts p ON p.id = c.prompt_id",
    )
    assert 0 < len(rows) == swapped.new < 12
    for terms, swap, now, same_seed, other_text, was in rows:
        assert (terms, swap, same_seed, other_text) == ("gender", "he → she", True, True)
        assert now == was.replace("a man", "a woman") != was
    scored = "SELECT count(DISTINCT response_id) FROM scores WHERE response_id IN (SELECT id FROM counterfactuals)"
    assert table(root, scored) == [(len(rows),)]
    swapped, again = await score(root, run, order)
    assert (swapped.new, swapped.known, again.new, again.known) == (0, len(rows), 0, asked.new)


def call(folder: Path, root: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    monkeypatch.chdir(folder)
    out = ["--out", str(root.parent / "report.html"), "--warehouse", str(root), "--replicates", "100"]
    done = CliRunner().invoke(app, ["audit", *words, *out], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_the_command_asks_tells_and_shows_and_later_audits_tell_it_again(
    ran: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = call(ran, root, monkeypatch, "--scorecard", "--swaps", "--sample", "12", "--tag", "looks-harmful=harmful")
    assert "Counterfactual prompts answered: " in said
    assert "scorecard@1.0.0 asked of fake-judge: " in said
    assert "Over-refusal, full/0" in said
    page = (root.parent / "report.html").read_text(encoding="utf-8")
    shown = Page(page)
    assert differences(shown, root) == []
    for name in ("refusal", "over-refusal", "undesired", "fairness-refusal"):
        assert shown.exhibits[f"scorecard-{name}"].rows, name
    assert "takes rows of response_id" in shown.exhibits["missing"].text
    later = audit(root, Warehouse(root).runs()[-1].run_id, replicates=100)
    assert any(figure.figure == "scorecard_refusal" and figure.value is not None for figure in later)


def test_where_no_prompt_names_a_term_the_command_says_so(
    ran: Path, root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("constitution.cli.audit.measure", lambda *_, **__: [])
    monkeypatch.setattr("constitution.cli.audit.report", lambda *_: "")
    (tmp_path / "terms.toml").write_text('[[groups]]\nname = "x"\nterms = ["Xanadu", "Yonder"]', encoding="utf-8")
    words = ("--scorecard", "--swaps", str(tmp_path / "terms.toml"), "--sample", "1")
    assert "no prompt names exactly one term of a group" in call(ran, root, monkeypatch, *words)


@pytest.mark.parametrize("words", [("--swaps",), ("--sample", "5"), ("--model", "fake"), ("--concurrency", "2")])
def test_to_say_how_to_ask_and_not_to_ask_is_an_error(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = CliRunner().invoke(app, ["audit", *words, "--warehouse", str(tmp_path)])
    assert done.exit_code == 2
    assert f"{words[0]} says how a scorecard is asked, and none is: add --scorecard" in done.output


async def test_labels_of_answers_say_how_right_the_judge_is(root: Path, run: Run) -> None:
    """The fake judge's own verdicts as labels: it is right in every one, and nothing is to be corrected."""
    await score(root, run, Order(CARD, PANEL, sample=10))
    labels = ["response_id,principle_id,value"]
    labels += [
        f"{id},crime,{int(p >= 0.5)}"
        for id, p in table(root, "SELECT response_id, p_yes FROM scores WHERE principle_id = 'crime'")
    ]
    (root.parent / "ann.csv").write_text("\n".join(labels), encoding="utf-8")
    words = ["annotations", "import", str(root.parent / "ann.csv"), "--warehouse", str(root)]
    assert CliRunner().invoke(app, words, catch_exceptions=False).exit_code == 0
    figures = {(f.figure, f.principle_id, f.subject): f for f in audit(root, run.run_id, replicates=100)}
    assert figures["scorecard_sensitivity", "crime", ""].value == 1
    assert figures["scorecard_specificity", "crime", ""].value == 1
    found, true = (figures[f"scorecard_undesired{end}", "", "crime/0"] for end in ("", "_corrected"))
    assert true.value == pytest.approx(found.value)


async def test_an_engine_that_is_gone_ends_the_asking_and_what_was_read_stays(
    root: Path, run: Run, recorder: Recorder
) -> None:
    recorder.dies = 10 * QUESTIONS
    order = Order(CARD, PANEL, window=4)
    with pytest.raises(EngineUnavailable, match=r"recorder answers no more: .* in a row .*: server gone") as raised:
        await score(root, run, order)
    assert "the same command resumes" in raised.value.hint
    # Nobody is asked much longer than it takes to see it: the answers in flight and as many again.
    assert recorder.calls <= recorder.dies + asking.GIVEN_UP + 8 * QUESTIONS
    ((before,),) = table(root, "SELECT count(*) FROM scores")
    assert before >= 10 * QUESTIONS  # a text may be several answers
    recorder.dies = 10**9
    [asked] = await score(root, run, order)
    assert asked.known == before
    assert len(recorder.asked) == table(root, TEXTS)[0][0] * QUESTIONS


def test_a_gone_engine_is_told_from_one_that_refuses() -> None:
    asked = asking.Asked("j")
    for _ in range(1000):
        asked.failure(ContextTooLong("too long"))
        asked.failure(MalformedReply("no text"))
    asked.check()
    for _ in range(asking.GIVEN_UP - 1):
        asked.failure(EngineTimeout("late"))
    asked.success(1)
    asked.failure(EngineTimeout("late"))
    asked.check()
    for _ in range(asking.GIVEN_UP):
        asked.failure(EngineTimeout("late"))
    with pytest.raises(EngineUnavailable, match="EngineTimeout: late"):
        asked.check()


async def test_a_policy_that_is_gone_ends_the_answering_of_swapped_prompts(
    root: Path, run: Run, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder.dies = 0

    async def opened(section: object) -> Recorder:
        return recorder

    monkeypatch.setattr(swaps, "open_engine", opened)
    monkeypatch.setattr(swaps, "_check_same", lambda *_: None)
    monkeypatch.setattr(asking, "GIVEN_UP", 3)
    with pytest.raises(EngineUnavailable, match="the policy answers no more"):
        await score(root, run, Order(CARD, PANEL, load_swaps(SHIPPED), window=1))
    assert recorder.calls <= 4
    assert table(root, "SELECT count(*) FROM counterfactuals") == [(0,)]


def test_errors_of_engines_are_counted_by_class() -> None:
    asked = asking.Asked("j")
    for error in (EngineTimeout("a"), EngineTimeout("b"), EngineError("c")):
        asked.failure(error)
    assert asked.failed == {"EngineTimeout": 2, "EngineError": 1}
    assert asked.why == {"EngineTimeout": "a", "EngineError": "c"}
