"""A flow's body in Prefect: states with counts, logs, progress, tags, events, and what a kill left.

This module and shards.py are those that import Prefect.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import cache, wraps
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import UUID

import prefect
from prefect import get_client, get_run_logger
from prefect.artifacts import acreate_markdown_artifact, acreate_progress_artifact, aupdate_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter, TaskRunFilter
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.context import FlowRunContext
from prefect.events import emit_event
from prefect.exceptions import FlowPauseTimeout
from prefect.flow_runs import apause_flow_run
from prefect.input import RunInput
from prefect.runtime import deployment
from prefect.runtime import flow_run as runtime
from prefect.settings import PREFECT_API_URL
from prefect.states import Cancelled, Completed, Crashed, Failed

from constitution.errors import ConstitutionError, InputError, NotFinished, WarehouseError
from constitution.pipeline import Pace, Plan, Session
from constitution.pipeline.dealing import left, summed
from constitution.pipeline.report import figures
from constitution.pipeline.shard import finish_run
from constitution.records import Run
from constitution.scheduling import Decision, Schedule, Step
from constitution.scheduling.shards import state_of_shard, worked
from constitution.scheduling.spread import Spread
from constitution.shown import printable, sentence
from constitution.telemetry import log
from constitution.warehouse import Warehouse, place

RUN, PLACE = "constitution.run", "constitution.warehouse"
"""Labels of a flow run: the run's id; the machine and the folder of its warehouse."""
EVERY = 60.0
"""Seconds between two lines in the log."""
LIVE = [StateType.RUNNING, StateType.PENDING]
DEAD = "Its process was killed; the run was resumed by another."


class _Decided(Decision, RunInput):
    """A decision as the input of a paused flow run."""


def _is_news(record: logging.LogRecord) -> bool:
    """Prefect logs a task that returned a failed state with the traceback of no error, before it logs the state."""
    return not (record.exc_info and record.exc_info[0] is None)


logging.getLogger("prefect.task_runs").addFilter(_is_news)


def flow_of(body: Callable[..., Any], name: str, named: str, also: str) -> Any:
    """Prefect's flow. Nothing is retried or cached: engines retry requests, and the warehouse knows what is done."""

    def run_name() -> str:
        about = Path(str(runtime.parameters.get(named) or "newest run")).name.removesuffix(".toml")
        about += " " + also.format_map(runtime.parameters) if also else ""
        return f"{about} {runtime.scheduled_start_time:%Y-%m-%d %H:%M:%S} {str(runtime.id)[-4:]}"

    made = prefect.flow(name=name, flow_run_name=run_name, persist_result=False, on_crashed=[end_task_runs])
    return made(body)


@cache
def _task_of(step: Step) -> Any:
    """An error for a person, and a cancellation, become a state without a traceback."""

    @wraps(step.body)
    async def body(*arguments: Any) -> Any:
        try:
            return await step.body(*arguments)
        except asyncio.CancelledError:
            return Cancelled(message="The run was stopped.")
        except (ConstitutionError, OSError) as error:
            return Failed(message=sentence(error), data=error)

    return prefect.task(task_run_name=step.run_name, cache_policy=NO_CACHE, persist_result=False)(body)


def in_flow_run() -> bool:
    return FlowRunContext.get() is not None


def counts(run: Run) -> str:
    """`fake-0a7d: 7 of 10 prompts, 3 to be tried again, 5 preferences`; then why it stopped."""
    count = run.counts.get
    parts = [f"{count('done', 0) - count('open', 0) - count('lost', 0):,} of {count('prompts', 0):,} prompts"]
    parts += [f"{n:,} to be tried again"] if (n := count("open", 0)) else []
    parts += [f"{n:,} failed for good"] if (n := count("lost", 0)) else []
    parts.append(f"{count('preferences', 0):,} preferences")
    why = f". Stopped by its {printable(run.stopped)}" if run.stopped else ""
    return f"{run.run_id}: {', '.join(parts)}{why}"


def usable(run: Run) -> bool:
    """Whether what comes after a run may begin: it is finished, and some prompt came to its end."""
    lost = run.counts.get("lost", 0)
    return run.finished_at is not None and not (lost and lost >= run.counts.get("prompts", 0))


def state_of(run: Run) -> State[Any]:
    """Completed: all prompts came to their end. CompletedWithFailures, of the type Completed: engines failed some for
    good. BudgetSpent, of the type Failed. Failed: a restart has something to do, or nothing came to its end."""
    message, lost = counts(run), run.counts.get("lost", 0)
    if usable(run):
        return Completed(message=message, data=run, name="CompletedWithFailures" if lost else "Completed")
    spent = run.stopped.startswith("budget")
    return Failed(message=message, data=NotFinished(message, run), name="BudgetSpent" if spent else "Failed")


