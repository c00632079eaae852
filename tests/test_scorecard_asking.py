"""A scorecard asked of a real run's answers: what is asked and what not, what is stopped and resumes, the command."""

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
from run_once import run_once
from small_project import RECIPE, ROOT, small_project, table

from constitution.ask import SHIPPED, questions, swaps
from constitution.ask.panel import Panel
from constitution.ask.questions import GIVEN_UP, Asked
from constitution.ask.scorecard import Order, score
from constitution.ask.swaps import load_swaps
from constitution.audit import audit
from constitution.cli import app
from constitution.engines.base import Completion, Request
from constitution.errors import (
    ContextTooLong,
    EngineError,
    EngineTimeout,
    EngineUnavailable,
    InputError,
    MalformedReply,
    PrincipleError,
)
from constitution.pipeline import watcher
from constitution.principles import load_constitution
from constitution.recipe import FakeModel, JudgeSection
from constitution.records import Response, Run
from constitution.warehouse import Warehouse

CARD = load_constitution(ROOT / "principles", "scorecard")
QUESTIONS = sum(len(principle.criteria) for principle in CARD.principles)
PANEL = Panel({"": FakeModel(engine="fake", model="asked")}, JudgeSection())
ORDER = Order(CARD, PANEL, window=4)
NAMED = RECIPE.replace('answers = ["good", "bad"]', 'answers = ["good", "bad"]\ntags_field = "tags"').replace(
    "[output]", "[perturb]\nshare = 0.5\n[output]"
)
NEVER = 10**9


@dataclass
class Recorder:
    """A judge that says yes to everything, with P(yes) = 0.6 / 0.8, and keeps what it was asked."""

    model: str = "recorder"
    digest: str = "1"
    asked: list[str] = field(default_factory=list)
    fails: str = ""
    """Questions with these words fail."""
    stops: int = NEVER
    """After so many questions the command is cancelled, as Ctrl-C does it."""
    dies: int = NEVER
    """After so many questions the engine does."""
    calls: int = 0
    in_flight: int = 0
    most: int = 0
    """Requests in flight at once."""
    task: asyncio.Task[Any] | None = None
    """The command."""

    def describe(self) -> Mapping[str, str]:
        return {"name": self.model, "digest": self.digest, "base_url": str(id(self))}

    async def generate(self, request: Request) -> Completion:
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        try:
            await asyncio.sleep(0)
        finally:
            self.in_flight -= 1
        text = request.messages[0].content
        self.calls += 1
        if len(self.asked) >= self.dies:
            raise EngineUnavailable("server gone")
        if len(self.asked) >= self.stops:
            assert self.task is not None
            self.task.cancel()
            await asyncio.Event().wait()
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
    folder = tmp_path_factory.mktemp("ran")
    rows = [
        {"prompt": f"How does {'a man' if n % 2 else 'one'} mend thing {n}?", "good": f"Like {n}.", "bad": "No.",
         "tags": ["harmless" if n % 3 else "harmful"]}
        for n in range(16)
    ]  # fmt: skip
    assert asyncio.run(run_once(small_project(folder, rows, NAMED), folder / "warehouse", [])).finished_at
    return folder


@pytest.fixture
def root(ran: Path, tmp_path: Path) -> Path:
    """Its own warehouse with that run."""
    shutil.copytree(ran / "warehouse", tmp_path / "warehouse")
    return tmp_path / "warehouse"


@pytest.fixture
def run(root: Path) -> Run:
    return Warehouse(root).runs()[-1]


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()

    async def opened(section: object) -> Recorder:
        return recorder

    monkeypatch.setattr(questions, "open_engine", opened)
    return recorder


TEXTS = "SELECT count(DISTINCT (prompt_id, text)) FROM responses WHERE kind <> 'perturbation' AND trim(text) <> ''"


def number(root: Path, query: str) -> int:
    ((value,),) = table(root, query)
    return int(value)


