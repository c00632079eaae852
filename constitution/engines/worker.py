"""The thread that owns a model: takes waiting requests by priority and decodes them in one running batch.

Finished rows leave the batch and waiting ones join it (continuous batching), so a long answer holds nobody up. Both
copy the keys and values of the whole batch, so they are done for several rows at a time: see `_wants_rows`.
"""

from __future__ import annotations

import heapq
import math
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from constitution.engines.base import Completion, Request
from constitution.engines.cache import KVCache
from constitution.engines.prefill import Prefilled, Row, forward, plan, prefill
from constitution.engines.sample import next_tokens
from constitution.engines.thoughts import Said
from constitution.engines.weights import LocalModel, first_line
from constitution.errors import EngineError, EngineGone, EngineUnavailable

if TYPE_CHECKING:
    from torch import Tensor

GATHER_SECONDS = 0.002
"""An idle worker waits so long after the first request, for those that come with it."""
PATIENCE = 16
"""Steps after which even one waiting request joins the running batch."""

Done = Callable[[Completion | EngineError], None]


@dataclass(slots=True, eq=False)
class Job:
    """One request on its way through the worker."""

    request: Request
    prompt: list[int]
    max_tokens: int
    """The request's, or less where the context ends before."""
    labels: dict[str, list[int]]
    """Tokens of each of the request's choices."""
    done: Done
    """Called once, in the worker's thread."""
    cancelled: bool = False
    finished: bool = False
    output: list[int] = field(default_factory=list)
    reused: int = 0
    """Tokens of the prompt that another request of the same chunk had already read."""
    draws: random.Random = field(default_factory=random.Random)

    def begin(self) -> None:
        self.output, self.reused = [], 0
        self.draws.seed(self.request.seed)

    def finish(self, outcome: Completion | EngineError) -> None:
        self.finished = True
        self.done(outcome)


