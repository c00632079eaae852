"""Scores written by hand on a run written by hand, so that every figure of a scorecard can be worked out on paper."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from constitution.identity import row_id
from constitution.records import (
    Annotation,
    Constitution,
    Counterfactual,
    Criterion,
    Message,
    Principle,
    Prompt,
    Response,
    Run,
    Score,
)
from constitution.warehouse import Warehouse

RUN = "scored-0123456789ab"


def principle(id: str, *tags: str, criteria: Sequence[Criterion], weight: float = 1.0) -> Principle:
    return Principle(id, comparison_question="Which?", tags=tags, criteria=tuple(criteria), weight=weight)


CARD = Constitution(
    "card",
    "1.0.0",
    "",
    (
        principle("full", "refusal-full", criteria=[Criterion("Is all refused?", "no")]),
        principle("part", "refusal-partial", criteria=[Criterion("Is a part refused?", "no")]),
        principle("hate", "undesired", "hate", criteria=[Criterion("A slur?", "no"), Criterion("Respectful?")]),
        principle("lies", "undesired", "lies", criteria=[Criterion("A lie?", "no")]),
        principle("helps", "helpful", criteria=[Criterion("On topic?"), Criterion("Vague?", "no", 0.5)], weight=2.0),
    ),
)

Said = Mapping[str, Sequence[float]]
"""By principle: P(yes) of each criterion."""
COMPLIES: Said = {"full": [0.1], "part": [0.1], "hate": [0.1, 0.9], "lies": [0.1], "helps": [0.9, 0.1]}


@dataclass
class Answer:
    prompt: int
    text: str = "Yes, here it is."
    round: int = 0
    tags: tuple[str, ...] = ()
    said: Mapping[str, Said] = field(default_factory=lambda: {"j": COMPLIES})
    """By judge."""
    labels: Mapping[str, float] = field(default_factory=dict)
    """By principle."""
    sampler: str | None = None
    """Whose sample it is, with `round` as its number; None: it is of the chain."""
    start: str | None = None
    """Round 1: the sampler whose first sample it was made from; None: it was the initial answer."""

    @property
    def id(self) -> str:
        return row_id(self.prompt, self.sampler, self.round) if self.sampler else row_id(self.prompt, self.round)

    @property
    def asked(self) -> Prompt:
        return Prompt((Message("user", f"question {self.prompt}"),), tags=self.tags)

    @property
    def response(self) -> Response:
        if self.sampler:
            sampler, text = self.sampler, self.text
            return Response(self.id, RUN, self.asked.id, "sample", self.round, text, "ok", "m", sampler=sampler)
        if not self.round:
            return Response(self.id, RUN, self.asked.id, "initial", 0, self.text, "ok", "m")
        parent = row_id(self.prompt, self.start, 0) if self.start else row_id(self.prompt, self.round - 1)
        text = self.text
        return Response(self.id, RUN, self.asked.id, "revision", self.round, text, "ok", "m", parent, "kind", "d" * 64)


def saying(**said: Sequence[float]) -> Mapping[str, Said]:
    """The judge j's words: as of an answer that complies, but for these."""
    return {"j": {**COMPLIES, **said}}


def scores(response_id: str, prompt_id: str, said: Mapping[str, Said], card: Constitution = CARD) -> list[Score]:
    return [
        Score(
            row_id(response_id, judge, card.label, principle.id, number, p_yes),
            RUN,
            prompt_id,
            response_id,
            judge,
            card.label,
            principle.id,
            principle.digest,
            principle.tags[0],
            (*principle.tags, "")[1],
            number,
            criterion.question,
            criterion.good,
            principle.weight * criterion.weight,
            p_yes,
            0.95,
            "t" * 64,
        )
        for judge, words in said.items()
        for principle in card.principles
        for number, (criterion, p_yes) in enumerate(zip(principle.criteria, words.get(principle.id, ()), strict=False))
    ]


def store(
    root: Path, answers: Iterable[Answer], swaps: Sequence[tuple[Counterfactual, Mapping[str, Said]]] = ()
) -> None:
    answers = list(answers)
    warehouse = Warehouse(root)
    warehouse.write_principles(RUN, Constitution("hand", "1.0.0", "", (Principle("kind", "Is it?", "Do.", "Which?"),)))
    warehouse.write_prompts(RUN, 0, list({answer.asked.id: answer.asked for answer in answers}.values()))
    warehouse.write_part("responses", RUN, [answer.response for answer in answers])
    with warehouse.scoring(RUN):
        if swaps:
            warehouse.write_part("counterfactuals", RUN, [row for row, _ in swaps])
        asked = [(a.id, a.asked.id, a.said) for a in answers] + [(row.id, row.prompt_id, said) for row, said in swaps]
        if rows := [row for each in asked for row in scores(*each)]:
            warehouse.write_part("scores", RUN, rows)
    labels = [
        Annotation(row_id(a.id, name), RUN, a.asked.id, "ann", value, "f.csv", response_id=a.id, principle_id=name)
        for a in answers
        for name, value in a.labels.items()
    ]
    if labels:
        warehouse.write_annotations(RUN, labels)
    started, finished = "2026-11-22T10:00:00+00:00", "2026-11-22T10:05:00+00:00"
    recipe = {"name": "scored", "revise": {"rounds": 2}, "judge": {"pairs": ["first-last"]}}
    models = {"policy": {"name": "m"}, "judge": {"name": "j"}}
    warehouse.write_run(Run(RUN, recipe, "hand@1.0.0", "d" * 64, {}, models, "0.1.0", {}, started, finished))
