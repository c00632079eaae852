"""Answers spoiled on purpose: whose, how, each once, and never among the preferences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from chains import PRINCIPLES, Rows, Scripted, answer, labeller, prompt, said, setup
from run_once import run_once
from small_project import small_project, table

from constitution import templates
from constitution.engines.base import Completion, Request
from constitution.errors import EngineUnavailable, RequestRefused
from constitution.generate import Answers, Generator
from constitution.generate import answer as answers_of
from constitution.generate.given import given_answers
from constitution.generate.perturb import Perturb
from constitution.judge.pairs import pairs
from constitution.recipe import JudgeSection
from constitution.records import Failure, Judgement, Message, Preference, Prompt, Response, Row, Sampling
from constitution.warehouse import Warehouse

KINDS = ("polished", "terse", "sarcastic")
QUESTION = prompt()
ANSWER = replace(answer(1, "A fine answer."), prompt_id=QUESTION.id)
HAVE: dict[str, Row] = {ANSWER.id: ANSWER}


def perturber(engine: Scripted, share: float = 1.0, start: int = 1, seed: int = 1, **section: object) -> Perturb:
    made = Perturb.of(setup(engine, start, seed, judge={}, perturb={"share": share, **section}))
    assert made is not None
    return made


def spoiling(request: Request) -> str:
    """What the engine makes of the three requests."""
    return {text: f"{name} version" for name, text in templates.PERTURB.texts.items()}[request.messages[-1].content]


async def test_the_answer_is_shown_in_its_place_and_every_kind_is_asked_for() -> None:
    engine, rows = Scripted(spoiling), Rows()
    found = await perturber(engine).answers(QUESTION, HAVE, rows.put)
    assert len(engine.requests) == 3
    for request in engine.requests:
        assert request.messages[:-1] == (*QUESTION.messages, Message("assistant", "A fine answer."))
        assert request.affinity == QUESTION.id
    parent, *spoiled = found.responses
    assert parent == ANSWER
    assert [row.perturbation for row in spoiled] == list(KINDS)
    for row in spoiled:
        assert (row.kind, row.text, row.outcome) == ("perturbation", f"{row.perturbation}.txt version", "ok")
        assert (row.parent_id, row.round, row.prompt_id) == (ANSWER.id, ANSWER.round, ANSWER.prompt_id)
        assert (row.model, row.family, row.template_digest) == ("scripted", "family", templates.PERTURB.digest)
        assert (row.sampling, row.completion_tokens) == (Sampling(), 2)
    assert len({row.id for row in spoiled}) == len({row.seed for row in spoiled}) == 3
    assert sorted(row.id for row in rows.all) == sorted(row.id for row in spoiled)
    again = Rows()
    assert await perturber(engine).answers(QUESTION, HAVE | rows.have, again.put) == found
    assert (again.all, len(engine.requests)) == ([], 3)


async def test_what_fails_or_says_nothing_is_a_row() -> None:
    def reply(request: Request) -> Completion | Exception:
        kind = spoiling(request)
        if kind.startswith("polished"):
            return EngineUnavailable("away")
        return RequestRefused("no") if kind.startswith("terse") else said(" ")

    rows = Rows()
    found = await perturber(Scripted(reply)).answers(QUESTION, HAVE, rows.put)
    assert [(row.perturbation, row.outcome) for row in found.responses[1:]] == [("sarcastic", "empty")]
    assert [(failure.step, failure.error, failure.retryable) for failure in found.failures] == [
        ("perturbation-polished", "EngineUnavailable", True),
        ("perturbation-terse", "RequestRefused", False),
        ("perturbation-sarcastic", "EmptyOutput", False),
    ]
    made: list[Row] = [*found.responses[1:], *found.failures]
    assert {row.id for row in rows.all} == {row.id for row in made}
    # A restart asks for the first alone.
    well, more = Scripted(spoiling), Rows()
    mended = await perturber(well, start=2).answers(QUESTION, HAVE | rows.have, more.put)
    assert [row.perturbation for row in more.all if isinstance(row, Response)] == ["polished"]
    assert (len(well.requests), len(more.all)) == (1, 1)
    assert [failure.step for failure in mended.failures] == ["perturbation-terse", "perturbation-sarcastic"]


async def test_the_same_text_again_is_no_perturbation() -> None:
    engine = Scripted(lambda request: ANSWER.text)
    found = await perturber(engine, kinds=("terse",)).answers(QUESTION, HAVE, Rows().put)
    [pair] = pairs("run-1", QUESTION, found.responses, ())
    assert pair.b.outcome == "unchanged"
    assert (pair.kind, pair.a, pair.votable) == ("perturbation", ANSWER, False)


def test_the_share_is_drawn_by_the_seed_and_grows() -> None:
    engine = Scripted(lambda request: "")
    ids = [prompt(f"Question {n}?").id for n in range(2000)]
    few = {id for id in ids if perturber(engine, 0.1).draws(id)}
    many = {id for id in ids if perturber(engine, 0.3).draws(id)}
    assert 150 < len(few) < 250
    assert 530 < len(many) < 670
    assert few < many
    assert {id for id in ids if perturber(engine, 1.0).draws(id)} == set(ids)
    assert {id for id in ids if perturber(engine, 0.1, seed=2).draws(id)} != few


# --- which answer, and what becomes of it

SECTION = JudgeSection(pairs=("first-last",))
ASKED = prompt(answers=("Bad.", "Good."), gold=1)
CHAIN = (answer(0, "First."), answer(1, "Second."))


class Chain(Generator):
    """Has what it is given."""

    def __init__(self, *responses: Response, failed: bool | None = None) -> None:
        """failed: None: not; else whether it may be tried again."""
        failure = Failure("f", "run-1", ASKED.id, "critique-1", "EngineError", "no", bool(failed))
        self._answers = Answers(responses, () if failed is None else (failure,))

    async def answers(self, prompt: Prompt, have: object, emit: object) -> Answers:
        return self._answers


async def worked(
    chain: Chain, policy: Scripted, rows: Rows, asked: Prompt = ASKED, section: JudgeSection = SECTION
) -> list[Failure]:
    """What is left undone of the prompt, once its answers are made and voted on."""
    have = {row.id: row for row in (*chain._answers.responses, *rows.all)}

    async def emit(made: Sequence[Row]) -> None:
        await rows.put(made)
        have.update({row.id: row for row in made})

    judge = Scripted(lambda request: said("", logprobs={"A": -0.1, "B": -3.0}), "judge")
    made, _ = await answers_of([chain, perturber(policy)], asked, have, emit)
    responses = [response for answers in made if answers.complete for response in answers.responses]
    left = await labeller(section, judge).label(asked, responses, have, emit)
    return [*(failure for answers in made[1:] for failure in answers.failures), *left]


async def test_the_last_answer_with_text_is_spoiled_and_its_pairs_are_dropped() -> None:
    policy, rows = Scripted(spoiling, "policy"), Rows()
    chain = Chain(*CHAIN, answer(2, "", outcome="empty"))
    assert await worked(chain, policy, rows) == []
    spoiled = [row for row in rows.all if isinstance(row, Response)]
    assert [(row.kind, row.parent_id, row.round) for row in spoiled] == [("perturbation", "r1", 1)] * 3
    labels = [row for row in rows.all if isinstance(row, Preference)]
    assert [label.kind for label in labels] == ["first-last", *["perturbation"] * 3]
    for label in labels[1:]:
        assert (label.a_id, label.drop_reason, label.kept) == ("r1", "perturbation", False)
        assert label.b_id in {row.id for row in spoiled}
        assert label.votes == 2 * len(PRINCIPLES)
    votes = [row for row in rows.all if isinstance(row, Judgement)]
    assert len(votes) == 4 * 2 * len(PRINCIPLES)
    # Who reads the rows in their order meets an answer before the votes on it.
    for vote in votes:
        known = {"r0", "r1", *(row.id for row in rows.all[: rows.all.index(vote)] if isinstance(row, Response))}
        assert {vote.first_id, vote.second_id} <= known
    before = len(rows.all)
    assert await worked(chain, policy, rows) == []
    assert (len(rows.all), len(policy.requests)) == (before, 3)


@pytest.mark.parametrize(("gold", "expected"), [(1, "Good."), (0, "Bad."), (None, "Bad.")])
async def test_without_a_chain_the_given_answer_that_people_prefer_or_the_first_is_spoiled(
    gold: int | None, expected: str
) -> None:
    rows, asked = Rows(), replace(ASKED, gold=gold)
    assert await worked(Chain(failed=False), Scripted(spoiling, "policy"), rows, asked) == []
    parent, *spoiled = [row for row in rows.all if isinstance(row, Response)]
    assert (parent.kind, parent.text) == ("given", expected)
    assert parent in given_answers("run-1", asked)
    assert {row.parent_id for row in spoiled} == {parent.id}


@pytest.mark.parametrize(
    ("chain", "asked", "labels", "calls"),
    [
        (Chain(*CHAIN, failed=False), ASKED, [("first-last", "r0", 6), *[("perturbation", "r1", 6)] * 3], 3),
        (Chain(*CHAIN, failed=True), ASKED, [], 0),
        (Chain(answer(0, "")), replace(ASKED, answers=("", "")), [("first-last", "r0", 0)], 0),
    ],
    ids=["a chain that stopped for good has what it has", "one that may get further is waited for", "nothing to spoil"],
)
async def test_chains_that_stop(chain: Chain, asked: Prompt, labels: list[object], calls: int) -> None:
    policy, rows = Scripted(spoiling, "policy"), Rows()
    assert await worked(chain, policy, rows, asked) == []
    found = [row for row in rows.all if isinstance(row, Preference)]
    assert sorted((label.kind, label.a_id, label.votes) for label in found) == labels
    assert len(policy.requests) == calls


async def test_each_perturbation_draws_its_own_principles_and_seeds() -> None:
    drawn_by: dict[str, list[str]] = {}
    section = JudgeSection(pairs=("first-last",), principles=1)
    for number in range(40):
        rows, asked = Rows(), prompt(f"Question {number}?")
        chain = Chain(*(replace(answer(n, f"Answer {n}."), prompt_id=asked.id) for n in range(2)))
        await worked(chain, Scripted(spoiling, "policy"), rows, asked, section)
        kinds = {row.id: row.perturbation for row in rows.all if isinstance(row, Response)}
        votes = [row for row in rows.all if isinstance(row, Judgement)]
        assert len({vote.seed for vote in votes}) == len(votes) == 8
        by_pair = {kinds.get(vote.second_id) or kinds.get(vote.first_id) or "pair": vote.principle_id for vote in votes}
        for kind, principle in by_pair.items():
            drawn_by.setdefault(kind, []).append(principle)
    assert len({tuple(drawn) for drawn in drawn_by.values()}) == 4


async def test_a_perturbation_that_fails_keeps_its_prompt_open_and_no_other_label_back() -> None:
    rows = Rows()
    failures = await worked(Chain(*CHAIN), Scripted(lambda request: EngineUnavailable("away"), "policy"), rows)
    assert [failure.step for failure in failures] == [f"perturbation-{kind}" for kind in KINDS]
    assert [row.kind for row in rows.all if isinstance(row, Preference)] == ["first-last"]


# --- whole runs

RECIPE = """
name = "probed"
constitution = "general@1.1.0"
[prompts]
path = "prompts.jsonl"
[model.policy]
engine = "fake"
family = "fake"
[model.jury.one]
engine = "fake"
model = "one"
[model.jury.two]
engine = "fake"
model = "two"
[revise]
rounds = 1
[judge]
principles = 2
[perturb]
share = 0.5
kinds = ["terse", "sarcastic"]
[output]
window = 8
flush_seconds = 0.05
"""
PROMPTS = 40


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return small_project(tmp_path, PROMPTS, RECIPE)


async def test_a_run_with_perturbations(recipe: Path, tmp_path: Path) -> None:
    run = await run_once(recipe, tmp_path / "w", [])
    assert run.finished_at
    plain = recipe.with_name("plain.toml")
    plain.write_text(RECIPE.split("[perturb]")[0] + "[output]\nwindow = 8\n", encoding="utf-8")
    other = await run_once(plain, tmp_path / "w", [])
    assert other.run_id != run.run_id
    spoiled = "SELECT count(*), count(DISTINCT prompt_id) FROM responses WHERE kind = 'perturbation'"
    [(perturbations, prompts)] = table(tmp_path / "w", spoiled)
    assert perturbations == 2 * prompts
    assert PROMPTS / 4 < prompts < PROMPTS * 3 / 4
    # Of everything else there is as much as without perturbations, and it says the same.
    assert run.counts["kept"] == other.counts["kept"]
    assert run.counts["preferences"] == other.counts["preferences"] + perturbations
    figures = table(
        tmp_path / "w",
        f"SELECT figure, a, b FROM compare_versions('{run.run_id}', '{other.run_id}') "
        "WHERE round(a, 12) IS DISTINCT FROM round(b, 12)",
    )
    assert figures == []
    changed = "votes_a <> votes_b OR revisions_a <> revisions_b OR round(p_b_a, 12) <> round(p_b_b, 12)"
    assert (
        table(tmp_path / "w", f"SELECT * FROM compare_principles('{run.run_id}', '{other.run_id}') WHERE {changed}")
        == []
    )
    both = "SELECT count(*), sum(responses), sum(pairs), bool_and(complete) FROM chains GROUP BY run_id"
    assert len(set(table(tmp_path / "w", both))) == 1
    assert table(tmp_path / "w", "SELECT DISTINCT kind FROM pairs") == [("first-last",)]


async def test_probes_and_their_provenance(recipe: Path, tmp_path: Path) -> None:
    run = await run_once(recipe, tmp_path / "w", [])
    w = tmp_path / "w"
    probes = table(w, "SELECT perturbation, count(*), count(p_answer) FROM perturbations GROUP BY ALL ORDER BY ALL")
    assert [kind for kind, _, _ in probes] == ["sarcastic", "terse"]
    assert len({count for _, count, _ in probes}) == 1
    assert table(w, "SELECT DISTINCT drop_reason, kept FROM preferences WHERE kind = 'perturbation'") == [
        ("perturbation", False)
    ]
    parents = "SELECT DISTINCT a.kind, a.round, v.round FROM responses v JOIN responses a ON a.id = v.parent_id "
    assert table(w, parents + "WHERE v.kind = 'perturbation'") == [("revision", 1, 1)]
    parts = table(
        w,
        "SELECT part, what, model, templates FROM provenance((SELECT id FROM perturbations WHERE perturbation = 'terse'"
        " AND votes > 0 LIMIT 1)) ORDER BY ALL",
    )
    [(templates_of, model)] = [(shown, model) for _, what, model, shown in parts if what == "perturbation terse · ok"]
    assert (templates_of, model) == (dict(templates.PERTURB.texts), "fake")
    assert sum(part == "vote" for part, *_ in parts) == 8
    # The calls of perturbations have their own stage, in the record as in the view.
    used = {one.stage: one for one in run.usage}
    assert used["perturbation"].calls == 2 * probes[0][1]
    assert table(w, "SELECT calls, completion_tokens FROM usage WHERE stage = 'perturbation'") == [
        (used["perturbation"].calls, used["perturbation"].completion_tokens)
    ]


async def test_failing_variants_are_mended_by_a_restart(recipe: Path, tmp_path: Path) -> None:
    broken = await run_once(recipe, tmp_path / "w", ["model.policy.failure_rate=0.1"])
    assert broken.finished_at is None
    steps = table(tmp_path / "w", "SELECT count(*) FROM failures WHERE step LIKE 'perturbation-%' AND retryable")
    assert steps[0][0] > 0
    mended = await run_once(recipe, tmp_path / "w", [])
    assert (mended.run_id, mended.finished_at is not None) == (broken.run_id, True)
    clean = await run_once(recipe, tmp_path / "clean", [])

    def rows(folder: str) -> dict[str, Row]:
        store = Warehouse(tmp_path / folder)
        ids = [one.id for part in store.parts("prompts", clean.run_id) for one in store.read_prompts(part)]
        found = [row for rows in store.rows_of(clean.run_id, ids).values() for row in rows]
        return {row.id: row for row in found if not isinstance(row, Failure)}

    assert rows("w") == rows("clean")
