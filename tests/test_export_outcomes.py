"""Every export format with every way that a chain of three rounds can go: nothing that was cut, empty, refused or
filtered where it was written is learnt, whatever came between."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from export_runs import make_export
from small_project import table
from warehouse_rows import CONSTITUTION, RUN, prompt, run

from constitution.generate.outcomes import last_answer
from constitution.identity import row_id
from constitution.judge.pairs import pairs
from constitution.labels import Rules, label_pair
from constitution.records import Judgement, Prompt, Response, ResponseKind
from constitution.warehouse import Warehouse

OUTCOMES = ("ok", "cut", "cut-empty", "empty", "refused", "filtered", "unchanged", "skipped")
FIRST = ("ok", "cut", "refused", "filtered")
RULE = CONSTITUTION.principles[0].id


def chain(asked: Prompt, outcomes: Sequence[str]) -> Iterator[Response]:
    made: list[Response] = []
    for round, name in enumerate(outcomes):
        parent = last_answer(made)
        text = {"cut-empty": "", "empty": ""}.get(name, f"Answer {round} of {asked.id}, {name}.")
        if name in ("unchanged", "skipped"):
            assert parent is not None
            text = parent.text
        kind: ResponseKind = "revision" if round else "initial"
        fields: dict[str, Any] = {
            "outcome": name.partition("-")[0],
            "model": "m",
            "principle_id": RULE if round else None,
        }
        made.append(
            Response(
                row_id(asked.id, round), RUN, asked.id, kind, round, text,
                parent_id=parent.id if parent else None, critique_outcome="ok" if round else None, **fields,
            )
        )  # fmt: skip
        yield made[-1]


def true_outcome(answers: Sequence[Response], answer: Response) -> str:
    """By the text alone: what became of the answer that has it first."""
    if not answer.text:
        return answer.outcome
    return next(each.outcome for each in answers if each.text == answer.text)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[Response]]]:
    root = tmp_path_factory.mktemp("outcomes") / "w"
    warehouse, chains, prompts = Warehouse(root), {}, []
    judgements, preferences = [], []
    for number, outcomes in enumerate(product(FIRST, OUTCOMES, OUTCOMES)):
        asked = replace(prompt(number), answers=(), gold=None)
        answers = list(chain(asked, outcomes))
        prompts.append(asked)
        chains[asked.id] = answers
        judgements += [reading(answer) for answer in answers if answer.text]
        for pair in pairs(RUN, asked, answers, ("first-last", "parent")):
            votes = [vote(pair.id, *pair.shown(order), order) for order in ("ab", "ba")] if pair.votable else []
            judgements += votes
            preferences.append(label_pair(pair, votes, len(votes), {RULE: 1.0}, Rules()))
    warehouse.write_principles(RUN, CONSTITUTION)
    warehouse.write_prompts(RUN, 0, prompts)
    warehouse.write_part("responses", RUN, [answer for answers in chains.values() for answer in answers])
    warehouse.write_part("judgements", RUN, judgements)
    warehouse.write_part("preferences", RUN, preferences)
    warehouse.write_run(run())
    warehouse.rebuild_views()
    return root, chains


def vote(pair_id: str, first: Response, second: Response, order: str) -> Judgement:
    p = 0.2 if order == "ab" else 0.8
    return Judgement(
        row_id(pair_id, order), RUN, first.prompt_id, pair_id, first.id, second.id, "j", RULE, "d", "label", p, 1.0, "t"
    )


def reading(answer: Response) -> Judgement:
    """What a judge says of it by itself, for kto."""
    return Judgement(
        row_id(answer.id, "read"), RUN, answer.prompt_id, "none", answer.id, answer.id, "j", RULE, "d", "score", 0.5,
        1.0, "t", read_first=(0.1, 0.2, 0.7),
    )  # fmt: skip


def flawed(outcome: str) -> bool:
    return outcome not in ("ok", "unchanged", "skipped")


@pytest.mark.parametrize("format", ["sft", "kto"])
@pytest.mark.parametrize("rounds", ["all", "last"])
def test_answers(made: tuple[Path, dict[str, list[Response]]], format: str, rounds: str, tmp_path: Path) -> None:
    root, chains = made
    if (format, rounds) == ("kto", "last"):
        return
    settings = {"rounds": rounds} if format == "sft" else {}
    done, rows = make_export(root, run(), tmp_path / "out", format, test=0.0, **settings)
    truth = {each.id: true_outcome(answers, each) for answers in chains.values() for each in answers}
    wanted = {
        each.id
        for answers in chains.values()
        for each in answers
        if not flawed(truth[each.id])
        and (
            rounds == "all"
            or each.id
            == max(
                (a for a in answers if a.text and a.outcome not in ("refused", "filtered")), key=lambda a: a.round
            ).id
        )
    }
    assert {row["response_id"] for row in rows} == wanted
    assert len(wanted) > 50
    reasons = table(root, f"SELECT id, drop_reason FROM exported WHERE export_id = '{done.export_id}'")
    told = {id: reason for id, reason in reasons if reason not in (None, "round")}
    assert told == {id: reason for id, reason in truth.items() if flawed(reason) and id in told}
    assert set(told.values()) >= {"cut", "refused", "filtered"}


@pytest.mark.parametrize("principles", [(), (RULE,)])
@pytest.mark.parametrize("format", ["dpo", "robust", "reward"])
def test_pairs(
    made: tuple[Path, dict[str, list[Response]]], format: str, principles: tuple[str, ...], tmp_path: Path
) -> None:
    root, chains = made
    _, rows = make_export(root, run(), tmp_path / "out", format, test=0.0, principles=principles)
    truth = {each.id: true_outcome(answers, each) for answers in chains.values() for each in answers}
    texts = {each.id: each.text for answers in chains.values() for each in answers}
    wanted = {
        pair.id
        for prompt_id, answers in chains.items()
        for pair in pairs(RUN, replace(prompt(0), answers=(), gold=None), answers, ("first-last", "parent"))
        if texts[pair.a.id] != texts[pair.b.id] and not flawed(truth[pair.a.id]) and not flawed(truth[pair.b.id])
    }
    assert {row["pair_id"] for row in rows} == wanted
    assert len(wanted) > 10


def test_the_view_says_where_each_text_was_written(made: tuple[Path, dict[str, list[Response]]]) -> None:
    root, chains = made
    found = {
        id: (written, outcome)
        for id, written, outcome in table(root, "SELECT id, written_id, text_outcome FROM written")
    }
    for answers in chains.values():
        for each in answers:
            origin = next(a for a in answers if a.text == each.text) if each.text else each
            assert found[each.id] == (origin.id, origin.outcome)
    assert len(found) == sum(map(len, chains.values()))
