"""What is measured of a run while it works: one table for Prometheus and OpenTelemetry.

Names, units and attributes are OpenTelemetry's. `gen_ai.…` are those of its conventions for generative AI (repository
open-telemetry/semantic-conventions-genai, docs/gen-ai/gen-ai-metrics.md, read 2026-11-30), with their buckets. Nothing
here is a text of the data: roles, steps, models, classes of errors, names of tables and counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

from constitution.records import Run

RUN_ID, SHARD = "constitution.run_id", "constitution.shard"
ROLE, STEP, STAGE = "constitution.role", "constitution.step", "constitution.stage"
TABLE, COUNT, OUTCOME = "constitution.table", "constitution.count", "constitution.outcome"
KIND, CURRENCY, SERVER = "constitution.token_kind", "constitution.currency", "constitution.server"
RECIPE, LABEL, VERSION = "constitution.recipe", "constitution.constitution", "constitution.version"
OPERATION, PROVIDER, MODEL = "gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model"
TOKEN_TYPE, WORKFLOW_NAME, ERROR = "gen_ai.token.type", "gen_ai.workflow.name", "error.type"

OF_RUN = (RUN_ID, SHARD)
"""Attributes that every metric has. The shard's is empty where the run is worked whole."""

_UNITS = {"s": "_seconds"}


class Metric(NamedTuple):
    name: str
    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    """UCUM; what is counted is in braces."""
    about: str
    labels: tuple[str, ...] = ()
    """Attributes besides OF_RUN."""
    buckets: tuple[float, ...] = ()

    @property
    def prometheus(self) -> str:
        """The name as a collector gives it to Prometheus, without the `_total` of a counter (OpenTelemetry
        specification, "Prometheus and OpenMetrics Compatibility")."""
        return plain(self.name) + _UNITS.get(self.unit, "")


def plain(name: str) -> str:
    """A name or an attribute as Prometheus takes it."""
    return re.sub(r"[^a-zA-Z0-9_:]", "_", name)


DURATION = Metric(
    "gen_ai.client.operation.duration",
    "histogram",
    "s",
    "From a request to its answer, with all that was tried again.",
    (OPERATION, PROVIDER, MODEL, ROLE, STEP, ERROR),
    (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92),
)
TOKENS = Metric(
    "gen_ai.client.token.usage",
    "histogram",
    "{token}",
    "Tokens of an answered request.",
    (OPERATION, PROVIDER, MODEL, TOKEN_TYPE, ROLE, STEP),
    tuple(4.0**power for power in range(14)),
)
WORKFLOW = Metric(
    "gen_ai.workflow.duration",
    "histogram",
    "s",
    "How long a prompt was in the window.",
    (WORKFLOW_NAME,),
    (1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200),
)
OBSERVED = (DURATION, TOKENS, WORKFLOW)
"""They are told one by one; all others are read of the run's record when they are asked for."""

INFO = Metric("constitution.run.info", "gauge", "", "1, for what the run is.", (RECIPE, LABEL, VERSION))
PROMPTS = Metric("constitution.prompts", "gauge", "{prompt}", "Prompts to be worked.")
DONE = Metric("constitution.prompts.done", "gauge", "{prompt}", "Prompts worked to their end, failed ones among them.")
FAILED = Metric(
    "constitution.prompts.failed",
    "gauge",
    "{prompt}",
    "Of these: open, which a restart tries again, and lost, which failed for good.",
    (OUTCOME,),
)
ROWS = Metric("constitution.rows", "counter", "{row}", "Rows made, over all starts.", (TABLE,))
MARKED = Metric(
    "constitution.rows.marked", "counter", "{row}", "Of these, by what they are counted for in the record.", (COUNT,)
)
CALLS = Metric("constitution.calls", "counter", "{call}", "Calls that rows were made of, over all starts.",
               (STAGE, MODEL))  # fmt: skip
