"""What a run has used and what that costs.

Ledger    calls and tokens per stage and model, row by row
Cost      the ledger and the engines' seconds, over all starts, at the recipe's prices
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from constitution.records import Judgement, Response, Row, RubricItem, Score, Usage

if TYPE_CHECKING:
    from constitution.engines import Engines
    from constitution.recipe import Models, Price, Recipe

Stats = Mapping[str, Mapping[str, Any]]
"""Per role what its engine reports of its work, as `Engines.stats` gives it."""

STAGES = ("sample", "initial", "critique", "revision", "perturbation", "reference", "rubric", "reward", "vote")
"""In the order of a prompt's way. A sampler's is `sample-NAME`, whose model is the policy or of the pool; a reward's is
`reward-SOURCE`, and its and the vote's models are the judges, but of last-token; the rubric's is the recipe's
rubric.model, and its check's, `rubric-check`, the judge; all others are the policy's."""


def asked_by(recipe: Recipe) -> dict[str, str]:
    """The model that each sampler and the writing of references and rubrics asks, by their stages."""
    found = {f"sample-{name}": section.model for name, section in recipe.sample.items()}
    writers = {"reference": recipe.reference_by, "rubric": recipe.rubric_by}
    return found | {stage: model for stage, model in writers.items() if model}


def of_judges(stage: str) -> bool:
    asked = stage.partition("-")[0] in ("reward", "vote") and stage != "reward-last-token"
    return asked or stage == "rubric-check"


COUNTED = ("calls", "prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens")
"""Tokens of a stage and model, in the order of `Usage`."""
_TOKENS = attrgetter(*COUNTED[1:])
_SCORE_TOKENS = attrgetter(*COUNTED[1:4])
_CRITIQUE_TOKENS = attrgetter(*(f"critique_{name}" for name in COUNTED[1:]))
_CHECK_TOKENS = attrgetter(*(f"check_{name}" for name in COUNTED[1:4]))
SUMS = ("calls", "failures", "busy_seconds", "open_seconds")
"""Engine's stats that are added up over a run's starts."""
EVENTS = 100
"""So many of an engine's events are kept, the latest."""


class Ledger:
    """Calls and tokens per stage and model. The view `usage` says the same in SQL."""

    def __init__(self, usage: Iterable[Usage] = ()) -> None:
        self.calls = 0
        """Calls that were added since."""
        self.written = 0
        """Tokens of output that were added since."""
        self._sums = {(one.stage, one.model): [getattr(one, name) for name in COUNTED] for one in usage}

    def join(self, others: Iterable[tuple[Iterable[Usage], int, int]]) -> None:
        """Becomes the sum of these: what each has in all, and calls and tokens of output that were added to it."""
        self.calls, self.written, self._sums = 0, 0, {}
        for usage, calls, written in others:
            for one in usage:
                self._sum(one.stage, one.model, [getattr(one, name) for name in COUNTED])
            self.calls += calls
            self.written += written

    def add(self, row: Row) -> None:
        """Counts the calls that made the row: none for an answer that came with its prompt, a critique and a revision
        for a revision that was not skipped, as many as it took for a vote or a reading."""
        if isinstance(row, Judgement):
            self._add("vote", row.judge, row.calls, _TOKENS(row))
        elif isinstance(row, Score):
            if row.calls:
                self._add(f"reward-{row.metric}", row.judge, row.calls, (*_SCORE_TOKENS(row), 0))
        elif isinstance(row, RubricItem):
            if row.calls:
                self._add("rubric", row.writer, row.calls, _TOKENS(row))
            if row.checker is not None:
                self._add("rubric-check", row.checker, row.check_calls, (*_CHECK_TOKENS(row), 0))
        elif isinstance(row, Response):
            if row.critique_outcome is not None:
                self._add("critique", row.model, 1, _CRITIQUE_TOKENS(row))
            if row.calls:
                self._add(f"sample-{row.sampler}" if row.sampler else row.kind, row.model, row.calls, _TOKENS(row))

    def usage(self) -> tuple[Usage, ...]:
        """Stages in their order, models by name."""
        places = {stage: place for place, stage in enumerate(STAGES)}
        keys = sorted(self._sums, key=lambda key: (places.get(key[0].partition("-")[0], len(places)), key))
        return tuple(Usage(stage, model, *self._sums[stage, model]) for stage, model in keys)

    def total(self, name: str) -> int:
        """Sum of one of COUNTED over all stages and models."""
        place = COUNTED.index(name)
        return sum(sums[place] for sums in self._sums.values())

    def _add(self, stage: str, model: str, calls: int, tokens: tuple[int, ...]) -> None:
        self.calls += calls
        self.written += tokens[2]
        self._sum(stage, model, (calls, *tokens))

    def _sum(self, stage: str, model: str, counted: Iterable[int]) -> None:
        sums = self._sums.get((stage, model))
        if sums is None:
            sums = self._sums[stage, model] = [0] * len(COUNTED)
        for place, count in enumerate(counted):
            sums[place] += count


