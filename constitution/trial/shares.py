"""What became of a trial's answers and votes, step by step."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from constitution.judge.methods import METHODS
from constitution.pipeline.cost import STAGES
from constitution.records import (
    UNSAID,
    DropReason,
    Failure,
    Judgement,
    Preference,
    Response,
    Reward,
    RewardReason,
    RewardSource,
    Row,
    Score,
)
from constitution.warehouse.tally import OFF_LABEL

BAD = ("refused", "filtered", "cut", "empty", "unchanged")
"""Outcomes that are counted, in the order in which they are shown."""


@dataclass(slots=True)
class Step:
    """One step of the chain, over all prompts and rounds; or the votes of one judge."""

    name: str
    judge: str = ""
    """Whose votes they are; empty: an answer's step."""
    prompts: set[str] = field(default_factory=set)
    """Ids of those that it was asked for."""
    done: int = 0
    """Answers, critiques or votes that came."""
    failed: int = 0
    """That did not, because an engine failed."""
    outcomes: Counter[str] = field(default_factory=Counter)
    copied: Counter[str] = field(default_factory=Counter)
    """Answers and critiques that repeat what was shown, by what (`records.CopiedFrom`)."""
    textless: int = 0
    """Answers and critiques without text."""
    errors: Counter[str] = field(default_factory=Counter)
    """Failures by class."""
    message: str = ""
    """What the last failure says."""
    thought: int = 0
    """Part of `done`: those with reasoning that is known."""
    tokens: int = 0
    """Tokens of output, reasoning included."""
    reasoning_tokens: int = 0
    methods: Counter[str] = field(default_factory=Counter)
    """Votes by method."""
    masses: list[float] = field(default_factory=list)
    """On the labels, of each vote; a written verdict has none."""
    censored: int = 0

    @property
    def title(self) -> str:
        name = "initial answer" if self.name == "initial" else self.name
        return f"{name} by {self.judge}" if self.judge else name

    @property
    def reads(self) -> bool:
        """Whether it is a judge's readings for rewards, and no votes."""
        return self.name.startswith("reward-")

    @property
    def asked(self) -> int:
        return self.done + self.failed

    def share(self, *outcomes: str) -> float:
        """Share of the answers that came, 0 to 1."""
        return sum(self.outcomes[name] for name in outcomes) / self.done if self.done else 0.0

    @property
    def label_mass(self) -> float | None:
        """Mean; None: there are no votes."""
        return sum(self.masses) / len(self.masses) if self.masses else None

    def answered(self, row: Response) -> None:
        self._came(row.outcome, row.text, row.copied_from)
        self._spent(row.completion_tokens, row.reasoning_tokens, row.reasoning)

    def criticized(self, row: Response) -> None:
        self._came(row.critique_outcome or "empty", row.critique or "", row.critique_copied_from)
        self._spent(row.critique_completion_tokens, row.critique_reasoning_tokens, row.critique_reasoning)

    def voted(self, vote: Judgement) -> None:
        self.done += 1
        self.methods[vote.method] += 1
        self.masses += [] if METHODS[vote.method].sampled else [vote.label_mass]
        self.censored += vote.censored
        self._spent(vote.completion_tokens, vote.reasoning_tokens, vote.rationale_reasoning)

    def read(self, row: Score) -> None:
        self.done += 1
        self.masses += [] if row.label_mass is None else [row.label_mass]
        self.censored += row.censored
        self._spent(row.completion_tokens, 0, None)

    def _came(self, outcome: str, text: str, copied_from: str | None) -> None:
        self.done += 1
        self.outcomes[outcome] += 1
        self.copied.update([copied_from] if copied_from else ())
        self.textless += not text

    def _spent(self, tokens: int, reasoning_tokens: int, reasoning: str | None) -> None:
        self.tokens += tokens
        self.reasoning_tokens += reasoning_tokens
        self.thought += bool(reasoning or reasoning_tokens)


