"""Public benchmarks of judges: which keys of their rows hold the question, the answers and which of these are better.

    shape = BENCHMARKS["judgebench"]
    answers, better = shape.answers_of(row)

hhh            BIG-bench's hhh_alignment (arXiv 2112.00861), `target_scores` {answer: 1 or 0}; as HuggingFaceH4 has it,
               `targets` {choices, labels}
judgebench     github.com/ScalerLab/JudgeBench (arXiv 2410.12784)
llmbar         github.com/princeton-nlp/LLMBar (arXiv 2310.07641), and what has the same four keys
rewardbench-2  allenai/reward-bench-2 (arXiv 2506.01937)

A row that the benchmark's own scoring could not use, or would use in two ways, is refused before any judge is paid.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from constitution.prompts.row import Row
from constitution.records import Benchmark

TIED = re.compile(r"(ref|tied):(\d+)")
"""Id of a row of RewardBench 2's subset Ties: which of the two questions with this number it is."""
TIES = "ties"
"""The subset's name, in lower case."""

Answers = tuple[tuple[str, ...], tuple[int, ...]]
"""The texts, and which of them are better than all others."""

_LEAVE_OUT = "leave such rows out; format sql can"


@dataclass(frozen=True, slots=True)
class Shape:
    """What the rows of a benchmark are."""

    question: str
    """Key of the prompt: a text, taken as it is, or messages."""
    label: str = ""
    """Key that says which of two answers is better."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Label → key of the better answer, in the answers' order."""
    scored: tuple[str, ...] = ()
    """Keys, the first that a row has, of two answers with 1 for the better and 0."""
    chosen: str = ""
    """Key of a list of answers that are better than those of `rejected`."""
    rejected: str = ""
    counts: Mapping[str, str] = field(default_factory=dict)
    """Key of a number → key of the list that has this length."""
    tags: tuple[str, ...] = ()
    """Keys whose values become the prompt's tags, the subset first."""

    @property
    def keys(self) -> frozenset[str]:
        lists = {self.label, *self.labels.values(), *self.scored, self.chosen, self.rejected, *self.counts}
        return frozenset({self.question, *lists, *self.tags} - {""})

    def answers_of(self, row: Row) -> Answers:
        """Raises PromptError for a row that does not say which answers are better."""
        if self.label:
            return self._labelled(row)
        return self._listed(row) if self.chosen else self._scored(row)

    def tags_of(self, row: Row) -> list[str]:
        values = [row.value(key) for key in self.tags]
        for key, value in zip(self.tags, values, strict=True):
            if not isinstance(value, str | int) or isinstance(value, bool) or not str(value).strip():
                row.refuse(f"{key} is no name")
        return [str(value) for value in values]

    def _labelled(self, row: Row) -> Answers:
        answers = tuple(_text(row, key, row.value(key)) for key in self.labels.values())
        label = row.value(self.label, f"every pair of this benchmark has one; {_LEAVE_OUT}")
        known = list(self.labels)
        if isinstance(label, bool) or not isinstance(label, str | int) or str(label) not in known:
            row.refuse(f"{self.label} is {label!r:.100}, and this benchmark has {' and '.join(known)}", _LEAVE_OUT)
        return answers, (known.index(str(label)),)

    def _scored(self, row: Row) -> Answers:
        key = next((key for key in self.scored if row.data.get(key) is not None), self.scored[0])
        value = row.value(key)
        texts, scores = _choices(row, key, value)
        wrong = [score for score in scores if isinstance(score, bool) or score not in (0, 1)]
        if wrong:
            row.refuse(f"{key}: a score is {wrong[0]!r:.100}, and this benchmark has 1 and 0")
        better = tuple(place for place, score in enumerate(scores) if score == 1)
        if len(scores) != 2 or len(better) != 1:
            row.refuse(f"{key}: {len(better)} of {len(scores)} answers have the score 1, not one of two", _LEAVE_OUT)
        return tuple(_text(row, key, text) for text in texts), better

    def _listed(self, row: Row) -> Answers:
        lists = {key: _texts(row, key) for key in (self.chosen, self.rejected)}
        for count, key in self.counts.items():
            if row.data.get(count) is not None and row.data[count] != len(lists[key]):
                row.refuse(f"{count} is {row.data[count]!r:.100}, and {key} has {len(lists[key])} answers")
        better = len(lists[self.chosen])
        subset, id = self.tags_of(row)
        tied = subset.casefold() == TIES
        if tied and not TIED.fullmatch(id):
            row.refuse(f"id is {id!r:.100}, and in the subset {subset} it is ref:NUMBER or tied:NUMBER")
        if tied and id.startswith("tied") and better < 2:
            row.refuse(f"{id}: {self.chosen} has one answer, and a tied row has several", _LEAVE_OUT)
        if better > 1 and not tied:
            row.refuse(f"{self.chosen} has {better} answers, and only the subset Ties has several", _LEAVE_OUT)
        return (*lists[self.chosen], *lists[self.rejected]), tuple(range(better))


def _text(row: Row, key: str, value: Any) -> str:
    if not isinstance(value, str):
        row.refuse(f"{key}: an answer is not a text")
    return value


def _texts(row: Row, key: str) -> tuple[str, ...]:
    value = row.value(key)
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or not value:
        row.refuse(f"{key} is not a list of answers", _LEAVE_OUT)
    return tuple(_text(row, key, text) for text in value)


def _choices(row: Row, key: str, value: Any) -> tuple[Sequence[Any], Sequence[Any]]:
    """Answers and their scores, of {answer: score} or {choices: [answer], labels: [score]}."""
    if isinstance(value, dict) and {"choices", "labels"} == value.keys():
        texts, scores = value["choices"], value["labels"]
        if isinstance(texts, list) and isinstance(scores, list) and len(texts) == len(scores):
            return texts, scores
        row.refuse(f"{key}: choices and labels are not two lists of one length")
    if not isinstance(value, dict) or len(value) < 2:
        row.refuse(f"{key} does not hold two answers with their scores")
    return list(value), list(value.values())


BENCHMARKS: Mapping[Benchmark, Shape] = {
    "hhh": Shape("input", scored=("target_scores", "targets")),
    "judgebench": Shape("question", "label", {"A>B": "response_A", "B>A": "response_B"}, tags=("source",)),
    "llmbar": Shape("input", "label", {"1": "output_1", "2": "output_2"}),
    "rewardbench-2": Shape(
        "prompt",
        chosen="chosen",
        rejected="rejected",
        counts={"num_correct": "chosen", "num_incorrect": "rejected"},
        tags=("subset", "id"),
    ),
}
