"""What the flows in flows/ share of Prefect: states with counts, logs, progress, tags, events, and what a kill left.

    outcome = Outcome()
    async with outcome:
        plan = await call(prepare_run, …)
        async with Session(plan) as session:
            await outcome.begin(session)
            async with Watch(session):
                …
    return outcome.state

The one module beside the command line that knows Prefect; it is imported by the flows alone.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import UUID

from prefect import get_client, get_run_logger
from prefect.artifacts import acreate_progress_artifact, aupdate_progress_artifact
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter, TaskRunFilter
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.events import emit_event
from prefect.runtime import deployment
from prefect.runtime import flow_run as runtime
from prefect.states import Cancelled, Completed, Crashed, Failed

from constitution.errors import ConstitutionError, NotFinished
from constitution.pipeline import Pace, Session
from constitution.pipeline.report import figures
from constitution.records import Run
from constitution.shown import printable, sentence

T = TypeVar("T")

RUN, PLACE = "constitution.run", "constitution.warehouse"
"""Labels of a flow run: the run's id; the machine and the folder of its warehouse."""
EVERY = 60.0
"""Seconds between two lines in the log."""
LIVE = [StateType.RUNNING, StateType.PENDING]
DEAD = "Its process was killed; the run was taken up again."


def _is_news(record: logging.LogRecord) -> bool:
    """Prefect logs a task that returned a failed state with the traceback of no error, before it logs the state."""
    return not (record.exc_info and record.exc_info[0] is None)


logging.getLogger("prefect.task_runs").addFilter(_is_news)


def name(what: object) -> str:
    """What a flow run is called: what it works on, its time to the second and the end of its own id."""
    return f"{what} {runtime.scheduled_start_time:%Y-%m-%d %H:%M:%S} {str(runtime.id)[-4:]}"


# --- how it ended


def counts(run: Run) -> str:
    """`fake-0a7d: 7 of 10 prompts, 3 to be tried again, 5 preferences`; then why it stopped."""
    found = run.counts.get
    told = [f"{found('done', 0) - found('open', 0) - found('lost', 0):,} of {found('prompts', 0):,} prompts"]
    told += [f"{n:,} to be tried again"] if (n := found("open", 0)) else []
    told += [f"{n:,} failed for good"] if (n := found("lost", 0)) else []
    told.append(f"{found('preferences', 0):,} preferences")
    why = f". Stopped by its {printable(run.stopped)}" if run.stopped else ""
    return f"{run.run_id}: {', '.join(told)}{why}"


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


class Outcome:
    """Makes a state of however its block ends: of a run by its counts; of an error for a person by its sentence, told
    once and without a traceback; of a cancellation that was asked for Cancelled, by which no Crashed goes before.

    Other errors are raised, as are cancellations that no person asked for.
    """

    def __init__(self) -> None:
        self.state: State[Any] = Completed()
        self._session: Session | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        logger = get_run_logger()
        if isinstance(error, asyncio.CancelledError):
            if not await _cancel_was_asked_for():
                return False
            told = counts(self._session.run) if self._session else "nothing was made yet"
            self.state = Cancelled(message=f"{told}. What was made is written; a retry resumes.")
            logger.warning("cancelled: %s", told)
            return True
        if isinstance(error, ConstitutionError | OSError):
            self.state = Failed(message=sentence(error), data=error)
            logger.error("%s", sentence(error))
            return True
        return False

    async def begin(self, session: Session) -> None:
        """Tags the flow run, and ends in Prefect what earlier processes left that worked on this run and were killed:
        nobody else does, for this process holds the run's lock."""
        self._session = session
        place = place_of(session.plan.warehouse)
        await mark(session.run.run_id, place)
        async with get_client() as client:
            await _end_the_dead(client, session.run.run_id, place)

    async def ended(self, run: Run, warehouse: str) -> None:
        """State, log and, where others may go on with the run, the event constitution.run.finished."""
        self.state = state_of(run)
        (get_run_logger().info if self.state.name == "Completed" else get_run_logger().warning)("%s", counts(run))
        if usable(run):
            tell("constitution.run.finished", run.run_id, warehouse)


