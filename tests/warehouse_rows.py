"""Rows for the warehouse's tests: real records, few of them meaningful."""

from __future__ import annotations

import atexit
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from constitution.identity import row_id
from constitution.records import (
    Constitution,
    Example,
    Exemplar,
    Failure,
    Judgement,
    Message,
    Preference,
    Principle,
    Prompt,
    Response,
    Row,
    Run,
    Sampling,
)
from constitution.warehouse import Warehouse, convert

RUN = "demo-0123456789ab"
SAMPLING = Sampling(0.7, 0.9, 64, ("\n\n", "Human:"))
TEMPLATES = {"t" * 64: {"critique.txt": "Critique: {request}", "vote.txt": "Which?\n(A) {first}\n(B) {second}"}}

EXEMPLAR = Exemplar((Message("user", "How?"),), "Like so.", "Critique it.", "It is rude.", "Revise it.", "Please, so.")
EXAMPLE = Example((Message("system", "Be kind."), Message("user", "Why?")), "Because.", "Go away.")
PRINCIPLES = (
    Principle("kind", "Is it kind?", "Make it kind.", "Which is kinder?", 2.0, ("a", "b"), "a paper", (EXEMPLAR,)),
    Principle("true", "", "", "Which is truer?", examples=(EXAMPLE,), quote="No “lies”\nat all.", clauses=("law#2.b",)),
    Principle("plain", "Is it plain? “ü” \x00 😀", "Make it plain.", ""),
)
CONSTITUTION = Constitution("demo", "1.2.0", "Three principles.", PRINCIPLES, (EXEMPLAR, EXEMPLAR), "here", "CC0")


def prompt(number: int) -> Prompt:
    first = (Message("user", f"question {number}"), Message("assistant", "What?"), Message("user", f"again {number}"))
    return Prompt(
        first, f"prompts.jsonl#{number}", ("demo",), ("yes", "no") if number % 2 else (), 1 if number % 2 else None
    )


def chain(number: int, run_id: str = RUN, rounds: int = 2, principle: Principle = PRINCIPLES[0]) -> Iterator[Row]:
    """The rows of one prompt in the order that a run would write them: responses, two votes, one preference."""
    prompt_id = prompt(number).id
    parent: Response | None = None
    answers: list[Response] = []
    for place in range(rounds + 1):
        kind = "revision" if place else "initial"
        response = Response(
            row_id(run_id, prompt_id, kind, place),
            run_id,
            prompt_id,
            "revision" if place else "initial",
            place,
            f"answer {place} to {number}",
            "ok",
            "pocket",
            sampling=SAMPLING,
            seed=number * 10 + place,
            finish_reason="stop",
            prompt_tokens=100,
            cached_tokens=50,
            completion_tokens=20,
            parent_id=parent.id if parent else None,
            principle_id=principle.id if parent else None,
            principle_digest=principle.digest if parent else None,
            critique=f"critique {place} of {number}" if parent else None,
            critique_outcome="ok" if parent else None,
            critique_seed=number * 10 + place + 5 if parent else None,
            template_digest="t" * 64 if parent else None,
        )
        yield response
        parent = response
        answers.append(response)
    first, parent = answers[0], answers[-1]
    pair = row_id(run_id, prompt_id, "first-last")
    for order in (0, 1):
        one, two = (first.id, parent.id) if order == 0 else (parent.id, first.id)
        yield Judgement(
            row_id(run_id, pair, order), run_id, prompt_id, pair, one, two, "judge", principle.id, principle.digest,
            "label", 0.2 if order == 0 else 0.7, 0.98, "t" * 64, seed=number + order, prompt_tokens=200,
            completion_tokens=1,
        )  # fmt: skip
    yield Preference(pair, run_id, prompt_id, "first-last", first.id, parent.id, 0.75, 2, 0, 1.0, 1.0, 0.98, None)


def failure(number: int, run_id: str = RUN, *, retryable: bool = True) -> Failure:
    prompt_id = prompt(number).id
    return Failure(row_id(run_id, prompt_id, "f"), run_id, prompt_id, "initial", "EngineTimeout", "late", retryable)


def run(run_id: str = RUN, rounds: int = 2, finished: bool = False) -> Run:
    recipe = {"name": "demo", "revise": {"rounds": rounds}, "judge": {"pairs": ["first-last"]}}
    return Run(
        run_id,
        recipe,
        CONSTITUTION.label,
        CONSTITUTION.digest,
        TEMPLATES,
        {"policy": {"name": "pocket", "digest": "aa"}, "judge": {"name": "judge", "digest": "bb"}},
        "0.1.0",
        {"cpu": "2"},
        "2026-11-22T10:00:00+00:00",
        "2026-11-22T10:05:00+00:00" if finished else None,
        seconds=300.5,
    )


PROMPTS = 6


def fill(root: Path) -> Warehouse:
    """Six prompts, all answered and judged but the last, whose chain stopped after one round with a failure."""
    shutil.copytree(_filled(), root, dirs_exist_ok=True)
    warehouse = Warehouse(root)
    warehouse.require()  # from here on it is this folder
    return warehouse


@cache
def _filled() -> Path:
    """Made once in a process, and copied."""
    folder = TemporaryDirectory(prefix="constitution-tests-")
    atexit.register(folder.cleanup)
    warehouse = Warehouse(Path(folder.name))
    warehouse.write_principles(RUN, CONSTITUTION)
    warehouse.write_prompts(RUN, 0, [prompt(number) for number in range(PROMPTS)])
    rows = [row for number in range(PROMPTS - 1) for row in chain(number)]
    rows += [*list(chain(PROMPTS - 1))[:2], failure(PROMPTS - 1)]
    for table, kind in convert.ROW_TABLES.items():
        if own := [row for row in rows if isinstance(row, kind)]:
            warehouse.write_part(table, RUN, own)
    warehouse.write_run(run())
    warehouse.rebuild_views()
    return warehouse.root