class PrefectSchedule(Schedule):
    """Makes a state of however its block ends: of a run by its counts; of an error for a person by its sentence, logged
    once and without a traceback; of a cancellation that was asked for Cancelled, by which no Crashed goes before.

    Other errors are raised, as are cancellations that no person asked for.
    """

    def __init__(self) -> None:
        self._so_far: Callable[[], str] = lambda: "nothing was made yet"
        self._logger = get_run_logger()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        await super().__aexit__(kind, error, traceback)
        if isinstance(error, asyncio.CancelledError):
            if not await _cancel_was_asked_for():
                return False
            so_far = self._so_far()
            self.result = Cancelled(message=f"{so_far}. What was made is written; a retry resumes.")
            self._logger.warning("cancelled: %s", so_far)
            return True
        if isinstance(error, ConstitutionError | OSError):
            self.result = Failed(message=sentence(error), data=error)
            self._logger.error("%s", sentence(error))
            return True
        return False

    async def call(self, step: Step, *arguments: Any) -> Any:
        state = await _task_of(step)(*arguments, return_state=True)
        if state.is_cancelled():
            raise asyncio.CancelledError
        return await state.aresult()

    async def retried_run(self) -> str:
        async with get_client() as client:
            mine = await client.read_flow_run(runtime.id)
        return str(mine.labels.get(RUN, "")) if mine.run_count > 1 else ""

    async def decide(self, name: str, proposals: str, wait: int) -> Decision:
        """With a server that people see the flow run pauses until it is resumed with an input; else as their file
        says. Raises InputError where none came in time."""
        await acreate_markdown_artifact(proposals, key="proposals", description=f"Proposals: {name}")
        if not PREFECT_API_URL.value():
            return await super().decide(name, proposals, wait)
        self._logger.info("%s: waits for a decision, up to %d s; the artifact `proposals` lists them", name, wait)
        try:
            return await apause_flow_run(wait_for_input=_Decided, timeout=wait)
        except FlowPauseTimeout:
            raise InputError(
                f"{name}: no decision came within {wait:,} s", hint="retry the flow run; nothing is asked twice"
            ) from None

    async def mark(self, run_id: str, warehouse: Path) -> None:
        """The run's id as a tag of this flow run, and as a label with the place of its warehouse."""
        async with get_client() as client:
            mine = await client.read_flow_run(runtime.id)
            await client.update_flow_run(mine.id, tags=list(dict.fromkeys([*mine.tags, run_id])))
            await client.update_flow_run_labels(mine.id, {RUN: run_id, PLACE: _place_of(warehouse)})

    @asynccontextmanager
    async def watch(self, session: Session) -> AsyncIterator[None]:
        """Every minute a line in the flow run's log and a step of the progress artifact. First it ends in Prefect what
        earlier processes left that worked on this run and were killed: this process holds the run's lock."""
        self._so_far = lambda: counts(session.run)
        run_id = session.run.run_id
        await self.mark(run_id, session.plan.warehouse)
        async with get_client() as client:
            await _end_the_dead(client, run_id, _place_of(session.plan.warehouse))
        progress, pace = session.progress, Pace()
        pace.update(progress, time.monotonic())
        self._logger.info(f"{run_id}: begins, {progress.total:,} prompts, {progress.before:,} of them done before")
        if progress.note:
            self._logger.warning("%s: %s", run_id, progress.note)

        async def told() -> tuple[int, int, str]:
            pace.update(progress, time.monotonic())
            return progress.done, progress.total, figures(progress, pace)

        async with self._every_minute(run_id, told):
            yield

    async def spread(self, plan: Plan, how: Spread, call: Mapping[str, Any]) -> Run:
        """As `watch`, of all shards: their records are read, wherever they are written."""
        store, run_id = Warehouse(plan.warehouse), plan.run_id
        await self.mark(run_id, plan.warehouse)
        if not store.holders(run_id):
            async with get_client() as client:
                await _end_the_dead(client, run_id, _place_of(plan.warehouse))
        if plan.finished:
            return plan.run

        async def told() -> tuple[int, int, str]:
            records = await asyncio.to_thread(store.shards, run_id)
            live = [record for record in records if record.number and not record.ended_at]
            return (
                summed(plan.run, records).counts.get("done", 0),
                plan.prompts,
                f"{len(live):,} of {how.shards:,} shards at work",
            )

        self._so_far = lambda: counts(summed(plan.run, store.shards(run_id)))
        self._logger.info(f"{run_id}: begins, {plan.prompts:,} prompts, {how.shards:,} shards by {how.runner}")
        ended = {each.number for each in store.shards(run_id) if each.of == how.shards and each.ended_at}
        left_over = [number for number in range(1, how.shards + 1) if number not in ended]
        async with self._every_minute(run_id, told):
            states = await self._work(run_id, left_over, how, call)
            try:
                run = await finish_run(plan)
            except WarehouseError:  # a shard lost rows since it had ended: it sees that when it is begun
                states = await self._work(run_id, range(1, how.shards + 1), how, call)
                run = await finish_run(plan)
        if run.finished_at is None:
            for shard in left(store.shards(run_id)):
                self._logger.warning("%s: %s", run_id, shard)
            if wrong := next((state for state in states if state.is_failed() and state.name == "Failed"), None):
                raise ConstitutionError(wrong.message or "a shard failed")
        return run

    async def _work(
        self, run_id: str, numbers: Sequence[int], how: Spread, call: Mapping[str, Any]
    ) -> list[State[Any]]:
        calls = [{**call, "number": number, "of": how.shards} for number in numbers]
        return await worked(calls, how, lambda again: self._logger.warning("%s: %s", run_id, again))

    async def end_shard(self, result: Mapping[str, Any]) -> None:
        self.result = state_of_shard(result)
        self._logger.info("%s", self.result.message)

    @asynccontextmanager
    async def _every_minute(
        self, run_id: str, told: Callable[[], Awaitable[tuple[int, int, str]]]
    ) -> AsyncIterator[None]:
        """told: prompts done, prompts, and what the log says besides."""

        async def step(artifact: UUID | None) -> UUID | None:
            """The progress artifact, which is made where there is none."""
            try:
                done, total, _ = await told()
                share = 100.0 * done / total if total else 100.0
                if artifact is None:
                    return await acreate_progress_artifact(share, "progress", run_id)
                await aupdate_progress_artifact(artifact, share)
            except Exception as error:  # a server that is busy for a moment is no reason to end a run
                self._logger.debug("%s: the progress artifact was not written: %s", run_id, error)
            return artifact

        async def minutes(artifact: UUID | None) -> None:
            while True:
                await asyncio.sleep(EVERY)
                done, total, more = await told()
                self._logger.info("%s", f"{run_id}: {done:,}/{total:,} prompts · {more}")
                artifact = await step(artifact)

        artifact = await step(None)
        beside = asyncio.create_task(minutes(artifact), name="the log's minutes")
        try:
            yield
        finally:
            beside.cancel()
            with suppress(asyncio.CancelledError):
                await beside
        await step(artifact)

    async def end(self, result: Run | str, warehouse: str, event: str, report: str, message: str = "") -> None:
        """State, log, artifact and, where others may work on with the run, the event that triggers deployments
        (prefect.yaml)."""
        self.result = state_of(result) if isinstance(result, Run) else Completed(message=message, data=result)
        good = self.result.name == "Completed"
        (self._logger.info if good else self._logger.warning)("%s", self.result.message)
        run_id = result.run_id if isinstance(result, Run) else result
        await asyncio.to_thread(log, place(warehouse), run_id)
        await acreate_markdown_artifact(report, key=runtime.flow_name, description=f"{runtime.flow_name}: {run_id}")
        if not isinstance(result, Run) or usable(result):
            resource = {"prefect.resource.id": f"constitution.run.{run_id}", "prefect.resource.name": run_id}
            emit_event(f"constitution.run.{event}", resource=resource, payload={"run": run_id, "warehouse": warehouse})


