"""Public data sets whose keys say nothing of which answer is better, or hold it where no name would be looked for: what
their documentation says of them. `constitution prompts inspect` tries each whose keys a file has.

for shape in known(row):
    shape.settings     # {"answers": ["response_0", "response_1"], "gold": "better_response_id", …}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from constitution.prompts.paths import parted
from constitution.prompts.row import Row


@dataclass(frozen=True, slots=True)
class Shape:
    name: str
    """The data set on the hub, or the project that documents the form."""
    keys: tuple[str, ...]
    """Keys that every row has, also if one holds nothing."""
    settings: dict[str, Any]
    """Fields of [prompts]."""


def _two(first: str, second: str, key: str, a: str, b: str, *ties: str) -> dict[str, Any]:
    """Two answers, the key that says which is better, and its values."""
    return {"answers": [first, second], "gold": key, "gold_values": {a: first, b: second, **dict.fromkeys(ties, "")}}


_SUMMARIES = _two("summaries[0].text", "summaries[1].text", "choice", "0", "1")
_HELPSTEER = {
    str(n): name for n, name in zip(range(-3, 4), ("response1",) * 3 + ("",) + ("response2",) * 3, strict=True)
}
_STEER_2 = {value: name and f"response_{name[-1]}" for value, name in _HELPSTEER.items()}
_RANKED: dict[str, Any] = {"answers": ["replies[].text"], "gold_lowest": ["replies[].rank"]}

SHAPES = (
    Shape("OpenAssistant/oasst1, trees", ("prompt.role", "prompt.replies"), {"trees": True, **_RANKED}),
    Shape(
        "OpenAssistant/oasst1", ("message_id", "parent_id", "role", "text"), {"trees": True, **_RANKED}
    ),
    Shape(
        "openbmb/UltraFeedback", ("instruction", "completions[].response", "completions[].overall_score"),
        {"field": "instruction", "answers": ["completions[].response"],
         "gold_highest": ["completions[].overall_score"]},
    ),
    Shape(
        "berkeley-nest/Nectar", ("prompt", "answers[].answer", "answers[].rank"),
        {"format": "transcripts", "answers": ["answers[].answer"], "gold_lowest": ["answers[].rank"]},
    ),
    Shape(
        "nvidia/HelpSteer3", ("context", "response1", "response2", "overall_preference"),
        {"field": "context", "answers": ["response1", "response2"], "gold": "overall_preference",
         "gold_values": _HELPSTEER},
    ),
    Shape(
        "nvidia/HelpSteer2, preference", ("prompt", "response_1", "response_2", "preference_strength"),
        {"answers": ["response_1", "response_2"], "gold": "preference_strength", "gold_values": _STEER_2},
    ),
    Shape(
        "PKU-Alignment/PKU-SafeRLHF",
        ("prompt", "response_0", "response_1", "better_response_id", "safer_response_id"),
        _two("response_0", "response_1", "better_response_id", "0", "1"),
    ),
    Shape(
        "stanfordnlp/SHP", ("history", "human_ref_A", "human_ref_B", "labels"),
        {"field": "history", **_two("human_ref_A", "human_ref_B", "labels", "1", "0")},
    ),
    Shape(
        "openai/webgpt_comparisons", ("question.full_text", "answer_0", "answer_1", "score_0", "score_1"),
        {"field": "question.full_text", "answers": ["answer_0", "answer_1"], "gold_highest": ["score_0", "score_1"]},
    ),
    Shape(
        "openai/summarize_from_feedback", ("info.post", "summaries[0].text", "choice"),
        {"field": "info.post", **_SUMMARIES},
    ),
    Shape(
        "openai/summarize_from_feedback, CNN and Daily Mail", ("info.article", "summaries[0].text", "choice"),
        {"field": "info.article", **_SUMMARIES},
    ),
    Shape(
        "tatsu-lab/alpaca_farm", ("instruction", "input", "output_1", "output_2", "preference"),
        {"field": "instruction", "join": ["input"], **_two("output_1", "output_2", "preference", "1", "2")},
    ),
    Shape(
        "rdnfn/icai, processed data", ("input", "text_a", "text_b", "preferred_text"),
        {"field": "input", **_two("text_a", "text_b", "preferred_text", "text_a", "text_b", "tie", "tie (bothbad)")},
    ),
    Shape(
        "lmsys/mt_bench_human_judgments", ("conversation_a", "conversation_b", "winner"),
        _two("conversation_a", "conversation_b", "winner", "model_a", "model_b", "tie", "tie (bothbad)"),
    ),
)  # fmt: skip


def known(row: dict[str, Any]) -> Iterator[Shape]:
    """Those whose keys a row has."""
    for shape in SHAPES:
        inside = parted(row, shape.keys)
        if all(key in inside for key in shape.keys):
            yield shape


def thumbs(path: Path, settings: Mapping[str, Any], sample: list[Row]) -> Iterator[str]:
    """A note where a truth value says of each answer alone whether it is good (TRL's unpaired preference, for KTO)."""
    answers, is_good = settings.get("answers", []), {str(row.data.get("label")).casefold() for row in sample}
    if len(answers) == 1 and "[" not in answers[0] and is_good <= {"true", "false"}:
        prompt = settings.get("field", "prompt")
        yield (
            "label says of each answer alone whether it is good, and a run compares answers. Where a prompt has a good "
            f"one and a bad one, a query makes a pair of them: SELECT good.{prompt}, good.{answers[0]} AS chosen, "
            f"bad.{answers[0]} AS rejected FROM '{path.name}' AS good JOIN '{path.name}' AS bad USING ({prompt}) WHERE "
            "good.label AND NOT bad.label"
        )