def steps(rows: Iterable[Row]) -> Sequence[Step]:
    """Those that were asked for, in the order of a prompt's way; answers that came with the prompts are none."""
    found: dict[tuple[str, str], Step] = {}

    def at(name: str, prompt_id: str, judge: str = "") -> Step:
        step = found.setdefault((name, judge), Step(name, judge))
        step.prompts.add(prompt_id)
        return step

    for row in rows:
        if isinstance(row, Judgement):
            at("vote", row.prompt_id, row.judge).voted(row)
        elif isinstance(row, Score):
            if row.calls:
                at(f"reward-{row.metric}", row.prompt_id, row.judge).read(row)
        elif isinstance(row, Failure):
            if row.error not in UNSAID:
                kind = row.step.partition("-")[0]
                name = {"sample": row.step.rpartition("-")[0], "reward": row.step}.get(kind, kind)
                step = at(name, row.prompt_id, row.judge or "")
                step.failed += 1
                step.errors[row.error] += 1
                step.message = row.message
        elif isinstance(row, Response):
            if row.critique_outcome is not None:
                at("critique", row.prompt_id).criticized(row)
            taken = row.kind == "reference" and not row.calls
            if row.kind != "given" and row.outcome != "skipped" and not taken:
                at(f"sample-{row.sampler}" if row.sampler else row.kind, row.prompt_id).answered(row)
    return sorted(found.values(), key=lambda step: (STAGES.index(step.name.partition("-")[0]), step.name, step.judge))


def dropped(rows: Iterable[Row]) -> Counter[DropReason | None]:
    """Pairs by the reason for which they are dropped (None: they are kept), without perturbations."""
    return Counter(row.drop_reason for row in rows if isinstance(row, Preference) and row.kind != "perturbation")


def rewarded(rows: Iterable[Row]) -> Mapping[RewardSource, Counter[RewardReason | None]]:
    """Rewards by their source and the reason for which they have no value (None: they have one)."""
    found: dict[RewardSource, Counter[RewardReason | None]] = defaultdict(Counter)
    for row in rows:
        if isinstance(row, Reward) and row.source != "votes":
            found[row.source][row.reason] += 1
    return found


SEVERAL = 12
"""Words; shorter verdicts of one mind, and shorter answers, may well be the same."""


def echoed(rows: Iterable[Row]) -> Mapping[tuple[str, str], tuple[int, int]]:
    """By name and judge of a step, what is asked for several times and came after its first with an earlier one's text,
    and all that came after the first: written verdicts of a vote, and a sampler's answers to a prompt."""
    texts: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for row in rows:
        if isinstance(row, Judgement) and METHODS[row.method].sampled:
            texts["vote", row.judge, row.pair_id, row.principle_id, row.first_id][row.rationale or ""] += 1
        elif isinstance(row, Response) and row.sampler:
            texts[f"sample-{row.sampler}", "", row.prompt_id][row.text] += 1
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for (name, judge, *_), each in texts.items():
        counts = [count for text, count in each.items() if len(text.split()) >= SEVERAL]
        if counts:
            same, of = found.get((name, judge), (0, 0))
            found[name, judge] = same + sum(counts) - len(counts), of + sum(counts) - 1
    return found


PROMPTS = 2
"""For as many at least a step has to come to nothing: one may be odd by itself."""
VOTES = 4
"""As many are mostly on other words than the labels before a judge is taken for one that does not answer as asked."""


class Doubt(NamedTuple):
    """A step that has come to nothing so far."""

    why: str
    sure: bool
    """Whether it is no use to ask more."""


def hopeless(steps: Iterable[Step]) -> Doubt | None:
    """None: something came of every step."""
    doubts = [doubt for step in steps if (doubt := _doubt(step))]
    return max(doubts, key=lambda doubt: doubt.sure, default=None)


def _doubt(step: Step) -> Doubt | None:
    sure = len(step.prompts) >= PROMPTS
    if not step.done:
        return Doubt(f"every {step.title} failed", sure)
    if step.textless == step.done:
        return Doubt(f"every {step.title} came without text", sure)
    if step.copied.total() == step.done:
        return Doubt(f"every {step.title} repeats what the model was shown", sure)
    if step.masses and max(step.masses) < OFF_LABEL:
        why = f"every {step.title} has most of its probability on other words than the labels"
        return Doubt(why, len(step.masses) >= VOTES)
    return None