async def _cancel_was_asked_for() -> bool:
    """Prefect's server knows it for a deployment's run. Who started a flow run by hand is who stopped it."""
    if deployment.id is None:
        return True
    try:
        async with get_client() as client:
            state = (await client.read_flow_run(runtime.id)).state
    except Exception:  # without its server Prefect has its own word for the end
        return False
    return state is not None and (state.is_cancelling() or state.is_cancelled())


def _place_of(warehouse: Path) -> str:
    return f"{socket.gethostname()}:{warehouse.resolve()}"


async def end_task_runs(flow: Any, flow_run: FlowRun, state: State[Any]) -> None:
    """A flow's hook `on_crashed`: its task runs do not stay Running. The worker calls it when the process is gone."""
    async with get_client() as client:
        await _crash_tasks(client, flow_run)


async def _end_the_dead(client: PrefectClient, run_id: str, place: str) -> None:
    """Flow runs with this run's tag and warehouse that are still Running, and the task runs of all of them."""
    tagged = FlowRunFilter.model_validate({"tags": {"all_": [run_id]}})
    for each in await client.read_flow_runs(flow_run_filter=tagged):
        mine = str(each.id) == str(runtime.id)
        if each.labels.get(PLACE) != place:
            continue
        if not mine and each.state_type == StateType.RUNNING:
            await client.set_flow_run_state(each.id, Crashed(message=DEAD), force=True)
        await _crash_tasks(client, each, each.run_count if mine else None)


async def _crash_tasks(client: PrefectClient, flow_run: FlowRun, before: int | None = None) -> None:
    """Those that are at work, for Prefect; before: of the flow run's starts before this number."""
    live = await client.read_task_runs(
        flow_run_filter=FlowRunFilter.model_validate({"id": {"any_": [flow_run.id]}}),
        task_run_filter=TaskRunFilter.model_validate({"state": {"type": {"any_": LIVE}, "name": None}}),
    )
    for task_run in live:
        if before is None or task_run.flow_run_run_count < before:
            await client.set_task_run_state(task_run.id, Crashed(message=DEAD), force=True)
