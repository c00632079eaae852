"""A run of groups written by hand: samples of two samplers, rewards by two sources, gold and votes, drawn at random."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from constitution.identity import row_id
from constitution.records import (
    Annotation,
    Constitution,
    Message,
    Preference,
    Principle,
    Prompt,
    Response,
    ResponseKind,
    Reward,
    RewardSource,
    Run,
    Score,
)
from constitution.warehouse import Warehouse

RUN = "groups-0123456789ab"
WORDS = ["a", "kind", "answer", "is", "short", "plain", "and", "true", "so", "read", "it", "twice", "我", "们"]
SAMPLE = {"temperature": 0.7, "top_p": 1.0, "max_tokens": 64, "model": "policy", "n": 3}


@dataclass(frozen=True)
class Answer:
    prompt: int
    place: int
    """Among all answers to the prompt."""
    kind: ResponseKind
    sampler: str | None
    text: str
    rewards: Mapping[RewardSource, tuple[float | None, float]]
    """By source: value, length penalty."""
    gold: Mapping[str, float]
    """By rater."""

    @property
    def prompt_id(self) -> str:
        return Prompt((Message("user", f"question {self.prompt}"),)).id

    @property
    def id(self) -> str:
        return row_id(RUN, self.prompt, self.place)

    @property
    def response(self) -> Response:
        revised = self.kind == "revision"
        return Response(
            self.id, RUN, self.prompt_id, self.kind, self.place, self.text, "ok", "m", sampler=self.sampler,
            parent_id=row_id(RUN, self.prompt, self.place - 1) if revised else None,
            principle_id="kind" if revised else None,
        )  # fmt: skip

    def total(self, source: RewardSource) -> float:
        """NaN: it has no reward."""
        value, penalty = self.rewards[source]
        return math.nan if value is None else value + penalty


def drawn(prompts: int = 14, seed: int = 5) -> list[Answer]:
    """Samples: `warm` has three of a prompt, `hot` one to four. Some rewards tie, some are missing, and of one prompt
    all are the same; one rater has annotated all samples of most prompts, another but one of some."""
    draw = np.random.default_rng(seed)
    answers = []
    for prompt in range(prompts):
        names = ["warm"] * 3 + ["hot"] * int(draw.integers(1, 5))
        for place, sampler in enumerate(names):
            text = " ".join(draw.choice(WORDS, int(draw.integers(0 if prompt == 2 else 1, 9))))
            value = 0.5 if prompt == 3 else float(draw.integers(0, 6)) / 5
            missing = prompt == 4 and place == 0
            rewards: Mapping[RewardSource, tuple[float | None, float]] = {
                "rubric": (None if missing else value, -0.1 * (len(text) > 20 and prompt != 3)),
                "rule": (float(draw.random()), 0.0),
            }
            gold = {"ann": float(draw.integers(0, 4))} if prompt > 1 else {}
            gold |= {"bob": float(draw.integers(0, 4))} if (prompt == 0 and place != 1) or prompt == 5 else {}
            gold |= {"eve": 1.0} if prompt == 0 and place == 1 else {}
            answers.append(Answer(prompt, place, "sample", sampler, text, rewards, gold))
    return answers


def pairs(answers: list[Answer], seed: int = 6) -> Iterator[Preference]:
    """Every two texts of a prompt; ties by label of a few, and one pair of a prompt without votes."""
    draw = np.random.default_rng(seed)
    for prompt in sorted({answer.prompt for answer in answers}):
        own = {answer.text: answer for answer in reversed(answers) if answer.prompt == prompt and answer.text}
        for number, (a, b) in enumerate(combinations(own.values(), 2)):
            p = 0.5 if number == 1 else round(float(draw.random()), 3)
            votes = 0 if (prompt, number) == (6, 0) else 2
            yield Preference(
                row_id(RUN, a.id, b.id), RUN, a.prompt_id, "all", a.id, b.id, p if votes else None, votes, 0, 1.0, 1.0,
                0.9, None, None, p if votes else None,
            )  # fmt: skip


def store(
    root: Path,
    answers: list[Answer],
    preferences: list[Preference],
    scores: Sequence[Score] | None = None,
    **recipe: object,
) -> None:
    """scores: None: one reading of each answer."""
    warehouse = Warehouse(root)
    warehouse.write_principles(RUN, Constitution("hand", "1.0.0", "", (Principle("kind", "Is it?", "Do.", "Which?"),)))
    asked = sorted({answer.prompt for answer in answers})
    warehouse.write_prompts(RUN, 0, [Prompt((Message("user", f"question {number}"),)) for number in asked])
    warehouse.write_part("responses", RUN, [answer.response for answer in answers])
    rewards = [
        Reward(
            row_id(answer.id, source), RUN, answer.prompt_id, answer.id, source, value, value,
            0 if source == "rule" else 7, int(value is None), None, penalty, (),
            "readings-missing" if value is None else None,
        )
        for answer in answers
        for source, (value, penalty) in answer.rewards.items()
    ]  # fmt: skip
    if rewards:
        warehouse.write_part("rewards", RUN, rewards)
    if rewards and scores != []:
        with warehouse.scoring(RUN):
            warehouse.write_part("scores", RUN, scores or [score(answer) for answer in answers])
    if preferences:
        warehouse.write_part("preferences", RUN, preferences)
    told = [
        Annotation(row_id(answer.id, rater), RUN, answer.prompt_id, rater, value, "f.csv", response_id=answer.id)
        for answer in answers
        for rater, value in answer.gold.items()
    ]
    if told:
        warehouse.write_annotations(RUN, told)
    sections = {"name": "groups", "reward": {"by": ["rubric", "rule"]}, "judge": {"pairs": ["all"]}} | recipe
    models = {"policy": {"name": "m"}, "judge": {"name": "j"}}
    started, finished = "2026-11-22T10:00:00+00:00", "2026-11-22T10:05:00+00:00"
    warehouse.write_run(Run(RUN, sections, "hand@1.0.0", "d" * 64, {}, models, "0.1.0", {}, started, finished))


def score(answer: Answer) -> Score:
    return Score(
        row_id(answer.id, "j"), RUN, answer.prompt_id, answer.id, "j", "", "kind", "d" * 64, "rubric", "", 0, "Kind?",
        "yes", 1.0, 0.5, 0.75, "t" * 64,
    )  # fmt: skip