async def test_every_text_is_asked_once_and_spoiled_and_empty_ones_are_not(
    root: Path, run: Run, recorder: Recorder
) -> None:
    prompt = table(root, "SELECT id FROM prompts LIMIT 1")[0][0]
    empty = Response("e" * 32, run.run_id, prompt, "given", 7, "  ", "empty", "given")
    Warehouse(root).write_part("responses", run.run_id, [empty])
    seen: list[tuple[int, int, str]] = []
    token = watcher.set(lambda progress: seen.append((progress.done, progress.total, progress.note)))
    [asked] = await score(root, run, ORDER)
    watcher.reset(token)
    texts = number(root, TEXTS)
    assert len(recorder.asked) == texts * QUESTIONS
    assert recorder.most == 4 * QUESTIONS, "so many answers are in flight, each with all its questions"
    assert seen == [(done, texts, "answers asked of recorder") for done in range(1, texts + 1)]
    scored = "SELECT count(*), count(DISTINCT id), sum(prompt_tokens), min(p_yes), max(label_mass) FROM scores"
    ((rows, ids, tokens, p_yes, mass),) = table(root, scored)
    answers = number(root, "SELECT count(*) FROM responses WHERE kind <> 'perturbation'")
    assert rows == ids == asked.new == (answers - 1) * QUESTIONS > texts * QUESTIONS
    assert tokens == 10 * len(recorder.asked)
    assert (p_yes, mass) == (pytest.approx(0.75), pytest.approx(0.8))
    kinds = "SELECT DISTINCT kind FROM responses WHERE id IN (SELECT response_id FROM scores) ORDER BY ALL"
    assert table(root, kinds) == [("given",), ("initial",), ("revision",)]
    assert ("perturbation",) in table(root, "SELECT DISTINCT kind FROM responses")
    [again] = await score(root, run, ORDER)
    assert (again.new, again.known, len(recorder.asked)) == (0, asked.new, texts * QUESTIONS)


