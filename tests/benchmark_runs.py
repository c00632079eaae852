"""Planted judges over small files in the formats of public benchmarks, by the recipes that are shipped."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from audit_rows import Audited
from chains import Scripted, said

from constitution.api import run
from constitution.engines.base import Completion, Request
from constitution.errors import RequestRefused
from constitution.recipe import load_recipe
from constitution.records import Figure, Run

ROOT = Path(__file__).parents[1]

Decision = float | None
"""P(the answer shown first is better); None: the vote fails."""
Plan = Mapping[str, tuple[Decision, Decision]]
"""Word that only one question has → what the judge says where its first answer is shown first, and second."""

ANSWER = re.compile(r"\banswer ([a-z]+)-(\d+)\b")


def decides(plan: Plan) -> Scripted:
    """A judge by label, or by written verdict, who decides as planned."""

    def reply(request: Request) -> Completion:
        text = request.messages[0].content
        (word, first), (_, second) = ANSWER.findall(text)[:2]
        p = plan[word][0 if int(first) < int(second) else 1]
        if p is None:
            raise RequestRefused("planted")
        if not request.choices:
            return said(f"So it is.\nVerdict: {'tie' if p == 0.5 else 'A' if p > 0.5 else 'B'}")
        return said("A", logprobs={"A": math.log(p), "B": math.log(1 - p)})

    return Scripted(reply)


def grades(plan: Mapping[str, int | None]) -> Scripted:
    """A judge by score: a grade for each answer, 1 to 9."""

    def reply(request: Request) -> Completion:
        [(word, place)] = ANSWER.findall(request.messages[0].content)
        grade = plan[f"{word}-{place}"]
        if grade is None:
            raise RequestRefused("planted")
        each = {choice: math.log(1 - 8e-9 if choice == str(grade) else 1e-9) for choice in request.choices}
        return said(str(grade), logprobs=each)

    return Scripted(reply)


def judged(
    folder: Path,
    name: str,
    rows: Sequence[Mapping[str, Any]],
    judges: Mapping[str, Scripted],
    *settings: str,
    methods: Sequence[str] = (),
) -> Run:
    """The shipped recipe over these rows; one judge, or a jury of several by their names, each with its method."""
    (folder / "principles").symlink_to(ROOT / "principles")
    path = folder / "recipe.toml"
    path.write_text((ROOT / "recipes" / f"{name}.toml").read_text(encoding="utf-8"), encoding="utf-8")
    if name in ("hhh", "llmbar"):  # their files are arrays
        (folder / "rows.json").write_text(json.dumps(list(rows)), encoding="utf-8")
        settings = (f"prompts.path={folder / 'rows.json'}", *settings)
    else:
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        settings = (f"prompts.path={folder / 'rows.jsonl'}", *settings)
    if len(judges) > 1:
        settings = (*settings, *(f'model.jury.{judge}={{engine = "fake", model = "{judge}"}}' for judge in judges))
    settings = (*settings, *map('model.jury.{}.method="{}"'.format, judges, methods))
    return run(load_recipe(path, list(settings)), folder / "w", engines=judges)


def answers(word: str, count: int) -> list[str]:
    return [f"This is answer {word}-{place}." for place in range(count)]


def score(found: Audited, judge: str = "scripted", subject: str = "") -> Figure:
    return found("benchmark_score", judge, subject=subject)


WORDS = ("red", "blue", "green", "white", "black", "pink", "grey", "brown")
