"""Shards at work under Prefect: as tasks in its task runners, or as flow runs of a deployment.

Each is restarted by who knows that it ended: Prefect retries one that says that it is not at its end, Ray and Dask call
one again whose process they lost, and `worked` starts those again that nothing else does.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from contextvars import copy_context
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import prefect
from httpx import HTTPError
from prefect import get_client
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import State, StateType
from prefect.deployments import arun_deployment
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run as runtime
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelled, Cancelling, Completed, Crashed, Failed
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from constitution.errors import ConstitutionError, EngineUnavailable, InputError, WarehouseError
from constitution.pipeline.shard import prepare_run, run_shard
from constitution.pipeline.tasks import sigterm_cancels, wait_for
from constitution.records import Shard
from constitution.scheduling.spread import Spread
from constitution.shown import printable, sentence
from constitution.warehouse import Warehouse, place

UNFINISHED = "Unfinished"
"""A state's name, of the type Failed: the same start again gets further."""
DELAY = 10.0
"""Seconds before Prefect retries a shard."""
POLL = 5.0
"""Seconds between two questions whether a flow run is being cancelled, or has ended."""
SUBMITTING = threading.Lock()
"""Dask's runner starts its cluster when the first task comes, and a second one where two come at once."""
LIVE = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.PAUSED]

Call = Mapping[str, Any]
"""The arguments of `pipeline.work_shard`."""
Start = Callable[[Call], Awaitable[State[Any]]]


def state_of_shard(result: Mapping[str, Any]) -> State[Any]:
    """What became of a shard, by what `work_shard` returned."""
    count, stopped = result["counts"].get, printable(result["stopped"])
    done = count("done", 0) - count("open", 0) - count("lost", 0)
    message = f"{result['run_id']}, shard {result['shard']}: {done:,} of {count('prompts', 0):,} prompts"
    message += f", {n:,} to be tried again" if (n := count("open", 0)) else ""
    message += f". Stopped by its {stopped}" if stopped else ""
    if result["done"]:
        return Completed(message=message, data=dict(result))
    if stopped and not stopped.startswith("engines"):  # a person has something to do first
        return Failed(message=message, name="BudgetSpent" if stopped.startswith("budget") else None)
    return Failed(message=message, name=UNFINISHED)


def state_of_error(error: ConstitutionError | OSError) -> State[Any]:
    again = isinstance(error, EngineUnavailable | WarehouseError | OSError)
    return Failed(message=sentence(error), name=UNFINISHED if again else None)


def helps_again(task: object, task_run: object, state: State[Any]) -> bool:
    """Prefect's condition of a retry. state: holds the state that the task returned."""
    return isinstance(state.data, State) and state.data.name == UNFINISHED


def work(
    recipe: str,
    warehouse: str,
    number: int,
    of: int,
    resume: str,
    overrides: Sequence[str],
    allow: Sequence[str],
    flow_run: str,
) -> State[Any]:
    """A shard's task, in whatever thread or process its runner calls it. flow_run: who is asked about cancellations."""
    arguments = (Path(recipe), warehouse, overrides, allow, resume)
    try:
        return state_of_shard(asyncio.run(_until_cancelled(arguments, Shard(number, of), UUID(flow_run))))
    except asyncio.CancelledError:
        return Cancelled(message="The shard was stopped. What was made is written.")
    except (ConstitutionError, OSError) as error:
        return state_of_error(error)
    finally:
        if _orphaned():
            os._exit(128 + signal.SIGTERM)


