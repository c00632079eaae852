"""The engine's side of the simulated server: slots, a prefix cache, lengths, texts, votes. No I/O; time is an argument.

A token is four characters. Of a reply everything follows from the request's content. Its length follows from the first
turn and the number of turns, whatever the seed, so that contenders who ask for the same chains meet the same lengths.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from zlib import crc32

CHARACTERS = 4
"""To a token."""
BLOCK = 64
"""Tokens to a block of the prefix cache."""

MEDIAN_TOKENS, SIGMA = 100, 0.7
"""Output lengths are lognormal: of this median the mean is 128 tokens, and one in a hundred is over 500."""
FACTORS = [math.exp(SIGMA * NormalDist().inv_cdf((i + 0.5) / 1024)) for i in range(1024)]
"""Of the median."""
LONGEST = 2048
"""Tokens of a reply at most."""

_SOME_WORDS = """
water river stone bread lamp winter letter garden honest quiet market bridge music paper window road people careful
answer often before under because small large house simple better reason change morning evening question friend light
carry follow listen explain remember consider useful gentle open early travel measure matter kitchen forest
"""
WORDS = _SOME_WORDS.split()


def _filler() -> tuple[str, list[int]]:
    """A long text of plain sentences, and where they begin; every begin leaves room for the longest reply."""
    generator = random.Random(1)
    starts, sentences, length = [], [], 0
    while length < 64_000 + LONGEST * CHARACTERS:
        sentence = " ".join(generator.choices(WORDS, k=generator.randint(6, 16))).capitalize() + ". "
        if length < 64_000:
            starts.append(length)
        sentences.append(sentence)
        length += len(sentence)
    return "".join(sentences), starts


FILLER, STARTS = _filler()


def output_tokens(first_turn: str, turns: int, most: int, median: int = MEDIAN_TOKENS) -> int:
    """Tokens that the reply has; at most `most`."""
    drawn = max(8, round(median * FACTORS[crc32(first_turn.encode(), turns) % len(FACTORS)]))
    return min(drawn, most, LONGEST)


def reply_text(prompt: str, seed: int, tokens: int) -> str:
    """Plain sentences, the last one cut off. They begin with their own number, so that no two replies are the same
    by chance: a revision would then leave its answer unchanged, and there would be nothing to vote on."""
    bits = crc32(prompt.encode(), seed & 0xFFFFFFFF)
    start = STARTS[bits % len(STARTS)]
    return (f"Number {bits}. " + FILLER[start : start + tokens * CHARACTERS])[: tokens * CHARACTERS].rstrip()


def label_logprobs(prompt: str) -> tuple[float, float]:
    """Log-probabilities of the labels A and B; together they have 0.95 of the mass."""
    logit = 6.0 * (crc32(prompt.encode()) / 2**32 - 0.5)
    total = math.log1p(math.exp(-abs(logit))) + max(logit, 0.0) - math.log(0.95)
    return logit - total, -total


class PrefixCache:
    """Blocks of prompts, the least recently used one given up first. What models wrote is not kept, unlike in vLLM."""

    def __init__(self, blocks: int) -> None:
        self._most = blocks
        self._blocks: OrderedDict[int, None] = OrderedDict()

    def take(self, prompt: str) -> int:
        """Tokens of `prompt` that were there, in whole blocks from its beginning; now all of its whole blocks are.

        The last token is always computed: a prompt that is known through and through still costs its last block.
        """
        width, key, known = BLOCK * CHARACTERS, 0, True
        found = 0
        blocks = self._blocks
        for begin in range(0, len(prompt) - width, width):
            key = hash((key, prompt[begin : begin + width]))
            if key in blocks:
                blocks.move_to_end(key)
                found += known
            else:
                known = False
                blocks[key] = None
        while len(blocks) > self._most:
            blocks.popitem(last=False)
        return found * BLOCK


@dataclass(frozen=True, slots=True)
class Stragglers:
    """Requests that take longer, as those of a busy or a broken machine do; which ones follows from their content."""

    share: float = 0.0
    """Of all requests."""
    times: float = 1.0
    """As long as the others."""

    def slows(self, job: Job) -> float:
        """How many times as long the job takes."""
        drawn = self.share > 0 and crc32(job.prompt.encode(), (job.seed + 1) & 0xFFFFFFFF) < self.share * 2**32
        return self.times if drawn else 1.0


@dataclass(slots=True, eq=False)
class Job:
    """One request."""

    prompt: str
    tokens: int
    """Of the reply."""
    finished: Callable[[Job], None]
    """Called when the reply is ready."""
    priority: int = 0
    """Lower goes first."""
    wants_labels: bool = False
    label_ids: tuple[int, ...] = ()
    """Token ids whose log-probabilities are wanted; empty: the most probable ones."""
    top: int = 0
    seed: int = 0
    cut: bool = False
    """True: the reply is as long as max_tokens allows."""
    cached_tokens: int = 0
    arrived: float = 0.0
    started: float | None = None
    over: bool = False
    """Replied to, or given up by its client."""

    @property
    def prompt_tokens(self) -> int:
        return -(-len(self.prompt) // CHARACTERS)


class Slots:
    """Continuous batching: a job holds one of the slots for its prefill and then for each token of its reply; those
    that wait go by priority, then by arrival. All seconds are on one clock, which the caller reads."""

    def __init__(
        self, slots: int, prefill_s: float, token_s: float, cache: PrefixCache, stragglers: Stragglers | None = None
    ) -> None:
        """`prefill_s`, `token_s`: seconds for a prompt token that is not cached, and for a token of the reply."""
        self._stragglers = stragglers or Stragglers()
        self.slots = slots
        self._free = slots
        self._prefill_s = prefill_s
        self._token_s = token_s
        self._cache = cache
        self._waiting: list[tuple[int, int, Job]] = []
        self._running: list[tuple[float, int, Job]] = []
        self._count = 0
        self.busy_s = 0.0
        """Slot-seconds that were held."""
        self.prompt_tokens = 0
        self.cached_tokens = 0
        self.completion_tokens = 0

    @property
    def running(self) -> int:
        return self.slots - self._free

    @property
    def next_due(self) -> float | None:
        return self._running[0][0] if self._running else None

    def submit(self, job: Job, now: float) -> None:
        job.arrived = now
        self._count += 1
        if self._free:
            self._start(job, now)
        else:
            heapq.heappush(self._waiting, (job.priority, self._count, job))

    def advance(self, now: float) -> list[Job]:
        """Jobs that were ready by `now`, in order. Their slots passed on at the moments that they were ready, not now:
        a server that is late with its replies does not slow the engine."""
        ready = []
        while self._running and self._running[0][0] <= now:
            due, _, job = heapq.heappop(self._running)
            if not job.over:
                ready.append(job)
                self._leave(job, due)
        return ready

    def cancel(self, job: Job, now: float) -> None:
        """The client has gone: the job's slot is free at once."""
        if not job.over and job.started is not None:
            self._leave(job, now)
        job.over = True

    def _start(self, job: Job, now: float) -> None:
        self._free -= 1
        job.started = now
        job.cached_tokens = self._cache.take(job.prompt)
        self.prompt_tokens += job.prompt_tokens
        self.cached_tokens += job.cached_tokens
        self.completion_tokens += job.tokens
        seconds = (job.prompt_tokens - job.cached_tokens) * self._prefill_s + job.tokens * self._token_s
        seconds *= self._stragglers.slows(job)
        self._count += 1
        heapq.heappush(self._running, (now + seconds, self._count, job))

    def _leave(self, job: Job, now: float) -> None:
        assert job.started is not None
        job.over = True
        self._free += 1
        self.busy_s += max(0.0, now - job.started)
        while self._waiting:
            following = heapq.heappop(self._waiting)[2]
            if not following.over:
                # It may have come after the slot was free and before anyone looked.
                self._start(following, max(now, following.arrived))
                return
