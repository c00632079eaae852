"""Servers that are lost, and taken back."""

from __future__ import annotations

import asyncio
import time

import pytest
from fleet_servers import ask, fleet, opened, seeds, slow, states, until

from constitution.engines.openai import metrics as _metrics
from constitution.errors import ConstitutionError, EngineGone, EngineUnavailable
from rehearsal.server import FakeServer, Fault

# --- outages


async def test_a_lost_server_is_left_and_taken_back_when_it_answers_again() -> None:
    first, second = FakeServer(slow(0.01)), FakeServer(slow(0.01))
    async with fleet([first, second], concurrency=8) as engine:
        await engine.generate(ask(1, "p"))
        await first.__aexit__(None, None, None)
        completions = await asyncio.gather(*(engine.generate(ask(seed, f"p{seed}")) for seed in range(60)))
        assert len(completions) == 60
        assert states(engine) == ["out of service", "in service"]
        await engine.generate(ask(2, "p"))
        assert seeds(second)[-1] == 2
        async with first:
            await until(lambda: states(engine) == ["in service"] * 2)
            stats = engine.stats()["endpoints"][0]
            assert (stats["limit"], stats["outages"]) == (1, 1)
            assert stats["out_of_service_seconds"] > 0
            before = len(first.requests)
            for _ in range(3):
                await asyncio.gather(*(engine.generate(ask(seed)) for seed in range(40)))
            assert len(first.requests) > before
            assert engine.stats()["endpoints"][0]["limit"] > 1
        said = [event for event in engine.stats()["events"] if "out of service" in event]
        assert said[0].startswith(f"{first.base_url} out of service at ")
        assert "(connection refused); back at " in said[0] or "(connection reset" in said[0]


async def test_the_queue_of_a_lost_server_goes_on_elsewhere_by_priority() -> None:
    first, second = FakeServer(faults=[None] + [Fault(delay_s=0.02, reset=True)] * 9), FakeServer(slow(0.04))
    async with fleet([first, second], concurrency=1) as engine:
        await engine.generate(ask(0, "a"))
        for seed in range(10, 20):
            engine._fleet._assign(f"b{seed}", engine._fleet.endpoints[1])
        calm = [asyncio.create_task(engine.generate(ask(seed, f"b{seed}", priority=9))) for seed in range(10, 20)]
        hit = [asyncio.create_task(engine.generate(ask(seed, "a", priority=1))) for seed in range(2, 7)]
        await asyncio.gather(*hit, *calm)
        assert set(range(2, 7)) <= set(seeds(second)[:10])
        assert "out of service" in engine.stats()["events"][0]


@pytest.mark.parametrize("fault", [Fault(reset=True), Fault(status=500), Fault(truncate=True), Fault(delay_s=6)])
async def test_a_server_that_always_fails_is_left_and_every_request_is_answered(fault: Fault) -> None:
    bad, good = FakeServer(faults=[fault] * 1000), FakeServer(slow(0.005))
    timeout_s = 1.0 if fault.delay_s else 30.0
    async with fleet([bad, good], timeout_s=timeout_s, concurrency=16) as engine:
        for _ in range(4):
            await asyncio.gather(*(engine.generate(ask(seed, f"p{seed}")) for seed in range(32)))
        assert len(good.requests) == 128
        assert len(bad.requests) < 64
        assert engine.stats()["endpoints"][0]["outages"] >= 1
        assert any("out of service" in event for event in engine.stats()["events"])