def _watch_flow() -> None:
    """The first thing that a process does that was made for a shard: it ends with the flow's, in good order where its
    shard is at work. Prefect's pool would wait for a dead one for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all: the flow decides
    threading.Thread(target=_end_with_flow, daemon=True).start()


def _end_with_flow() -> None:
    if flow := multiprocessing.parent_process():
        flow.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _orphaned() -> bool:
    flow = multiprocessing.parent_process()
    return flow is not None and threading.current_thread() is threading.main_thread() and not flow.is_alive()


async def _until_cancelled(arguments: tuple[Any, ...], shard: Shard, flow_run: UUID) -> dict[str, Any]:
    """No signal comes to a shard in a thread or on another machine, so it asks."""
    recipe, warehouse, *others = arguments
    plan = await asyncio.to_thread(prepare_run, recipe, place(warehouse), *others)
    running = asyncio.create_task(run_shard(plan, shard))
    async with get_client() as client:
        while not running.done():
            await asyncio.wait({running}, timeout=POLL)
            with suppress(Exception):  # a server that is busy for a moment is no reason to end
                state = (await client.read_flow_run(flow_run)).state
                if state and (state.is_cancelling() or state.is_cancelled()):
                    running.cancel()
                    await wait_for(running)
    return await running


async def worked(calls: Sequence[Call], how: Spread, tell: Callable[[str], None]) -> list[State[Any]]:
    """Works all shards; the state that each ended in. Cancelled, it ends them in good order first. tell: gets a
    sentence on each that is started again. Raises InputError for a runner that is not installed."""
    stopping = asyncio.Event()
    if not calls:
        return []
    async with get_client() as client:
        # Where no server is configured Prefect has started one for the flow: each shard would start another.
        server = temporary_settings({PREFECT_API_URL: str(client.api_url)})
    with server:
        return await _worked(calls, how, stopping, tell)


async def _worked(
    calls: Sequence[Call], how: Spread, stopping: asyncio.Event, tell: Callable[[str], None]
) -> list[State[Any]]:
    # Behind Ray's start, which takes SIGTERM for itself.
    async with _starter(how, len(calls), stopping) as start:
        with sigterm_cancels():
            return await _all(calls, how, start, stopping, tell)


async def _all(
    calls: Sequence[Call], how: Spread, start: Start, stopping: asyncio.Event, tell: Callable[[str], None]
) -> list[State[Any]]:
    running = asyncio.ensure_future(asyncio.gather(*(_to_its_end(call, start, how, stopping, tell) for call in calls)))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        stopping.set()
        await _cancelling()
        await wait_for(running)
        raise


async def _to_its_end(
    call: Call, start: Start, how: Spread, stopping: asyncio.Event, tell: Callable[[str], None]
) -> State[Any]:
    for again in range(how.restarts + 1):
        try:
            state = await start(call)
        except HTTPError as error:  # its server is busy for longer than its client has patience
            state = Crashed(message=f"Prefect's server does not answer: {printable(str(error))}")
        # Prefect has retried a task that is unfinished. A flow run is cancelled by a person; a task is that while its
        # flow is not, where its process got a signal.
        lost = state.is_crashed() or (state.name == UNFINISHED if how.kind == "pool" else state.is_cancelled())
        if not lost or again == how.restarts or stopping.is_set():
            break
        tell(f"{_name(call)} is started again ({again + 1} of {how.restarts}): {state.message or state.name}")
    return state


def _name(call: Call) -> str:
    return f"shard {call['number']}/{call['of']}"


async def _cancelling() -> None:
    """For the shards, who ask, where no person has set it in Prefect."""
    with suppress(Exception):
        async with get_client() as client:
            await client.set_flow_run_state(UUID(str(runtime.id)), Cancelling(), force=True)


# --- tasks


@asynccontextmanager
async def _starter(how: Spread, shards: int, stopping: asyncio.Event) -> AsyncIterator[Start]:
    if how.kind == "pool":
        async with get_client() as client:
            try:
                await client.read_deployment_by_name(how.runner)
            except ObjectNotFound:
                raise InputError(f"{how.runner}: Prefect has no such deployment", hint="prefect deploy --all") from None
            yield partial(_flow_run, client, how, stopping)
        return
    # Each waits in its own thread.
    threads = ThreadPoolExecutor(shards + 1, thread_name_prefix="shard")
    loop = asyncio.get_running_loop()

    async def call(function: Callable[..., Any], *arguments: Any) -> Any:
        return await loop.run_in_executor(threads, partial(copy_context().run, function, *arguments))

    if how.kind == "process":
        # A pool each: all processes of one end where one is killed.
        yield lambda shard: call(_in_its_own, how, shard)
        threads.shutdown(wait=False)
        return
    runner = _runner(how, shards)
    await call(runner.__enter__)
    try:
        yield lambda shard: call(_in_runner, runner, how, shard)
    finally:
        await call(runner.__exit__, None, None, None)
        threads.shutdown(wait=False)


def _in_its_own(how: Spread, call: Call) -> State[Any]:
    with ProcessPoolTaskRunner(max_workers=1) as runner:
        # Its own has no place for what a process does first.
        runner._executor = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=_watch_flow)
        return _in_runner(runner, how, call)


def _in_runner(runner: TaskRunner[Any], how: Spread, call: Call) -> State[Any]:
    """Waits for the shard's task."""
    task = prefect.task(
        name="shard",
        task_run_name="shard {number}/{of}",
        retries=how.restarts,
        retry_delay_seconds=DELAY,
        retry_condition_fn=helps_again,
        cache_policy=NO_CACHE,
        persist_result=False,
    )(work)
    try:
        with SUBMITTING:
            future = runner.submit(task, {**call, "flow_run": str(runtime.id)})
        future.wait()
        state: State[Any] = future.state
    except Exception as error:  # as each runner says that its own process is gone
        return Crashed(message=f"its process was lost: {printable(str(error))}")
    return state if state.is_final() else Crashed(message="its process was lost")


