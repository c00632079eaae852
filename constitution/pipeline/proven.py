"""Whether engines can be used at all: a step is proven once an engine has answered a request of it.

An engine that was set up wrongly (a server without a chat template, a context too small, a field that it does not know)
refuses every request of a step. What is refused before the step is proven is therefore no prompt's fault yet: it stays
open, and once ENOUGH prompts were refused and none was answered, the run stops. Where the step is proven later, those
prompts are asked again at the end of the start, and what is refused then is final.

Log-probabilities are what some servers have for no request. Until one vote has come with them only BARE are asked at
a time, and once BARE came without, the start ends and the others are not sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from constitution.engines import Engines, Request
from constitution.engines.meter import Metered
from constitution.errors import EngineError, MalformedReply, RequestRefused
from constitution.judge.by_last_token import STEP as READ_OUT
from constitution.judge.by_model import STEP as SCORED
from constitution.pipeline.cost import of_judges
from constitution.records import Usage

ENOUGH = 8
"""Prompts: the first ones that were asked for a step, however long others take to be answered."""
BARE = 3
"""Votes without log-probabilities; one may be a gateway's slip."""
QUOTED = 300
"""Characters of an engine's message that are repeated."""


@dataclass(slots=True)
class _Tried:
    """One prompt at one step."""

    in_flight: int = 0
    refused: bool = False


class Proving:
    """The steps of one engine in one start. A watch of its requests (engines/meter.py)."""

    def __init__(
        self,
        role: str,
        earlier: Collection[str],
        stop: Callable[[str], None],
        *,
        able: bool = True,
        asked: Callable[[str, Request], None] | None = None,
    ) -> None:
        """earlier: steps that earlier starts have answers of. stop: ends the start, and is given the reason. able:
        False takes every step as proven. asked: is given the role and every request."""
        self._asked = asked
        self._role = role
        self._earlier = frozenset(earlier)
        self._stop = stop
        self._able = able
        self._proven: set[str] = set()
        self._tried: dict[str, dict[str, _Tried]] = {}
        """By step and prompt, in the order in which they were asked first."""
        self._words: dict[str, str] = {}
        """By step, the last refusal."""
        self._bare: list[EngineError] = []
        """Votes that came without log-probabilities, before any came with them."""
        self._first = asyncio.Semaphore(BARE)
        self._holds: set[int] = set()
        """Ids of the requests that are among the first."""
        self._early: dict[str, set[str]] = {}
        """By prompt, the steps that were refused for good before they were proven."""

    async def turn(self, request: Request) -> None:
        if not request.choices or self.proven(request) or kind(request) in self._earlier:
            return
        await self._first.acquire()
        if len(self._bare) >= BARE or self.proven(request):
            self._first.release()
        else:
            self._holds.add(id(request))
        if len(self._bare) >= BARE:
            last = self._bare[-1]
            error = type(last)(str(last))
            error.retryable = True
            raise error

    def begun(self, request: Request) -> None:
        if self._asked is not None:
            self._asked(self._role, request)
        step = kind(request)
        if not self.proven(request):
            self._tried.setdefault(step, {}).setdefault(request.affinity, _Tried()).in_flight += 1

    def ended(self, request: Request, error: BaseException | None) -> None:
        """error: what the engine raised, which is made retryable where nothing is proven yet; None: it answered."""
        step = kind(request)
        if id(request) in self._holds:
            self._holds.discard(id(request))
            self._first.release()
        if self.proven(request):
            return
        if error is None:
            self._proven.add(step)
            self._tried.pop(step, None)
            if request.choices:
                self._bare = []
            return
        if isinstance(error, EngineError) and error.no_logprobs and step not in self._earlier:
            self._bare.append(error)
            if len(self._bare) == BARE:
                self._stop(self._no_logprobs(step, error))
        tried = self._tried[step]
        prompt = tried[request.affinity]
        prompt.in_flight -= 1
        # What this prompt says is refused to it alone, however the server was set up.
        flagged = isinstance(error, RequestRefused) and error.flagged
        lasting = isinstance(error, EngineError) and (not error.retryable or isinstance(error, MalformedReply))
        if isinstance(error, EngineError) and lasting and not flagged:
            prompt.refused = True
            self._words[step] = _quoted(error)
            if not error.retryable:
                error.retryable = True
                self._early.setdefault(request.affinity, set()).add(step)
        if not prompt.in_flight and not prompt.refused:
            del tried[request.affinity]  # an outage says nothing of how the engine was set up
        first = list(tried.values())[:ENOUGH]
        if len(first) == ENOUGH and all(each.refused and not each.in_flight for each in first):
            self._stop(self._reason(step))

    def proven(self, request: Request) -> bool:
        """Also of what no step is known of."""
        return not self._able or not request.step or kind(request) in self._proven

    def early(self, prompt_id: str) -> bool:
        """Whether the prompt has to be asked again before its refusals are final."""
        return bool(self._early.get(prompt_id))

    def decide(self) -> None:
        """All prompts have been asked. A step that was refused to all is proven where earlier starts have answers of
        it and only few were refused; else the start ends."""
        for step, tried in list(self._tried.items()):
            if not tried:
                continue
            if step.partition(" ")[0] not in self._earlier or len(tried) >= ENOUGH:
                self._stop(self._reason(step))
                return
            self._proven.add(step)
            del self._tried[step]
        self._early = {}

    def _no_logprobs(self, step: str, error: EngineError) -> str:
        if step == "reward":
            return (
                f"servers: {self._role} gives no log-probabilities, which rewards are read from; name judges that give "
                f"them: {_quoted(error)}"
            )
        _, _, member = self._role.partition(" ")
        setting = f'method = "verdict" in [model.jury.{member}]' if member else 'judge.method = "verdict"'
        return (
            f"servers: {self._role} gives no log-probabilities, which votes are read from; set {setting}, which takes "
            f"none: {_quoted(error)}"
        )

    def _reason(self, step: str) -> str:
        prompts = len(self._tried[step])
        asked = f"{prompts} prompts" if prompts > 1 else "one prompt"
        return f"servers: {self._role} refused the step {step} to all it was asked for ({asked}): {self._words[step]}"


def _quoted(error: EngineError) -> str:
    """Without a full stop: other sentences follow."""
    return str(error)[:QUOTED].removesuffix(".")


def kind(request: Request) -> str:
    """`critique-2` and `critique-1` are one step; a vote's rationale and its label are two."""
    step = request.step.partition("-")[0]
    return f"{step} (rationale)" if step == "vote" and not request.choices else step


def prove(
    engines: Engines,
    usage: Iterable[Usage],
    stop: Callable[[str], None],
    *,
    able: bool,
    asked: Callable[[str, Request], None] | None,
) -> tuple[Proving, ...]:
    """One for each engine, which it watches from now on. usage: of earlier starts; the rest: as `Proving` has it."""
    readers, made = {SCORED: engines.scorer, READ_OUT: engines.policy}, []
    earlier = list(usage)
    for role, engine in engines.distinct.items():
        names = {name for name, judge in engines.judges.items() if judge is engine}

        def answered(used: Usage, engine: Metered = engine, names: set[str] = names) -> bool:
            if used.stage in readers:
                return readers[used.stage] is engine
            # A judge's name is its model's where there is one judge, and may be the policy's.
            return not of_judges(used.stage) or used.model in names

        steps = {used.stage.partition("-")[0] for used in filter(answered, earlier)}
        engine.watch = proving = Proving(role, steps, stop, able=able, asked=asked)
        made.append(proving)
    return tuple(made)