class Cost:
    """What a run has used over all its starts, at today's prices.

    models: whose prices count. ledger: what was used before is in it, what is used is added to it. before: the engines'
    stats of earlier starts, from the run's record. askers: the model that a stage asks, where it is not said by the
    stage: `policy`, `judge` or a name of the pool (`asked_by`).
    """

    def __init__(self, models: Models, ledger: Ledger, before: Stats, askers: Mapping[str, str] | None = None) -> None:
        self._prices: dict[str, Price | None] = {role: section.paid for role, section in models.roles.items()}
        """Per role, as `Engines.roles` names them."""
        self._askers = dict(askers or {})
        self._before = before
        self.ledger = ledger
        self.engines: Engines | None = None
        """This start's, when they are open."""

    @property
    def priced(self) -> bool:
        return any(self._prices.values())

    @property
    def total(self) -> float | None:
        """None: no model has a price."""
        return self.token_cost(self.ledger) + self.engine_cost if self.priced else None

    def token_cost(self, ledger: Ledger) -> float:
        """Cost of the ledger's tokens."""
        return sum(self._token_cost(used) or 0.0 for used in ledger.usage())

    def usage(self) -> tuple[Usage, ...]:
        """The ledger's, with what each costs."""
        return tuple(replace(used, cost=self._token_cost(used)) for used in self.ledger.usage())

    def _token_cost(self, used: Usage) -> float | None:
        """By the million; cached tokens at their own price where there is one. None: tokens have no price. The view
        `usage` says the same in SQL."""
        price = self._price(used)
        if price is None or not price.by_token:
            return None
        cached = price.input if price.cached is None else price.cached
        # Rows that an older version wrote may say that more was cached than there was.
        found = min(used.cached_tokens, used.prompt_tokens)
        paid = (used.prompt_tokens - found) * price.input + found * cached + used.completion_tokens * price.output
        return paid / 1e6

    @property
    def engine_cost(self) -> float:
        """Cost of the accelerators, by the hour, for as long as their engine was open."""
        total = 0.0
        for role, price in self._prices.items():
            if price is not None and price.gpu_hour:
                total += self._open_seconds(role) / 3600 * price.gpus * price.gpu_hour
        return total

    def stats(self) -> dict[str, dict[str, Any]]:
        """Per role what its engine reports, this start's and those before it together, as `Run.engines` keeps it."""
        now = self.engines.stats() if self.engines else {}
        return {role: together(self._before.get(role, {}), now.get(role, {})) for role in {**self._before, **now}}

    def _price(self, used: Usage) -> Price | None:
        if of_judges(used.stage):
            return self._vote_price(used.model)
        model = self._askers.get(used.stage, "policy")
        return self._prices[model if model in ("policy", "judge") else f"pool {model}"]

    def _vote_price(self, judge: str) -> Price | None:
        return self._prices["judge"] if "judge" in self._prices else self._prices.get(f"judge {judge}")

    def _open_seconds(self, role: str) -> float:
        before = max(0.0, float(self._before.get(role, {}).get("open_seconds", 0.0)))
        engine = self.engines.distinct.get(role) if self.engines else None
        return before + (engine.open_seconds if engine else 0.0)


def together(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """What an engine reported in earlier starts, and now. What JSON cannot say becomes None."""
    joined = {**before, **now}
    for name in SUMS:
        if name in joined:
            joined[name] = round(before.get(name, 0) + now.get(name, 0), 3)
    if "most_in_flight" in joined:
        joined["most_in_flight"] = max(before.get("most_in_flight", 0), now.get("most_in_flight", 0))
    if "served_models" in joined:
        joined["served_models"] = dict(Counter(before.get("served_models")) + Counter(now.get("served_models")))
    events = [*before.get("events", ()), *now.get("events", ())]
    if events:
        joined["events"] = events[-EVENTS:]
    plain: dict[str, Any] = json.loads(json.dumps(joined, default=str), parse_constant=lambda _: None)
    return plain


def money(amount: float) -> str:
    """To the hundredth; what is under one, to three figures."""
    return f"{amount:,.2f}" if amount >= 1 or not amount else f"{amount:.3g}"