def _runner(how: Spread, shards: int) -> TaskRunner[Any]:
    """Raises InputError where its package is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        if how.kind == "ray":
            from prefect_ray.task_runners import RayTaskRunner

            own: dict[str, Any] = {"num_cpus": shards, "include_dashboard": False, "log_to_driver": False}
            on_ray: TaskRunner[Any] = RayTaskRunner(address=how.address, init_kwargs={} if how.address else own)
            return on_ray
        if how.kind == "dask":
            from prefect_dask.task_runners import DaskTaskRunner

            own = {"n_workers": shards, "threads_per_worker": 1, "dashboard_address": ":0"}
            # A worker that is away for long the cluster gives up; adapting, it starts another.
            keep = {"minimum": shards, "maximum": shards}
            if how.address:
                return DaskTaskRunner(address=how.address)
            return DaskTaskRunner(cluster_kwargs=own, adapt_kwargs=keep)
    except ImportError as error:
        raise InputError(
            f"{how.kind}: {error.name} is not installed", hint="pip install 'constitution[scale]'"
        ) from None
    return ThreadPoolTaskRunner(max_workers=shards)


# --- flow runs


async def _flow_run(client: PrefectClient, how: Spread, stopping: asyncio.Event, call: Call) -> State[Any]:
    """The state in which a flow run of the deployment ended: one that is at work on the shard already, or a new one."""
    tags = [call["resume"], _name(call)]
    wanted = FlowRunFilter.model_validate({"tags": {"all_": tags}, "state": {"type": {"any_": LIVE}}})
    live = await client.read_flow_runs(flow_run_filter=wanted)
    # The same recipe's run in another warehouse has the same id.
    if same := [each for each in live if each.parameters.get("warehouse") == call["warehouse"]]:
        mine = same[0]
    elif stopping.is_set():
        return Cancelled(message="it was not begun")
    else:
        mine = await arun_deployment(how.runner, client, parameters=dict(call), tags=tags, timeout=0)
    life = _Life(call)
    while True:
        await asyncio.sleep(POLL * max(1.0, call["of"] / 16))  # a server has some dozen answers a second
        with suppress(HTTPError):  # it is away, or busy, for longer than its client has patience
            state = (await client.read_flow_run(mine.id)).state or Crashed()
            if state.is_final():
                return state
            # One that is just being begun would be begun all the same: it is cancelled when it runs.
            if stopping.is_set() and (state.is_running() or state.is_scheduled()):
                asked: State[Any] = Cancelled() if state.is_scheduled() else Cancelling()
                await client.set_flow_run_state(mine.id, asked, force=True)
            silent = await asyncio.to_thread(life.silent, state)
            if silent > how.lost_after_s and not state.is_scheduled():
                lost: State[Any] = Crashed(message=f"there was no sign of life for {silent:,.0f} seconds")
                await client.set_flow_run_state(mine.id, lost, force=True)
                return lost


class _Life:
    """Signs of life of a flow run, by this process's clock: its state changes, or the shard's record, which is written
    every ten seconds while it works."""

    def __init__(self, call: Call) -> None:
        self._store = Warehouse(place(call["warehouse"]))
        self._of = (call["resume"], Shard(call["number"], call["of"]))
        self._seen: object = None
        self._since = time.monotonic()

    def silent(self, state: State[Any]) -> float:
        """Seconds since the last one."""
        record, now = self._store.read_shard(*self._of), time.monotonic()
        seen = (state.type, record and (record.beat_at, record.host, record.process, record.starts))
        if seen != self._seen:
            self._seen, self._since = seen, now
        return now - self._since