async def told(work: Awaitable[T]) -> T | State[Any]:
    """For the body of a task: an error for a person, and a cancellation, become a state without a traceback."""
    try:
        return await work
    except asyncio.CancelledError:
        return Cancelled(message="The run was stopped.")
    except (ConstitutionError, OSError) as error:
        return Failed(message=sentence(error), data=error)


async def call(task: Any, *arguments: Any) -> Any:
    """Runs a task whose body is `told`: its result, or its error raised as it was."""
    state = await task(*arguments, return_state=True)
    if state.is_cancelled():
        raise asyncio.CancelledError
    return await state.aresult()


async def _cancel_was_asked_for() -> bool:
    """Of a deployment's run Prefect's server knows. Who started a flow run by hand is who stopped it."""
    if deployment.id is None:
        return True
    try:
        async with get_client() as client:
            state = (await client.read_flow_run(runtime.id)).state
    except Exception:  # without its server Prefect has its own word for the end
        return False
    return state is not None and (state.is_cancelling() or state.is_cancelled())


# --- what shows in Prefect


def tell(event: str, run_id: str, warehouse: str) -> None:
    """An event that deployments are triggered by (prefect.yaml), with the run's id and its warehouse."""
    resource = {"prefect.resource.id": f"constitution.run.{run_id}", "prefect.resource.name": run_id}
    emit_event(event, resource=resource, payload={"run": run_id, "warehouse": warehouse})


def place_of(warehouse: Path) -> str:
    return f"{socket.gethostname()}:{warehouse.resolve()}"


async def mark(run_id: str, place: str) -> None:
    """The run's id as a tag of this flow run, and as a label with the place of its warehouse."""
    async with get_client() as client:
        mine = await client.read_flow_run(runtime.id)
        await client.update_flow_run(mine.id, tags=list(dict.fromkeys([*mine.tags, run_id])))
        await client.update_flow_run_labels(mine.id, {RUN: run_id, PLACE: place})


async def retried_run() -> str:
    """The id of the run that this flow run worked on before it was retried; empty: it was not."""
    async with get_client() as client:
        mine = await client.read_flow_run(runtime.id)
    return str(mine.labels.get(RUN, "")) if mine.run_count > 1 else ""


class Watch:
    """Every minute a line in the flow run's log and a step of the progress artifact."""

    def __init__(self, session: Session, every: float | None = None) -> None:
        self._session, self._every = session, EVERY if every is None else every
        self._pace = Pace()
        self._logger = get_run_logger()

    async def __aenter__(self) -> Self:
        progress = self._session.progress
        self._say = f"{self._session.run.run_id}: %s"
        self._logger.info(self._say, f"begins, {progress.total:,} prompts, {progress.before:,} of them done before")
        if progress.note:
            self._logger.warning(self._say, progress.note)
        self._pace.update(progress, time.monotonic())
        self._artifact: UUID | None = None
        await self._step()
        self._task = asyncio.create_task(self._tell(), name="the log's minutes")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        if error is None:
            await self._step()

    def _share(self) -> float:
        """Percent of the prompts."""
        progress = self._session.progress
        return 100.0 * progress.done / progress.total if progress.total else 100.0

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            progress = self._session.progress
            self._pace.update(progress, time.monotonic())
            done = f"{progress.done:,}/{progress.total:,} prompts · {figures(progress, self._pace)}"
            self._logger.info(self._say, done)
            await self._step()

    async def _step(self) -> None:
        try:
            if self._artifact is None:
                self._artifact = await acreate_progress_artifact(self._share(), "progress", self._session.run.run_id)
            else:
                await aupdate_progress_artifact(self._artifact, self._share())
        except Exception as error:  # a server that is busy for a moment is no reason to end a run
            self._logger.debug(self._say, f"the progress artifact was not written: {error}")


# --- what a kill left


async def end_task_runs(flow: Any, flow_run: FlowRun, state: State[Any]) -> None:
    """A flow's hook `on_crashed`: its task runs do not stay Running. The worker calls it when the process is gone."""
    async with get_client() as client:
        await _crash_tasks(client, flow_run)


async def _end_the_dead(client: PrefectClient, run_id: str, place: str) -> None:
    """Flow runs with this run's tag and warehouse that are still Running, and the task runs of all of them."""
    found = await client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate({"tags": {"all_": [run_id]}}))
    for each in found:
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