class Worker:
    """`submit` from any thread; `close` ends the thread and fails what still waits."""

    def __init__(self, model: LocalModel, max_batch: int) -> None:
        self._model = model
        self._max_batch = max_batch
        self._changed = threading.Condition()
        self._prompts: list[tuple[int, int, Job]] = []
        self._votes: list[tuple[int, int, Job]] = []
        self._count = 0
        self._closing = False
        self._died = ""
        """What ended the thread, where that was not `close`."""
        self._batch = Batch(model)
        self._taken: list[Job] = []
        """Jobs of the round under way, out of the queues and perhaps not yet in the batch."""
        self._thread = threading.Thread(target=self._run, name=f"model {model.name}", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        with self._changed:
            if self._died:
                raise EngineGone(f"{self._model.name}: {self._died}", hint="start the run again; it goes on from here")
            if self._closing:
                raise EngineUnavailable(f"{self._model.name}: the engine is closed")
            self._count += 1
            queue = self._votes if job.labels else self._prompts
            heapq.heappush(queue, (job.request.priority, self._count, job))
            self._changed.notify()

    def close(self) -> None:
        """Wait for the step under way (not for the requests), then end."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        import torch

        try:
            with torch.inference_mode():
                while self._round():
                    pass
        except BaseException as error:
            self._died = f"its thread ended by {type(error).__name__}: {first_line(error)}"
        finally:  # however the thread ends, nobody waits for it for ever
            with self._changed:
                self._closing = True
            name = self._model.name
            closed = EngineUnavailable(f"{name}: the engine was closed before the request was done", hint="")
            if self._died:
                closed = EngineGone(f"{name}: {self._died}", hint="start the run again; it goes on from here")
            for job in [*self._taken, *self._batch.jobs, *(job for _, _, job in (*self._votes, *self._prompts))]:
                if not job.finished:
                    job.finish(closed)

    def _round(self) -> bool:
        """Begins with what waits, then one step of the batch. False: the worker is to end."""
        taken = self._take()
        if taken is None:
            return False
        votes, prompts = taken
        self._taken = [*votes, *prompts]
        self._try(votes, lambda jobs: score(self._model, jobs, self._max_batch))
        self._try(prompts, lambda jobs: self._batch.admit(jobs, self._max_batch))
        try:
            self._batch.step()
        except Exception as error:
            self._batch.fail(_failure(self._model, error))
        self._taken = []
        return True

    def _try(self, jobs: Sequence[Job], work: Callable[[Sequence[Job]], None]) -> None:
        """`work(jobs)`; if it fails, each of them alone, so that one bad request costs its neighbours nothing."""
        if not jobs:
            return
        for job in jobs:
            job.begin()
        try:
            work(jobs)
        except Exception as error:
            rest = [job for job in jobs if not job.finished and job not in self._batch.jobs]
            if len(jobs) == 1:
                jobs[0].finish(_failure(self._model, error))
            else:
                for job in rest:
                    self._try([job], work)

    def _take(self) -> tuple[list[Job], list[Job]] | None:
        """What to begin with now: votes and prompts, the most urgent first; None: the worker is to end."""
        with self._changed:
            while not (self._closing or self._votes or self._prompts or self._batch.jobs):
                self._changed.wait()
                if not self._closing:
                    self._changed.release()
                    try:
                        time.sleep(GATHER_SECONDS)
                    finally:
                        self._changed.acquire()
            if self._closing:
                return None
            votes = _pop(self._votes, self._max_batch)
            free = self._max_batch - self._batch.living
            prompts = _pop(self._prompts, free) if self._wants_rows(free) else []
            return votes, prompts

    def _wants_rows(self, free: int) -> bool:
        """Rows join when the batch is empty, when an eighth of it can be filled at once, or after PATIENCE steps."""
        waiting = min(len(self._prompts), free)
        if not waiting:
            return False
        return not self._batch.living or waiting >= self._max_batch / 8 or self._batch.steps_since_change >= PATIENCE


def _pop(queue: list[tuple[int, int, Job]], most: int) -> list[Job]:
    jobs: list[Job] = []
    while queue and len(jobs) < most:
        job = heapq.heappop(queue)[2]
        if not job.cancelled:
            jobs.append(job)
    return jobs


class Batch:
    """The sequences being decoded. A finished row stays, unused, until enough of them are worth a copy."""

    def __init__(self, model: LocalModel) -> None:
        self._model = model
        self._rows: list[Job | None] = []
        self._cache = KVCache()
        self._mask: Tensor | None = None
        self.steps_since_change = 0

    @property
    def jobs(self) -> list[Job]:
        return [job for job in self._rows if job is not None]

    @property
    def living(self) -> int:
        return len(self.jobs)

    def admit(self, jobs: Sequence[Job], max_batch: int) -> None:
        """Read the prompts of `jobs`, draw the first token of each, and let them join."""
        rows = [Row(job.prompt) for job in jobs]
        for chunk in plan(rows, share=self._model.shares, max_rows=max_batch):
            read = prefill(self._model.module, rows, chunk)
            joining = [jobs[index] for index in read.rows]
            for job, reused in zip(joining, read.reused, strict=True):
                job.reused = reused
            self._advance(joining, read.logits[:, -1])
            self._join(joining, read)

    def step(self) -> None:
        """One more token for every row, if there are any."""
        import torch

        for place, job in enumerate(self._rows):
            if job is not None and job.cancelled:
                self._rows[place] = None
        self._compact(len(self._rows) // 8)
        if self._mask is None:
            return
        device = self._model.module.device
        ids = torch.tensor([[job.output[-1] if job else 0] for job in self._rows], device=device)
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(self._rows), 1)], 1)
        logits = forward(self._model.module, ids, self._mask, self._cache, 1)[:, -1]
        self.steps_since_change += 1
        living = [place for place, job in enumerate(self._rows) if job is not None]
        jobs = self.jobs
        self._advance(jobs, logits if len(living) == len(self._rows) else logits[living])
        for place, job in zip(living, jobs, strict=True):
            if job.finished:
                self._rows[place] = None
        if not self.jobs:
            self._reset()

    def fail(self, failure: EngineError) -> None:
        """A step failed: its tensors may be in disorder, so all of its requests fail and the batch begins anew."""
        for job in self.jobs:
            job.finish(failure)
        self._reset()

    def _reset(self) -> None:
        self._rows, self._cache, self._mask = [], KVCache(), None

    def _advance(self, jobs: Sequence[Job], logits: Tensor) -> None:
        """Draw one token for each of `jobs` from `logits` [jobs, vocabulary], and answer those that are finished."""
        for job, token in zip(jobs, draw(jobs, logits), strict=True):
            job.output.append(token)
            completion = _completion(self._model, job)
            if completion is not None:
                job.finish(completion)

    def _join(self, jobs: Sequence[Job], read: Prefilled) -> None:
        """Add the rows of `read` that are not finished yet."""
        import torch

        self._compact(0)
        staying = [place for place, job in enumerate(jobs) if not job.finished]
        if not staying:
            return
        mask = read.mask
        if len(staying) < len(jobs):
            index = torch.tensor(staying, device=mask.device)
            mask = mask[index]
            read.cache.select(index)
        if self._mask is None:
            self._cache, self._mask = read.cache, mask
        else:
            width = max(self._mask.shape[1], mask.shape[1])
            self._mask = torch.cat([_widen(self._mask, width), _widen(mask, width)])
            self._cache.extend(read.cache)
        self._rows += [jobs[place] for place in staying]
        self.steps_since_change = 0

    def _compact(self, tolerated: int) -> None:
        """Take out the unused rows if there are more than `tolerated`, and the columns that no row uses any more."""
        import torch

        living = [place for place, job in enumerate(self._rows) if job is not None]
        if len(self._rows) - len(living) <= tolerated or self._mask is None:
            return
        if not living:
            self._reset()
            return
        index = torch.tensor(living, device=self._mask.device)
        mask = self._mask[index]
        first = int(mask.amax(0).argmax())
        self._mask = mask[:, first:]
        self._cache.select(index, first)
        self._rows = [self._rows[place] for place in living]


def _widen(mask: Tensor, width: int) -> Tensor:
    import torch

    return torch.cat([mask.new_zeros(mask.shape[0], width - mask.shape[1]), mask], 1)


def draw(jobs: Sequence[Job], logits: Tensor) -> list[int]:
    """One token for each of `jobs`, by its own sampling and its own random numbers; −1 where logits are not numbers."""
    import torch

    device = logits.device
    sampling = [job.request.sampling for job in jobs]
    temperature = torch.tensor([each.temperature for each in sampling], device=device)
    top_p = torch.tensor([each.top_p for each in sampling], dtype=torch.float64, device=device)
    uniform = torch.tensor([job.draws.random() for job in jobs], dtype=torch.float64, device=device)
    tokens: list[int] = next_tokens(logits, temperature, top_p, uniform).tolist()
    return tokens


def _failure(model: LocalModel, error: Exception) -> EngineError:
    import torch

    text = (str(error).strip() or "no message").splitlines()[0]
    # After such an error the accelerator computes nothing more for this process.
    kind = EngineGone if isinstance(error, torch.AcceleratorError) else EngineError
    return kind(f"{model.name}: {type(error).__name__} while computing: {text}")


def _completion(model: LocalModel, job: Job) -> Completion | EngineError | None:
    """The answer, if the last token ended it: an end token, a stop string, or the last token allowed."""
    token, output = job.output[-1], job.output
    if token < 0:
        return EngineError(f"{model.name}: its logits are not numbers", hint='try dtype = "float32"')
    if token in model.ends:
        return _answer(_said(model, job, output[:-1]), "stop", job)
    stops = job.request.sampling.stop
    if stops:
        # A token may be a part of a character, so as many tokens are looked at as the longest stop string has bytes.
        tail = model.chat.decode(output[-max(len(stop.encode()) for stop in stops) - 4 :])
        if any(stop in tail for stop in stops):
            said = _said(model, job, output, cut=True)  # a stop string in a thought ends nothing
            places = [place for stop in stops if (place := said.text.find(stop)) >= 0]
            if places:
                return _answer(said._replace(text=said.text[: min(places)]), "stop", job)
    if len(output) >= job.max_tokens:
        return _answer(_said(model, job, output, cut=True), "length", job)
    return None


def _said(model: LocalModel, job: Job, tokens: Sequence[int], cut: bool = False) -> Said:
    return model.chat.said(tokens, job.prompt, job.request.continues, cut)


def _answer(said: Said, reason: str, job: Job, logprobs: dict[str, float] | None = None) -> Completion:
    prompt, output = len(job.prompt), len(job.output)
    return Completion(said.text, reason, prompt, output, job.reused, logprobs, said.reasoning, said.reasoning_tokens)


def score(model: LocalModel, jobs: Sequence[Job], max_batch: int) -> None:
    """Answer `jobs` with the log-probabilities of their choices, and one token.

    A label of one token is read off the prompt's last position; a longer one is a row of its own, prompt and label
    without its last token, which shares the prompt's computation.
    """
    rows: list[Row] = []
    wanted: list[tuple[Job, str]] = []
    for job in jobs:
        rows.append(Row(job.prompt))
        wanted.append((job, ""))
        for label, tokens in job.labels.items():
            if len(tokens) > 1:
                rows.append(Row(job.prompt + tokens[:-1], len(tokens)))
                wanted.append((job, label))
    found: dict[int, dict[str, float]] = {id(job): {} for job in jobs}
    for chunk in plan(rows, share=model.shares, max_rows=max_batch):
        read = prefill(model.module, rows, chunk)
        logprobs = read.logits.float().log_softmax(-1)
        for place, index in enumerate(read.rows):
            job, label = wanted[index]
            if label:
                tokens = job.labels[label]
                ours = logprobs[place, -len(tokens) :]
                found[id(job)][label] = sum(float(ours[step, token]) for step, token in enumerate(tokens))
            else:
                job.reused = read.reused[place]
                job.output += draw([job], read.logits[place : place + 1, -1])
                for each, tokens in job.labels.items():
                    if len(tokens) == 1:
                        found[id(job)][each] = float(logprobs[place, -1, tokens[0]])
    for job in jobs:
        job.finish(_vote(model, job, found[id(job)]))


def _vote(model: LocalModel, job: Job, logprobs: dict[str, float]) -> Completion | EngineError:
    if job.output[0] < 0 or any(math.isnan(value) for value in logprobs.values()):
        return EngineError(f"{model.name}: its logits are not numbers", hint='try dtype = "float32"')
    ended = job.output[0] in model.ends
    before = job.prompt[-4:] if job.request.continues else []
    text = "" if ended else model.chat.decode(job.output, before)
    reason = "stop" if ended else "length"
    return _answer(Said(text), reason, job, {label: logprobs[label] for label in job.labels})
