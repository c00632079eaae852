"""The words that a column takes: kinds, outcomes, methods and reasons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

ResponseKind = Literal["initial", "revision", "sample", "reference", "given", "perturbation"]
Outcome = Literal["ok", "cut", "empty", "refused", "filtered", "unchanged", "skipped"]
REPEATS = ("unchanged", "skipped")
"""Outcomes of an answer whose text is its parent's: what became of that text, the answer says that wrote it."""
HELD_BACK = ("refused", "filtered")
"""Outcomes by which a server gave something else than the answer."""
CritiqueOutcome = Literal["ok", "cut", "empty", "refused", "filtered"]
CopiedFrom = Literal["exemplar", "principle", "template", "critique", "turn", "system-prompt"]
"""What a model was shown and repeats instead of answering (measures.copies)."""
Method = Literal["label", "rationale", "score", "rubric", "verdict"]
CriterionKind = Literal["", "essential", "important", "optional", "pitfall"]
"""As in Rubrics as Rewards (arXiv 2507.17746). Empty: not said."""
RewardSource = Literal["rubric", "grade", "rule", "model", "last-token", "prompt-rubric", "match", "sentence"]
"""What [reward].by asks for (judge/sources.py)."""
NEGATED: Mapping[RewardSource, str] = {"rubric": "rubric-negated", "prompt-rubric": "prompt-rubric-negated"}
"""Sources whose questions can be asked a second time, whether the reply is no, and the metric of what is read then."""
RubricSource = Literal["given", "prompt", "principles", "reference", "contrast"]
"""What a prompt's rubric is made from ([rubric].from)."""
StoredSource = RewardSource | Literal["votes"]
"""What a row of rewards is by. votes: the labels of a prompt's pairs (labels/standings.py)."""
Extraction = Literal["number", "boxed", "choice", "json", "exact"]
"""How what an answer comes to is read off its text (judge/extract)."""
RewardReason = Literal[
    "no-text", "readings-missing", "no-label", "no-rubric", "no-spread", "no-reference", "reference-unread", "unread",
]  # fmt: skip
"""Why a reward has no value. no-spread: by a reward model, where the scores of the prompt's answers have no spread for
it to be placed in. By match: what the answer comes to cannot be read off it (unread), or not off the reference, or
there is no reference from which something may be made."""
LintReason = Literal[
    "steers", "unanswerable", "leaks-reference", "length", "subjective", "compound", "duplicate", "mirror",
    "contradicts",
]  # fmt: skip
"""What is wrong with an item of a prompt's rubric by its words (judge/rubrics/lint.py)."""
RubricDrop = LintReason | Literal["check-failed", "dead", "over-limit"]
"""Why an item of a prompt's rubric is not read. check-failed: with the rubric a judge does not prefer what was
preferred; dead: it tells no answer from another; over-limit: there are [rubric].at_most before it."""
ReferenceSource = Literal["revision", "synthesis", "best", "given"]
"""Where a prompt's reference is from (generate/reference.py)."""
ReferenceDrop = Literal["empty", "cut", "refused", "filtered", "copied", "breaks", "readings-missing"]
"""Why nothing may be made from a reference. breaks: a criterion of the constitution (judge/reference.py)."""
Benchmark = Literal["hhh", "judgebench", "llmbar", "rewardbench-2"]
"""Public benchmarks of judges: prompts/benchmarks.py knows their rows, audit/benchmark.py their rules."""
Perturbation = Literal["polished", "terse", "sarcastic"]
PairKind = Literal[
    "first-last", "parent", "given", "contrast", "best-worst", "best-random", "best-low", "all", "tournament",
    "perturbation",
]  # fmt: skip
DropReason = Literal[
    "tie", "margin", "identical", "empty", "cut", "refused", "filtered", "copied", "votes-missing", "reward-missing",
    "perturbation",
]  # fmt: skip
FIXED_DROPS = ("perturbation", "empty", "identical", "cut", "refused", "filtered", "copied")
"""Those that the answers alone decide: no vote changes them."""
NOT_ASKED = "TurnNotAsked"
"""Error of a scripted turn that is not asked, because the one before has no whole answer."""
NOTHING_TO_SEE = "NothingToSee"
"""Error of a sample that would be shown the others', none of which has text."""
NOTHING_TO_REVISE = "NothingToRevise"
"""Error of a chain that would start from the best sample, where none has a reward."""
NO_REFERENCE = "NoReference"
"""Error of a reference that there is nothing to take or to make from."""
NO_RUBRIC = "NoRubric"
"""Error of a prompt of whose rubric too few items are left, or none was to be had."""
UNASKED = (NOT_ASKED, NOTHING_TO_SEE, NOTHING_TO_REVISE, NO_REFERENCE, NO_RUBRIC)
"""Errors of what was asked of no model, for want of what it would be made from."""
UNSAID = ("EmptyOutput", "CritiqueRefused", "AnswerRefused", "ContentFiltered", *UNASKED)
"""Failures that are what a model, or its server, did not want to say, and what follows from that: no engine failed."""