SPENT = Metric(
    "constitution.tokens",
    "counter",
    "{token}",
    "Tokens of these calls; cached are part of input, reasoning of output.",
    (STAGE, MODEL, KIND),
)
COST = Metric("constitution.cost", "counter", "{currency}", "At today's prices, over all starts.", (CURRENCY,))
SECONDS = Metric("constitution.work", "counter", "s", "Time at work, over all starts.")
IN_FLIGHT = Metric("constitution.requests.in_flight", "gauge", "{request}", "Requests in flight.", (ROLE,))
REQUESTS = Metric("constitution.requests", "counter", "{request}", "Requests sent, over all starts.", (ROLE,))
REFUSED = Metric("constitution.requests.failed", "counter", "{request}", "Of these, those that failed.", (ROLE,))
UP = Metric("constitution.server.in_service", "gauge", "", "1: the server is in service; 0: it is out.", (ROLE, SERVER))
SERVED = Metric("constitution.server.requests", "counter", "{request}", "Requests sent to a server in this start.",
                (ROLE, SERVER))  # fmt: skip
STRUCK = Metric("constitution.server.requests.failed", "counter", "{request}", "Of these, those that failed.",
                (ROLE, SERVER))  # fmt: skip
BUSY = Metric("constitution.server.in_flight", "gauge", "{request}", "Requests that a server has in flight.",
              (ROLE, SERVER))  # fmt: skip
READ = (INFO, PROMPTS, DONE, FAILED, ROWS, MARKED, CALLS, SPENT, COST, SECONDS, IN_FLIGHT, REQUESTS, REFUSED, UP,
        SERVED, STRUCK, BUSY)  # fmt: skip

TABLES = ("turns", "responses", "judgements", "preferences", "scores", "rewards", "reference_checks", "rubrics",
          "failures")  # fmt: skip
"""Those of `Run.counts` that are rows of a table."""
PARTS = ("kept", "off_label", "censored", "votes_missing", "votes_spared", "scores_off_label", "rewards_missing",
         "rewards_other", "references_dropped", "rubrics_dropped", "unsaid")  # fmt: skip
"""Those that are part of these."""


class Reading(NamedTuple):
    metric: Metric
    labels: Mapping[str, str]
    """A value for each of `Metric.labels`."""
    value: float


def readings(run: Run, in_flight: Mapping[str, int]) -> Iterator[Reading]:
    """All of READ. run: its record as of now. in_flight: requests by the role of their engine."""
    about = {RECIPE: str(run.recipe.get("name", "")), LABEL: run.constitution, VERSION: run.code_version}
    yield Reading(INFO, about, 1)
    counts = run.counts
    yield Reading(PROMPTS, {}, counts.get("prompts", 0))
    yield Reading(DONE, {}, counts.get("done", 0))
    for outcome in ("open", "lost"):
        yield Reading(FAILED, {OUTCOME: outcome}, counts.get(outcome, 0))
    for table in TABLES:
        yield Reading(ROWS, {TABLE: table}, counts.get(table, 0))
    for name in PARTS:
        yield Reading(MARKED, {COUNT: name}, counts.get(name, 0))
    for used in run.usage:
        of = {STAGE: used.stage, MODEL: used.model}
        yield Reading(CALLS, of, used.calls)
        kinds = {"input": used.prompt_tokens, "cached": used.cached_tokens, "output": used.completion_tokens,
                 "reasoning": used.reasoning_tokens}  # fmt: skip
        for kind, tokens in kinds.items():
            yield Reading(SPENT, of | {KIND: kind}, tokens)
    if run.cost is not None:
        yield Reading(COST, {CURRENCY: (run.recipe.get("budget") or {}).get("currency", "USD")}, run.cost)
    yield Reading(SECONDS, {}, run.seconds)
    for role, requests in in_flight.items():
        yield Reading(IN_FLIGHT, {ROLE: role}, requests)
    yield from _of_engines(run)


def _of_engines(run: Run) -> Iterator[Reading]:
    for role, stats in run.engines.items():
        yield Reading(REQUESTS, {ROLE: role}, stats.get("calls", 0))
        yield Reading(REFUSED, {ROLE: role}, stats.get("failures", 0))
        for server in stats.get("endpoints", ()):
            of = {ROLE: role, SERVER: server["base_url"]}
            yield Reading(UP, of, not server["state"].startswith("out"))
            yield Reading(SERVED, of, server["calls"])
            yield Reading(STRUCK, of, server["failures"])
            yield Reading(BUSY, of, server["in_flight"])
