"""Whether a run takes up one more prompt, and why not.

It does not once the budget is spent, once an engine is gone or denies access, and once too many prompts failed. What
is in flight then goes to its end, what was made is written, and the same command resumes from there.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque

from constitution.errors import AccessDenied, EngineGone
from constitution.pipeline.cost import Cost, Ledger, money
from constitution.pipeline.pot import Pot
from constitution.pipeline.tasks import to_its_end
from constitution.recipe import BudgetSection
from constitution.records import Failure

FIRST = 16
"""So many prompts are in flight at most, and have to end, before it is known what one costs."""
LAST = 1_000
"""So many prompts, those that ended last, are looked at for failures: a run that was well for a million prompts stops
as soon as one that never was."""
LEAST = 100
"""Prompts: a share of fewer says too little."""
DENIED = 3
"""Prompts in a row that were not let in. One may be a server's slip, and it is tried again by the next start."""
QUOTED = 300
"""Characters of an engine's message that are repeated."""


class Admission:
    """Lets a prompt in while the cost of those that are done, those that are in flight and this one stays under the
    budget's limit, taking every prompt for as dear as those done were on the average; and while engines do not fail.

    Until FIRST prompts have ended no more than FIRST are in flight, and those can go over the limit. The prompts that
    end first are the cheap ones (two equal answers take no votes), so the mean of fewer would let too many in.
    """

    def __init__(
        self,
        section: BudgetSection | None,
        cost: Cost,
        done: int,
        *,
        stop_at_failures: float = 1.0,
        pot: Pot | None = None,
    ) -> None:
        """section: None sets no limit. done: prompts that earlier starts finished. stop_at_failures: share of the last
        prompts, from LEAST to LAST of them, that engines may have failed. pot: a shard's, from which it draws what it
        may spend."""
        self._section = section
        self._pot = pot
        self._most = stop_at_failures
        self._last: deque[str] = deque(maxlen=LAST)
        """By which error an engine failed each of the prompts that ended last; empty: by none."""
        self._denied = 0
        """Prompts in a row."""
        self._cost = cost
        self._done = done
        self._seen = done
        """Prompts that ended, in this start or finished in an earlier one."""
        self._spent = cost.token_cost(cost.ledger)
        """Tokens of prompts that are not in flight, in money."""
        self._before = cost.engine_cost
        self._loading: float | None = None
        """What the engines had cost in this start before the first prompt; None: no prompt was let in yet."""
        self._in_flight = 0
        self._ended = asyncio.Event()
        self.stopped = ""
        """Why nothing more is let in: `budget: …`, `servers: …`, `engines: …`, `failures: …`; empty: prompts are."""
        if not self._fits():
            self._spend()

    async def admits(self) -> bool:
        """Waits until there is money for one more prompt, or until it is certain that none is let in any more (False).
        A prompt that was let in is given back by `ended`."""
        if self._loading is None:
            self._loading = self._cost.engine_cost - self._before
        while not self.stopped:
            if self._fits() or await self._drawn():
                self._in_flight += 1
                return True
            if not self._in_flight:
                self._spend()
                break
            self._ended.clear()
            await self._ended.wait()
        return False

    def ended(self, used: Ledger, done: bool) -> None:
        """A prompt left, having used so much. done: it was finished, and in this start."""
        self._in_flight -= 1
        if self._section is not None:
            self._spent += self._cost.token_cost(used)
            self._done += done
            self._seen += 1
            self._ended.set()

    def saw(self, failure: Failure | None) -> None:
        """A prompt was worked to its end in this start. failure: what an engine failed it by."""
        error = failure.error if failure else ""
        self._last.append(error)
        self._denied = self._denied + 1 if error == AccessDenied.__name__ else 0
        if failure is None or self.stopped:
            return
        failed = len(self._last) - self._last.count("")
        if error == EngineGone.__name__ or self._denied >= DENIED:
            self.stopped = f"engines: {failure.message[:QUOTED]}"
        elif len(self._last) >= LEAST and failed > self._most * len(self._last):
            commonest, times = Counter(filter(None, self._last)).most_common(1)[0]
            last = f": {failure.message[:QUOTED]}" if error == commonest else ""
            self.stopped = (
                f"failures: engines failed {failed} of the last {len(self._last)} prompts, {times} of them by "
                f"{commonest}{last}"
            )

    def stop(self, reason: str) -> None:
        """Nothing more is let in; the first reason is kept."""
        self.stopped = self.stopped or reason
        self._ended.set()

    def _fits(self) -> bool:
        if self._section is None:
            return True
        return not self._tries() and self._expected() < (self._pot.drawn if self._pot else self._section.limit)

    def _tries(self) -> bool:
        """Whether what a prompt costs is not known yet, and as many are in flight as it takes to know it. Shards share
        these."""
        seen, first = self._seen, FIRST
        if self._pot:
            seen, first = seen + int(self._pot.others["seen"]), max(1, FIRST // self._pot.of)
        return seen < FIRST and self._in_flight >= first

    def _expected(self) -> float:
        """What this will have cost with one more prompt. Tokens: those in flight will have cost their mean, or what
        they have cost already. Accelerators: their cost grows while prompts are in flight, by as much a prompt as
        before, without this start's loading."""
        cost, within = self._cost, self._in_flight + 1
        tokens, engines = cost.token_cost(cost.ledger), cost.engine_cost
        spent, done = self._spent, self._done
        if self._pot and done < FIRST:
            spent, done = spent + self._pot.others["tokens"], done + int(self._pot.others["done"])
        if done:
            tokens = max(tokens, self._spent + within * spent / done)
        if self._done:
            engines += within * (engines - (self._loading or 0.0)) / self._done
        return tokens + engines

    async def _drawn(self) -> bool:
        """Whether the pot has enough for one more prompt, or others know by now what one costs."""
        if self._pot is None:
            return False
        if self._tries():
            await asyncio.to_thread(self._pot.tell, self.account())
        else:
            await asyncio.to_thread(self._pot.draw, self._expected(), self.account())
        return self._fits()

    def account(self) -> dict[str, float]:
        """A shard's, for the pot."""
        return {"spent": self._cost.total or 0.0, "tokens": self._spent, "done": self._done, "seen": self._seen}

    async def leave(self) -> None:
        """Nothing more is spent."""
        if self._pot is not None:
            await to_its_end(self._pot.give_back, self.account())

    def _spend(self) -> None:
        assert self._section is not None
        limit = self._section.limit
        spent = self._pot.spent if self._pot else self._cost.total or 0.0
        self.stopped = f"budget: {money(spent)} of {money(limit)} {self._section.currency} spent"