async def test_what_a_lost_server_was_sent_before_does_not_wait_for_the_time_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A machine that is gone takes no connections and breaks none."""
    monkeypatch.setattr(_metrics, "EVERY_SECONDS", 60.0)
    gone, good = FakeServer(slow(60)), FakeServer(slow(0.005))
    async with good:
        await gone.__aenter__()
        engine = await opened([gone, good], timeout_s=60)
        engine._fleet._assign("p", engine._fleet.endpoints[0])
        hanging = asyncio.create_task(engine.generate(ask(1, "p")))
        await until(lambda: len(gone.requests) == 1)
        assert gone._runner is not None
        for site in list(gone._runner.sites):
            await site.stop()
        others = [engine.generate(ask(seed, f"q{seed}")) for seed in range(2, 40)]
        async with asyncio.timeout(5):
            await asyncio.gather(*others, hanging)
        assert "out of service" in engine.stats()["events"][0]
        await engine.close()
        await gone.__aexit__(None, None, None)


async def test_requests_wait_for_the_only_server_to_come_back() -> None:
    server = FakeServer()
    async with fleet([server], timeout_s=20) as engine:
        await server.__aexit__(None, None, None)
        waiting = asyncio.gather(*(engine.generate(ask(seed)) for seed in range(12)))
        await until(lambda: states(engine) == ["out of service"])
        await asyncio.sleep(0.2)
        assert not waiting.done()
        async with server:
            assert len(await waiting) == 12
        assert "back at" in engine.stats()["events"][0]


async def test_what_waits_goes_to_the_first_server_that_is_back_whichever_it_waited_for() -> None:
    first, second = FakeServer(), FakeServer(slow(0.01))
    async with fleet([first, second], concurrency=1, timeout_s=20) as engine:
        for server in (first, second):
            await server.__aexit__(None, None, None)
        lost = [asyncio.create_task(engine.generate(ask(99, priority=20))) for _ in range(12)]
        await until(lambda: states(engine) == ["out of service"] * 2)
        # Without a server in service they wait evenly for both.
        tasks = [asyncio.create_task(engine.generate(ask(seed, priority=1 + seed % 2))) for seed in range(16)]
        async with second:
            await asyncio.gather(*tasks, *lost)
        assert [seed % 2 for seed in seeds(second)[:16]] == [0] * 8 + [1] * 8


async def test_when_all_are_gone_the_error_says_which_and_since_when() -> None:
    servers = [FakeServer(), FakeServer()]
    async with fleet(servers, timeout_s=1.0, retries=8) as engine:
        for server in servers:
            await server.__aexit__(None, None, None)
        start = time.monotonic()
        results = await asyncio.gather(*(engine.generate(ask(seed)) for seed in range(20)), return_exceptions=True)
        assert 0.9 < time.monotonic() - start < 4
        start = time.monotonic()
        with pytest.raises(EngineUnavailable, match="none of the 2 servers is in service") as caught:
            await engine.generate(ask())
        assert time.monotonic() - start < 0.2  # what comes later does not wait again
    assert all(isinstance(result, EngineUnavailable) for result in results)
    assert all(server.base_url in str(caught.value) for server in servers)
    assert str(caught.value).count(" out of service since 20") == 2
    assert caught.value.retryable


async def test_retries_are_bounded_over_the_whole_fleet() -> None:
    servers = [FakeServer(faults=[Fault(status=500)] * 10) for _ in range(2)]
    async with fleet(servers, retries=2) as engine:
        with pytest.raises(EngineUnavailable):
            await engine.generate(ask())
        assert sorted(len(server.requests) for server in servers) == [1, 2]


async def test_a_refused_request_says_nothing_against_the_server() -> None:
    server = FakeServer(faults=[Fault(status=400)] * 30)
    async with fleet([server]) as engine:
        for _ in range(30):
            with pytest.raises(ConstitutionError):
                await engine.generate(ask())
        assert (states(engine), engine.stats()["events"]) == (["in service"], [])


async def test_a_server_that_lost_its_model_is_left_and_does_not_stop_the_run_while_another_is_well() -> None:
    """EngineGone, at which a run stops, is for a fleet of which nothing is left."""
    first, second = FakeServer(faults=[None, *[Fault(status=404)] * 100]), FakeServer()
    async with fleet([first, second], retries=0) as engine:
        await engine.generate(ask(1, "p"))
        assert len(first.requests) == 1
        with pytest.raises(EngineUnavailable, match="404") as caught:
            await engine.generate(ask(2, "p"))
        assert not isinstance(caught.value, EngineGone)
        assert states(engine) == ["out of service", "in service"]
        await engine.generate(ask(3, "p"))
        assert seeds(second) == [3]
