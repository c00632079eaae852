"""What is recorded of a run as a whole."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Usage:
    """What a run's calls of one stage to one model took in and put out: the calls whose replies are in its rows."""

    stage: str
    """initial · critique · revision · perturbation · vote"""
    model: str
    """For votes the name of their judge."""
    calls: int
    prompt_tokens: int
    cached_tokens: int
    """Part of `prompt_tokens`: tokens that the engine had in its prefix cache."""
    completion_tokens: int
    reasoning_tokens: int = 0
    """Part of `completion_tokens`: tokens of reasoning; 0: none that are known."""
    cost: float | None = None
    """What the tokens cost at the prices of the last start's recipe; accelerator hours are of no stage. None: tokens
    have no price."""


@dataclass(frozen=True, slots=True)
class Run:
    """What was run, with what, and how it went. Stored as runs/<run_id>.json; while it works, rewritten every ten
    seconds."""

    run_id: str
    recipe: dict[str, Any]
    """The recipe as it was run last, --set included; what decides the rows is the same in all starts."""
    constitution: str
    """name@version"""
    constitution_digest: str
    templates: dict[str, dict[str, str]]
    """Digest of a template set → its files' texts: what a row's `template_digest` leads to."""
    models: dict[str, dict[str, str]]
    """Per role (policy; judge, or `judge <name>` for each of a jury): what the engine says of its model: name, engine,
    digest or revision. Where it said something else before a restart, that is under `<role> until start <n>`."""
    code_version: str
    hardware: dict[str, str]
    started_at: str
    """UTC, ISO 8601; of the first start."""
    finished_at: str | None = None
    """None: not finished."""
    starts: int = 1
    """How often it was started; more than 1: it was resumed."""
    seconds: float = 0.0
    """Wall time over all starts, without loading models; of a start that was killed up to its last ten seconds."""
    counts: dict[str, int] = field(default_factory=dict)
    """Prompts, rows per table, votes missing, and tokens."""
    beside: str = ""
    """Digest of what came with the prompts and decides no row but theirs (`Prompt.source_id`, `metadata`, `cut_answer`)
    and of the rows that were skipped; empty: nothing."""
    usage: tuple[Usage, ...] = ()
    """Calls and tokens per stage and model, over all starts."""
    engines: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Per role (an engine of several roles is under the first alone) what its engine reports of its work.
    Calls, failures, busy_seconds and open_seconds are sums over all starts, events are those of all starts, and
    anything else is of the last one. Calls are more than in `usage` where replies were lost or refused."""
    cost: float | None = None
    """Tokens and accelerator hours at the prices of the last start's recipe; None: it has no prices."""
    labels: dict[str, Any] = field(default_factory=dict)
    """How the labels were made of all votes, at the end of the run or by `constitution relabel`: when, by which
    settings of [judge], what was applied, what could not be. Empty: each when its pair's votes were in, as the recipe
    says."""
    template_date: str = ""
    """ISO 8601: the day that chat templates take for today, unless a model's section fixes another; that of the first
    start. Empty: of a run that was prepared before it was recorded."""
    repairs: tuple[str, ...] = ()
    """Files that were found damaged, and how, a clause each. They were quarantined, and their rows, with those that
    rested on them, made again."""
    stopped: str = ""
    """Why the last start took up no more prompts: `budget: 9.98 of 10.00 USD spent`, `engines: …` that are gone,
    `failures: …`; empty: it took up all, a signal ended it, or it is at work."""

    shards: int = 0
    """How many shards it was last worked in (ShardRecord); 0: as a whole."""
    parent: str = ""
    """The run that this one continues; empty: none."""
    iteration: int = 0
    """Its place among those that continue one another; 0: the first."""
    authors: tuple[str, ...] = ()
    """Who started it, and on which machine (`ann@gpu-7`), each once and the first first; empty: from before that was
    kept."""

    @property
    def day(self) -> str:
        """`template_date`, or the day of the first start, in UTC, where that was not recorded."""
        return self.template_date or self.started_at[:10]
