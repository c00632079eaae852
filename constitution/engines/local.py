"""The thread that owns a model: it takes what waits, the most urgent first, and answers it as one batch.

Votes take one reading of their prompts; texts are written token by token until the last of the batch has ended, and
what comes in the meantime waits for the next batch. What prompts of a batch begin with in common is read once: votes on
one pair differ only in their last lines, and critiques share their worked examples.
"""

from __future__ import annotations

import heapq
import math
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from constitution.engines.base import Completion, Request
from constitution.engines.sampling import next_tokens
from constitution.engines.thoughts import Said
from constitution.engines.weights import LocalModel, first_line
from constitution.errors import EngineError, EngineGone, EngineUnavailable

if TYPE_CHECKING:
    from torch import Tensor

GATHER_SECONDS = 0.002
"""Wait for requests that come together, where fewer than a batch takes are there."""
LEAST_SHARED = 16
"""Tokens that a common beginning must have to be worth a reading."""


@dataclass(slots=True, eq=False)
class Job:
    """One request on its way through the worker."""

    request: Request
    prompt: list[int]
    max_tokens: int
    """The request's, or less where the context ends before."""
    labels: dict[str, list[int]]
    """Tokens of each of the request's choices."""
    done: Callable[[Completion | EngineError], None]
    """Called once, in the worker's thread."""
    cancelled: bool = False
    finished: bool = False
    output: list[int] = field(default_factory=list)
    reused: int = 0
    """Tokens of the prompt that were read for another request of the batch already."""
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
        self._model, self._max_batch = model, max_batch
        self._changed = threading.Condition()
        self._texts: list[tuple[int, int, Job]] = []
        self._votes: list[tuple[int, int, Job]] = []
        self._count = 0
        self._closing = False
        self._died = ""
        """What ended the thread, where that was not `close`."""
        self._taken: list[Job] = []
        self._thread = threading.Thread(target=self._run, name=f"model {model.name}", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Raises EngineGone where the thread has died, EngineUnavailable after `close`."""
        with self._changed:
            if self._closing:
                raise self._over("the engine is closed")
            self._count += 1
            heapq.heappush(self._votes if job.labels else self._texts, (job.request.priority, self._count, job))
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
                while self._take():
                    self._answer(self._taken)
        except BaseException as error:
            self._died = f"its thread ended by {type(error).__name__}: {first_line(error)}"
        finally:  # however the thread ends, no request waits for ever
            with self._changed:
                self._closing = True
            failure = self._over("the engine was closed before the request was done")
            for job in [*self._taken, *(job for _, _, job in (*self._votes, *self._texts))]:
                if not job.finished:
                    job.finish(failure)

    def _over(self, closed: str) -> EngineUnavailable:
        if self._died:
            return EngineGone(f"{self._model.name}: {self._died}", hint="start the run again; it resumes")
        return EngineUnavailable(f"{self._model.name}: {closed}", hint="")

    def _take(self) -> bool:
        """Fills `_taken` with what to answer now: votes or texts, whichever wait for the most urgent. False: end."""
        with self._changed:
            while not (self._closing or self._votes or self._texts):
                self._changed.wait()
            few = len(self._votes) + len(self._texts) < self._max_batch
        if few:
            time.sleep(GATHER_SECONDS)
        with self._changed:
            if self._closing:
                return False
            self._taken = []
            queue = min(filter(None, (self._votes, self._texts)), key=lambda queue: queue[0][:2])
            while queue and len(self._taken) < self._max_batch:
                job = heapq.heappop(queue)[2]
                self._taken += [] if job.cancelled else [job]
            return True

    def _answer(self, jobs: Sequence[Job]) -> None:
        """If it fails, each of `jobs` alone, so that one bad request costs its neighbours nothing."""
        import torch

        for job in jobs:
            job.begin()
        try:
            if jobs and jobs[0].labels:
                self._vote(jobs)
            else:
                self._write(jobs)
        except Exception as error:
            # After an accelerator's error it computes nothing more for this process.
            lost = isinstance(error, torch.AcceleratorError)
            said = f"{self._model.name}: {type(error).__name__} while computing: {first_line(error)}"
            for job in jobs:
                if job.finished:
                    continue
                if lost or len(jobs) == 1:
                    job.finish(EngineGone(said) if lost else EngineError(said))
                else:
                    self._answer([job])

    def _write(self, jobs: Sequence[Job]) -> None:
        """A text for each of `jobs`, all of them one token further at each step."""
        import torch

        model, living = self._model, list(jobs)
        if not living:
            return
        read = read_together(model, [job.prompt for job in jobs], 1)
        for job in living[1:]:
            job.reused = read.shared
        logits, mask = read.logits, read.mask
        while True:
            for job, token in zip(living, draw(living, logits[:, -1]), strict=True):
                job.output.append(token)
                if (outcome := _written(model, job)) is not None:
                    job.finish(outcome)
            staying = [place for place, job in enumerate(living) if not (job.finished or job.cancelled)]
            if not staying or self._closing:
                return
            if len(staying) < len(living):
                living = [living[place] for place in staying]
                index = torch.tensor(staying, device=mask.device)
                mask = mask[index]
                _select(read.cache, index)
            ids = torch.tensor([[job.output[-1]] for job in living], device=mask.device)
            mask = torch.cat([mask, mask.new_ones(len(living), 1)], 1)
            logits = forward(model.module, ids, mask, read.cache, 1)

    def _vote(self, jobs: Sequence[Job]) -> None:
        """The log-probabilities of each job's choices, and one token.

        A label of one token is read off the prompt's last position; a longer one is its own row, prompt and label
        without its last token, which shares the prompt's reading.
        """
        rows = [(job, "", job.prompt, 1) for job in jobs]
        for job in jobs:
            longer = ((label, tokens) for label, tokens in job.labels.items() if len(tokens) > 1)
            rows += [(job, label, job.prompt + tokens[:-1], len(tokens)) for label, tokens in longer]
        found: dict[int, dict[str, float]] = {id(job): {} for job in jobs}
        for chunk in groups([tokens for _, _, tokens, _ in rows], self._max_batch):
            keep = max(rows[index][3] for index in chunk)
            read = read_together(self._model, [rows[index][2] for index in chunk], keep)
            logprobs = read.logits.float().log_softmax(-1)
            for place, index in enumerate(chunk):
                job, label, _, _ = rows[index]
                told = found[id(job)]
                if label:
                    tokens = job.labels[label]
                    told[label] = sum(float(logprobs[place, n, token]) for n, token in enumerate(tokens, -len(tokens)))
                    continue
                job.reused = read.shared if place else 0
                job.output += draw([job], read.logits[place : place + 1, -1])
                told |= {each: float(logprobs[place, -1, t[0]]) for each, t in job.labels.items() if len(t) == 1}
        for job in jobs:
            job.finish(_voted(self._model, job, found[id(job)]))


class Read(NamedTuple):
    """Prompts as the model has read them. Rows are in the order in which they were given."""

    logits: Tensor
    """[rows, positions, vocabulary]; the last position is at the end."""
    cache: Any
    mask: Tensor
    """[rows, columns], 1 where a column holds a token of the row, 0 for padding."""
    shared: int
    """Tokens at the beginning of all rows that were read once."""


def read_together(model: LocalModel, rows: Sequence[list[int]], keep: int) -> Read:
    """One batch through the model, with the logits of its last `keep` positions."""
    import torch
    import transformers

    library: Any = transformers
    cache, device = library.DynamicCache(), model.module.device
    shared = _shared(rows, keep) if model.shares else 0
    mask = torch.ones(len(rows), shared, dtype=torch.long, device=device)
    if shared:
        forward(model.module, torch.tensor([rows[0][:shared]], device=device), mask[:1], cache, 1)
        _select(cache, torch.zeros(len(rows), dtype=torch.long, device=device))
    tails = [row[shared:] for row in rows]
    longest = max(map(len, tails))
    # Padding is token 0, on the left, which the mask hides.
    ids = torch.tensor([[0] * (longest - len(tail)) + tail for tail in tails], device=device)
    shown = torch.tensor([[0] * (longest - len(tail)) + [1] * len(tail) for tail in tails], device=device)
    mask = torch.cat([mask, shown], 1)
    return Read(forward(model.module, ids, mask, cache, keep), cache, mask, shared)


def groups(rows: Sequence[list[int]], max_rows: int) -> list[list[int]]:
    """Indices of rows that are read together: neighbours that have half of their tokens in common, and the others."""
    alike: list[list[int]] = []
    for index in sorted(range(len(rows)), key=lambda index: rows[index]):
        if alike and len(alike[-1]) < max_rows and _shared([rows[i] for i in (*alike[-1], index)], 1):
            alike[-1].append(index)
        else:
            alike.append([index])
    others = sorted((group[0] for group in alike if len(group) == 1), key=lambda index: len(rows[index]))
    return [group for group in alike if len(group) > 1] + [
        others[start : start + max_rows] for start in range(0, len(others), max_rows)
    ]


def _shared(rows: Sequence[list[int]], keep: int) -> int:
    """Tokens that all rows begin with, if they are worth a reading; `keep` are left to be read after them."""
    if len(rows) < 2:
        return 0
    first, last = min(rows), max(rows)
    limit = min(map(len, rows)) - keep
    common = next((place for place in range(limit) if first[place] != last[place]), limit)
    return common if common >= max(LEAST_SHARED, max(map(len, rows)) // 2) else 0


def forward(module: Any, ids: Tensor, mask: Tensor, cache: Any, keep: int) -> Tensor:
    """Logits [rows, keep, vocabulary] of the last `keep` positions of `ids` [rows, new columns].

    `mask` covers the cache's columns and the new ones; positions count the columns that hold a token.
    """
    positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
    logits: Tensor = module(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=keep,
    ).logits
    return logits


def _select(cache: Any, rows: Tensor) -> None:
    """Keep (or repeat) these rows."""
    for layer in cache.layers:
        layer.batch_select_indices(rows)


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


def _no_numbers(model: LocalModel) -> EngineError:
    return EngineError(f"{model.name}: its logits are not numbers", hint='try dtype = "float32"')


def _written(model: LocalModel, job: Job) -> Completion | EngineError | None:
    """The answer, if the last token ended it: an end token, a stop string, or the last token allowed."""
    token, output, stops = job.output[-1], job.output, job.request.sampling.stop
    if token < 0:
        return _no_numbers(model)
    if token in model.ends:
        return _completion(_said(model, job, output[:-1]), "stop", job)
    if stops:
        # A token may be a part of a character, so as many tokens are looked at as the longest stop string has bytes.
        tail = model.chat.decode(output[-max(len(stop.encode()) for stop in stops) - 4 :])
        if any(stop in tail for stop in stops):
            said = _said(model, job, output, cut=True)  # a stop string in a thought ends nothing
            places = [place for stop in stops if (place := said.text.find(stop)) >= 0]
            if places:
                return _completion(said._replace(text=said.text[: min(places)]), "stop", job)
    if len(output) >= job.max_tokens:
        return _completion(_said(model, job, output, cut=True), "length", job)
    return None


def _voted(model: LocalModel, job: Job, logprobs: dict[str, float]) -> Completion | EngineError:
    if job.output[0] < 0 or any(math.isnan(value) for value in logprobs.values()):
        return _no_numbers(model)
    ended = job.output[0] in model.ends
    before = job.prompt[-4:] if job.request.continues else []
    text = "" if ended else model.chat.decode(job.output, before)
    ordered = {label: logprobs[label] for label in job.labels}
    return _completion(Said(text), "stop" if ended else "length", job, ordered)


def _said(model: LocalModel, job: Job, tokens: Sequence[int], cut: bool = False) -> Said:
    return model.chat.said(tokens, job.prompt, job.request.continues, cut)


def _completion(said: Said, reason: str, job: Job, logprobs: dict[str, float] | None = None) -> Completion:
    prompt, output = len(job.prompt), len(job.output)
    return Completion(said.text, reason, prompt, output, job.reused, logprobs, said.reasoning, said.reasoning_tokens)