async def test_other_words_or_another_model_are_asked_again(root: Path, run: Run, recorder: Recorder) -> None:
    order = replace(ORDER, sample=2)
    await score(root, run, order)
    once = len(recorder.asked)
    other = load_constitution(ROOT / "principles", "pocket-scorecard")
    biased = {"": FakeModel(engine="fake", model="asked", position_bias=1.0)}  # settings that no digest reports
    for digest, changed, more in (
        ("2", order, once),
        ("1", replace(order, panel=replace(PANEL, seed=PANEL.seed + 1)), once),
        ("1", replace(order, panel=replace(PANEL, judges=biased)), once),
        ("1", replace(order, scorecard=other), once * sum(len(p.criteria) for p in other.principles) // QUESTIONS),
        ("1", order, 0),
    ):
        before, recorder.digest = len(recorder.asked), digest
        await score(root, run, changed)
        assert len(recorder.asked) == before + more


async def test_a_sample_is_part_of_a_larger_one_and_what_fails_is_asked_again(
    root: Path, run: Run, recorder: Recorder
) -> None:
    recorder.fails = "threaten anybody"
    [few] = await score(root, run, replace(ORDER, sample=3))
    texts = len(recorder.asked) // (QUESTIONS - 1)
    assert (few.failed, few.why) == ({"EngineTimeout": texts}, {"EngineTimeout": "too slow"})
    assert number(root, "SELECT count(*) FROM scores WHERE question LIKE '%threaten%'") == 0
    recorder.fails = ""
    [again] = await score(root, run, replace(ORDER, sample=3))
    assert (again.failed, len(recorder.asked)) == ({}, texts * QUESTIONS)
    assert number(root, "SELECT count(DISTINCT prompt_id) FROM scores") == 3
    [more] = await score(root, run, replace(ORDER, sample=5))
    assert more.known == few.new + again.new
    assert number(root, "SELECT count(DISTINCT prompt_id) FROM scores") == 5


@pytest.mark.parametrize(
    ("ends", "error", "message"),
    [
        ({"stops": 10 * QUESTIONS}, asyncio.CancelledError, "^$"),
        ({"dies": 10 * QUESTIONS}, EngineUnavailable, "recorder answers no more: 64 .* in a row .*: server gone"),
    ],
)
async def test_what_is_stopped_keeps_its_rows_and_resumes(
    root: Path, run: Run, recorder: Recorder, ends: dict[str, int], error: type[BaseException], message: str
) -> None:
    for name, count in ends.items():
        setattr(recorder, name, count)
    recorder.task = asyncio.create_task(score(root, run, ORDER))
    with pytest.raises(error, match=message) as raised:
        await recorder.task
    assert "the same command resumes" in getattr(raised.value, "hint", "the same command resumes")
    before = number(root, "SELECT count(*) FROM scores")
    assert before >= 10 * QUESTIONS, "every reply that came: a text may be several answers"
    # It is not asked much longer than it takes to see it: what is in flight.
    assert recorder.calls <= 10 * QUESTIONS + GIVEN_UP + 4 * QUESTIONS
    recorder.stops = recorder.dies = NEVER
    [asked] = await score(root, run, ORDER)
    assert asked.known == before
    ids = number(root, "SELECT count(DISTINCT id) FROM scores")
    assert number(root, "SELECT count(*) FROM scores") == ids == before + asked.new
    assert len(recorder.asked) == number(root, TEXTS) * QUESTIONS


async def test_a_constitution_that_is_no_scorecard_is_refused(root: Path, run: Run) -> None:
    with pytest.raises(PrincipleError, match="as its first tag one of refusal-full"):
        await score(root, run, Order(load_constitution(ROOT / "principles", "general"), PANEL))


def test_a_gone_engine_is_told_from_one_that_refuses() -> None:
    asked = Asked("j")
    for _ in range(GIVEN_UP):
        asked.failure(ContextTooLong("too long"))
        asked.failure(MalformedReply("no text"))
    for _ in range(GIVEN_UP - 1):
        asked.failure(EngineTimeout("late"))
    asked.success(1)
    asked.failure(EngineError("other"))
    for _ in range(GIVEN_UP - 2):
        asked.failure(EngineTimeout("later"))
    with pytest.raises(EngineUnavailable, match="EngineTimeout: later"):
        asked.failure(EngineTimeout("later"))
    assert asked.failed == {
        "ContextTooLong": GIVEN_UP, "MalformedReply": GIVEN_UP, "EngineTimeout": 2 * GIVEN_UP - 2, "EngineError": 1
    }  # fmt: skip
    assert asked.why["EngineTimeout"] == "late"


def test_a_judge_without_log_probabilities_is_asked_no_more() -> None:
    """One may be a slip, and one that gave them once is asked on."""
    bare = MalformedReply("the reply has no log-probabilities")
    bare.no_logprobs = True
    asked, able = Asked("j"), Asked("j", known=1)
    asked.failure(bare)
    asked.failure(bare)
    with pytest.raises(EngineUnavailable, match="j gives no log-probabilities") as raised:
        asked.failure(bare)
    assert "--recipe" in raised.value.hint
    for _ in range(GIVEN_UP):
        able.failure(bare)
    assert able.failed == {"MalformedReply": GIVEN_UP}


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
    assert number(root, scored) == len(rows)
    swapped, again = await score(root, run, order)
    assert (swapped.new, swapped.known, again.new, again.known) == (0, len(rows), 0, asked.new)


async def test_a_policy_that_is_another_or_gone_ends_the_answering_of_swapped_prompts(
    root: Path, run: Run, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder.dies = 0
    order = Order(CARD, PANEL, load_swaps(SHIPPED), window=1)
    was = replace(run, models={"policy": {"digest": "0" * 64}})
    with pytest.raises(InputError, match="its policy was another model than recorder is now"):
        await score(root, was, order)
    monkeypatch.setattr(questions, "GIVEN_UP", 3)
    monkeypatch.setattr(swaps, "_check_same", lambda *_: None)
    with pytest.raises(EngineUnavailable, match="the policy answers no more"):
        await score(root, run, order)
    assert recorder.calls <= 4
    assert number(root, "SELECT count(*) FROM counterfactuals") == 0


def call(folder: Path, root: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    monkeypatch.chdir(folder)
    out = ["--out", str(root.parent / "report.html"), "--warehouse", str(root), "--replicates", "100"]
    done = CliRunner().invoke(app, ["audit", *words, *out], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_the_command_asks_and_shows_and_a_later_audit_holds_it_against_labels(
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

    # The fake judge's own verdicts as labels: it is right in every one, and nothing is to be corrected.
    verdicts = """
        SELECT s.response_id, s.p_yes FROM scores AS s JOIN responses AS r ON r.id = s.response_id
        WHERE s.principle_id = 'crime'
    """
    labels = ["response_id,principle_id,value"]
    labels += [f"{id},crime,{int(p >= 0.5)}" for id, p in table(root, verdicts)]
    (root.parent / "ann.csv").write_text("\n".join(labels), encoding="utf-8")
    words = ["annotations", "import", str(root.parent / "ann.csv"), "--warehouse", str(root)]
    assert CliRunner().invoke(app, words, catch_exceptions=False).exit_code == 0
    later = audit(root, Warehouse(root).runs()[-1].run_id, replicates=100)
    figures = {(figure.figure, figure.principle_id, figure.subject): figure.value for figure in later}
    assert any(name == "scorecard_refusal" and value is not None for (name, _, _), value in figures.items())
    assert figures["scorecard_sensitivity", "crime", ""] == figures["scorecard_specificity", "crime", ""] == 1
    read, corrected = (figures[f"scorecard_undesired{end}", "", "crime/0"] for end in ("", "_corrected"))
    assert corrected == pytest.approx(read)


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
