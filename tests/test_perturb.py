"""Answers spoiled on purpose: whose, how, each once, and never among the preferences."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from chains import CONSTITUTION, PRINCIPLES, Rows, Scripted, answer, prompt, said, step
from run_once import run_once
from small_project import small_project, table

from constitution import templates
from constitution.engines.base import Completion, Request
from constitution.errors import EngineUnavailable, RequestRefused
from constitution.generate.perturb import Perturber, drawn, perturb
from constitution.generate.revise import Chain, Reviser, revise
from constitution.judge.ask import Judge
from constitution.judge.pairs import given_answers, pairs_of
from constitution.labels import Rules
from constitution.pipeline.label import Labeller
from constitution.recipe import JudgeSection, PerturbSection, ReviseSection
from constitution.records import Failure, Judgement, Message, Preference, Response, Row, Sampling
from constitution.warehouse import Warehouse

KINDS = ("polished", "terse", "sarcastic")
ANSWER = replace(answer(1, "A fine answer."), prompt_id=prompt().id)


def perturber(engine: Scripted, share: float = 1.0, **section: object) -> Perturber:
    return Perturber("run-1", 1, 1, engine, "family", PerturbSection(share=share, **section))  # type: ignore[arg-type]


def spoiling(request: Request) -> str:
    """What the engine makes of the three requests."""
    return {text: f"{name} version" for name, text in templates.PERTURB.texts.items()}[request.messages[-1].content]


async def test_the_answer_is_shown_in_its_place_and_every_kind_is_asked_for() -> None:
    engine, rows = Scripted(spoiling), Rows()
    question = prompt()
    perturbations = await perturb(perturber(engine), question, ANSWER, {}, rows.put)
    assert len(engine.requests) == 3
    for request in engine.requests:
        assert request.messages[:-1] == (*question.messages, Message("assistant", "A fine answer."))
        assert request.affinity == question.id
    assert [row.perturbation for row in perturbations.responses] == list(KINDS)
    for row, kind in zip(perturbations.responses, KINDS, strict=True):
        assert (row.kind, row.text, row.outcome) == ("perturbation", f"{kind}.txt version", "ok")
        assert (row.parent_id, row.round, row.prompt_id) == (ANSWER.id, ANSWER.round, ANSWER.prompt_id)
        assert (row.model, row.family) == ("scripted", "family")
        assert row.template_digest == templates.PERTURB.digest
        assert (row.sampling, row.completion_tokens) == (Sampling(), 2)
    assert len({row.id for row in perturbations.responses}) == len({row.seed for row in perturbations.responses}) == 3
    assert sorted(row.id for row in rows.all) == sorted(row.id for row in perturbations.responses)
    again = Rows()
    assert await perturb(perturber(engine), question, ANSWER, rows.have, again.put) == perturbations
    assert (again.all, len(engine.requests)) == ([], 3)


async def test_what_fails_or_says_nothing_is_a_row() -> None:
    def reply(request: Request) -> Completion | Exception:
        kind = spoiling(request)
        if kind.startswith("polished"):
            return EngineUnavailable("away")
        return RequestRefused("no") if kind.startswith("terse") else said(" ")

    engine, rows = Scripted(reply), Rows()
    perturbations = await perturb(perturber(engine), prompt(), ANSWER, {}, rows.put)
    assert [(row.perturbation, row.outcome) for row in perturbations.responses] == [("sarcastic", "empty")]
    assert [(failure.step, failure.error, failure.retryable) for failure in perturbations.failures] == [
        ("perturbation-polished", "EngineUnavailable", True),
        ("perturbation-terse", "RequestRefused", False),
        ("perturbation-sarcastic", "EmptyOutput", False),
    ]
    made: list[Row] = [*perturbations.responses, *perturbations.failures]
    assert {row.id for row in rows.all} == {row.id for row in made}
    # A restart asks for the first alone.
    well, more = Scripted(spoiling), Rows()
    mended = await perturb(replace(perturber(well), attempt=2), prompt(), ANSWER, rows.have, more.put)
    assert [row.perturbation for row in more.all if isinstance(row, Response)] == ["polished"]
    assert (len(well.requests), len(more.all)) == (1, 1)
    assert [failure.step for failure in mended.failures] == ["perturbation-terse", "perturbation-sarcastic"]


async def test_the_same_text_again_is_no_perturbation() -> None:
    engine = Scripted(lambda request: ANSWER.text)
    perturbations = await perturb(perturber(engine, kinds=("terse",)), prompt(), ANSWER, {}, Rows().put)
    [pair] = pairs_of(ANSWER, perturbations.responses)
    assert perturbations.responses[0].outcome == "unchanged"
    assert (pair.kind, pair.a, pair.votable) == ("perturbation", ANSWER, False)


def test_the_share_is_drawn_by_the_seed_and_grows() -> None:
    engine = Scripted(lambda request: "")
    ids = [prompt(f"Question {n}?").id for n in range(2000)]
    few = {id for id in ids if drawn(perturber(engine, 0.1), id)}
    many = {id for id in ids if drawn(perturber(engine, 0.3), id)}
    assert 150 < len(few) < 250
    assert 530 < len(many) < 670
    assert few < many
    assert {id for id in ids if drawn(perturber(engine, 1.0), id)} == set(ids)
    assert {id for id in ids if drawn(replace(perturber(engine, 0.1), seed=2), id)} != few


# --- which answer, and what becomes of it

SECTION = JudgeSection(pairs=("first-last",))


def labeller(policy: Scripted, judge: Scripted | None = None) -> Labeller:
    voter = judge or Scripted(lambda request: said("", logprobs={"A": -0.1, "B": -3.0}), "judge")
    judges = (Judge("run-1", 1, 1, voter, "judge", PRINCIPLES, SECTION),)
    weights = {principle.id: principle.weight for principle in PRINCIPLES}
    return Labeller("run-1", SECTION, judges, 1, (None, None), weights, Rules.of(SECTION), perturber(policy))


ASKED = prompt(answers=("Bad.", "Good."), gold=1)


async def test_the_last_answer_with_text_is_spoiled_and_its_pairs_are_dropped_as_probes() -> None:
    policy, rows = Scripted(spoiling, "policy"), Rows()
    chain = Chain((answer(0, "First."), answer(1, "Second."), answer(2, "", outcome="empty")))
    assert await labeller(policy).label(ASKED, chain, {}, rows.put) == []
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
    again = Rows()
    assert await labeller(policy).label(ASKED, chain, rows.have, again.put) == []
    assert (again.all, len(policy.requests)) == ([], 3)


@pytest.mark.parametrize(("gold", "expected"), [(1, "Good."), (0, "Bad."), (None, "Bad.")])
async def test_without_a_chain_the_given_answer_that_people_prefer_or_the_first_is_spoiled(
    gold: int | None, expected: str
) -> None:
    policy, rows = Scripted(spoiling, "policy"), Rows()
    given = replace(ASKED, gold=gold)
    broken = Chain((), (failure(retryable=False),), stopped=True)
    assert await labeller(policy).label(given, broken, {}, rows.put) == []
    parent, *perturbations = [row for row in rows.all if isinstance(row, Response)]
    assert (parent.kind, parent.text) == ("given", expected)
    assert parent in given_answers("run-1", given)
    assert {row.parent_id for row in perturbations} == {parent.id}


async def test_what_a_chain_has_that_stopped_for_good_is_paired_and_its_last_answer_is_spoiled() -> None:
    policy, rows = Scripted(spoiling, "policy"), Rows()
    stopped = Chain((answer(0, "First."), answer(1, "Second.")), (failure(retryable=False),), stopped=True)
    assert await labeller(policy).label(ASKED, stopped, {}, rows.put) == []
    labels = [row for row in rows.all if isinstance(row, Preference)]
    assert sorted((label.kind, label.a_id, label.votes) for label in labels) == [
        ("first-last", "r0", 6),
        *[("perturbation", "r1", 6)] * 3,
    ]


async def test_variants_are_voted_on_by_principles_of_their_own() -> None:
    """Each is a pair of its own place: it has its own draw, and its own seeds."""
    judge = Scripted(lambda request: said("", logprobs={"A": -0.1, "B": -3.0}), "judge")
    section = JudgeSection(pairs=("first-last",), principles=1)
    drawn_by: dict[str, list[tuple[str, ...]]] = {}
    for number in range(40):
        policy, rows = Scripted(spoiling, "policy"), Rows()
        asked = prompt(f"Question {number}?")
        chain = Chain(tuple(replace(answer(n, f"Answer {n}."), prompt_id=asked.id) for n in range(2)))
        whole = labeller(policy, judge)
        one = replace(whole, judges=(replace(whole.judges[0], section=section),), families=())
        await one.label(asked, chain, {}, rows.put)
        kinds = {row.id: row.perturbation for row in rows.all if isinstance(row, Response)}
        by_pair: dict[str, set[str]] = {}
        seeds = [row.seed for row in rows.all if isinstance(row, Judgement)]
        assert len(set(seeds)) == len(seeds) == 8
        for row in rows.all:
            if isinstance(row, Judgement):
                spoiled = kinds.get(row.second_id) or kinds.get(row.first_id)
                by_pair.setdefault(spoiled or "pair", set()).add(row.principle_id)
        for kind, principles in by_pair.items():
            drawn_by.setdefault(kind, []).append(tuple(principles))
    assert len({tuple(draws) for draws in drawn_by.values()}) == 4


async def test_a_chain_that_a_restart_goes_on_with_is_waited_for() -> None:
    policy, rows = Scripted(spoiling, "policy"), Rows()
    broken = Chain((answer(0, "First."), answer(1, "Second.")), (failure(retryable=True),), stopped=True)
    await labeller(policy).label(ASKED, broken, {}, rows.put)
    assert (rows.all, policy.requests) == ([], [])


async def test_nothing_to_spoil() -> None:
    policy, rows = Scripted(spoiling, "policy"), Rows()
    empty = Chain((answer(0, "", outcome="empty"),))
    assert await labeller(policy).label(replace(ASKED, answers=("", "")), empty, {}, rows.put) == []
    assert policy.requests == []


async def test_a_variant_that_fails_keeps_its_prompt_open_and_no_other_label_back() -> None:
    policy, rows = Scripted(lambda request: EngineUnavailable("away"), "policy"), Rows()
    chain = Chain((answer(0, "First."), answer(1, "Second.")))
    failures = await labeller(policy).label(ASKED, chain, {}, rows.put)
    assert [one.step for one in failures] == [f"perturbation-{kind}" for kind in KINDS]
    assert [row.kind for row in rows.all if isinstance(row, Preference)] == ["first-last"]


def failure(retryable: bool) -> Failure:
    return Failure("f", "run-1", ASKED.id, "critique-1", "EngineError", "no", retryable)


async def test_the_chain_names_the_family_of_who_wrote_it() -> None:
    def reply(request: Request) -> str:
        return {"initial": "An answer.", "critique": "A critique.", "revision": "Better."}[step(request)]

    reviser = Reviser("run-1", 1, 1, Scripted(reply), CONSTITUTION, PRINCIPLES, ReviseSection(rounds=1), "qwen")
    chain = await revise(reviser, prompt(), {}, Rows().put)
    assert [row.family for row in chain.responses] == ["qwen", "qwen"]


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
        f"SELECT figure, a, b FROM compare_versions('{run.run_id}', '{other.run_id}') WHERE a IS DISTINCT FROM b",
    )
    assert figures == []
    changed = "votes_a <> votes_b OR revisions_a <> revisions_b OR p_b_a <> p_b_b"
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
    # The calls of perturbations have a stage of their own, in the record as in the view.
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
