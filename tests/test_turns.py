"""Engines in turns, with engines written by hand that note what happens to them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise

import pytest

from constitution.engines.turns import Turns
from constitution.errors import EngineUnavailable


class Noted:
    """An engine that says when it falls asleep and wakes; `hold` delays that, `fail` makes it raise."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log
        self.hold: Callable[[], Awaitable[object]] | None = None
        self.fail: str | None = None

    async def sleep(self) -> None:
        await self._do("sleep")

    async def wake_up(self) -> None:
        await self._do("wake")

    async def _do(self, what: str) -> None:
        if self.hold:
            await self.hold()
        if self.fail == what:
            raise RuntimeError(f"{self.name} cannot {what}")
        self.log.append(f"{self.name} {what}")


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture
def a(log: list[str]) -> Noted:
    return Noted("a", log)


@pytest.fixture
def b(log: list[str]) -> Noted:
    return Noted("b", log)


@pytest.fixture
def turns(a: Noted, b: Noted) -> Turns[Noted]:
    """`a` is awake."""
    return Turns([b, a], linger_s=0.005)


async def work(turns: Turns[Noted], engine: Noted, log: list[str], what: str, seconds: float = 0.0) -> None:
    async with turns.turn(engine):
        log.append(f"{engine.name} {what}")
        await asyncio.sleep(seconds)


async def test_the_awake_one_works_at_once_and_nothing_sleeps(turns: Turns[Noted], a: Noted, log: list[str]) -> None:
    await asyncio.gather(*(work(turns, a, log, "works") for _ in range(3)))
    await asyncio.sleep(0.02)
    assert log == ["a works"] * 3


async def test_a_sleeper_is_woken_when_the_other_has_nothing_in_flight(
    turns: Turns[Noted], a: Noted, b: Noted, log: list[str]
) -> None:
    slow = asyncio.create_task(work(turns, a, log, "slow", 0.05))
    await asyncio.sleep(0)
    quick = asyncio.create_task(work(turns, b, log, "quick"))
    # Those of the awake one go first, although they come later.
    await asyncio.sleep(0.01)
    late = asyncio.create_task(work(turns, a, log, "late", 0.1))
    await asyncio.gather(slow, quick, late)
    assert log == ["a slow", "a late", "a sleep", "b wake", "b quick"]


async def test_a_chain_of_calls_keeps_its_engine_awake(a: Noted, b: Noted, log: list[str]) -> None:
    turns = Turns([b, a], linger_s=0.5)  # long, so that a busy machine between two calls is no end of the chain

    async def chain() -> None:
        for _ in range(4):
            await work(turns, a, log, "step")
            await asyncio.sleep(0.001)

    await asyncio.gather(chain(), work(turns, b, log, "other"))
    assert log == ["a step"] * 4 + ["a sleep", "b wake", "b other"]


async def test_bounded_chains_over_both_engines_all_end(
    turns: Turns[Noted], a: Noted, b: Noted, log: list[str]
) -> None:
    """As the pipeline's prompts do: some calls of the policy, then some of the judge."""
    window = asyncio.Semaphore(4)
    inside = 0

    async def prompt(number: int) -> None:
        nonlocal inside
        async with window:
            for engine in (a, a, b, b):
                async with turns.turn(engine):
                    inside += 1
                    await asyncio.sleep(0.001 * (number % 3))
                    inside -= 1

    await asyncio.wait_for(asyncio.gather(*(prompt(number) for number in range(12))), 10)
    assert inside == 0
    switches = [line for line in log if line.endswith("wake")]
    assert switches[0] == "b wake"
    assert all(first != second for first, second in pairwise(switches))
    # About one each way for every window's worth of prompts, not one for every call.
    assert len(switches) <= 8


async def test_two_are_never_awake_at_once(a: Noted, b: Noted, log: list[str]) -> None:
    c = Noted("c", log)
    turns = Turns([c, b, a], linger_s=0.001)
    await asyncio.gather(*(work(turns, engine, log, "works", 0.002) for engine in (a, b, c, b, a, c)))
    awake = {"a"}
    for line in log:
        name, what = line.split()
        if what == "sleep":
            awake.remove(name)
        elif what == "wake":
            awake.add(name)
        else:
            assert name in awake
        assert len(awake) <= 1
    assert sum(line.endswith("wake") for line in log) == 2


@pytest.mark.parametrize(("who", "what"), [("a", "sleep"), ("b", "wake")])
async def test_a_failure_reaches_all_who_wait_and_all_who_come(
    turns: Turns[Noted], a: Noted, b: Noted, log: list[str], who: str, what: str
) -> None:
    {"a": a, "b": b}[who].fail = what
    waiting = await asyncio.gather(*(work(turns, b, log, "never") for _ in range(3)), return_exceptions=True)
    assert all(isinstance(error, EngineUnavailable) and f"{who} cannot {what}" in str(error) for error in waiting)
    for engine in (a, b):
        with pytest.raises(EngineUnavailable):
            await work(turns, engine, log, "never")


async def test_one_who_gave_up_wakes_nobody(turns: Turns[Noted], a: Noted, b: Noted, log: list[str]) -> None:
    busy = asyncio.create_task(work(turns, a, log, "works", 0.02))
    await asyncio.sleep(0)
    impatient = asyncio.create_task(work(turns, b, log, "never"))
    await asyncio.sleep(0.005)
    impatient.cancel()
    await busy
    await asyncio.sleep(0.02)
    assert impatient.cancelled()
    assert log == ["a works"]


async def test_one_who_is_cancelled_while_being_let_in_leaves_no_place_taken(
    turns: Turns[Noted], a: Noted, b: Noted, log: list[str]
) -> None:
    impatient = asyncio.create_task(work(turns, b, log, "never"))
    woken = b.wake_up

    async def wake_and_cancel() -> None:
        await woken()
        # The waiter is let in by the switch's next step; its cancellation arrives before it runs.
        asyncio.get_running_loop().call_soon(impatient.cancel)

    b.wake_up = wake_and_cancel  # type: ignore[method-assign]
    with pytest.raises(asyncio.CancelledError):
        await impatient
    # If its place were still taken, b would stay awake for ever.
    await asyncio.wait_for(work(turns, a, log, "works"), 5)
    assert log == ["a sleep", "b wake", "b sleep", "a wake", "a works"]


async def test_closing_waits_for_a_change_under_way(turns: Turns[Noted], a: Noted, b: Noted, log: list[str]) -> None:
    held = asyncio.Event()
    a.hold = held.wait
    waiting = asyncio.create_task(work(turns, b, log, "works"))
    await asyncio.sleep(0.02)
    closing = asyncio.create_task(turns.close())
    await asyncio.sleep(0.01)
    assert not closing.done()
    held.set()
    await closing
    assert log[:2] == ["a sleep", "b wake"]
    await waiting


async def test_nobody_waits_for_a_turn_that_a_closing_takes_away(
    turns: Turns[Noted], a: Noted, b: Noted, log: list[str]
) -> None:
    busy = asyncio.create_task(work(turns, a, log, "works", 0.02))
    await asyncio.sleep(0)
    waiting = asyncio.create_task(work(turns, b, log, "never"))
    await asyncio.sleep(0)
    await turns.close()
    with pytest.raises(EngineUnavailable, match="closed"):
        await asyncio.wait_for(waiting, 5)
    await busy
    with pytest.raises(EngineUnavailable, match="closed"):
        await work(turns, b, log, "never")
    await asyncio.sleep(0.02)
    # A closed engine is asked neither to sleep nor to wake.
    assert log == ["a works"]
