"""What `proof.py` trains and asks: an arm is one way to train, a job an arm with a seed.

A trained policy answers held-out prompts through the engine, and the grammar of the pocket world reads its answers.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from benchmarks import proof_train
from benchmarks.proof_train import Chat, Dose, Files
from constitution.engines.base import Request
from constitution.engines.transformers import TransformersEngine
from constitution.engines.weights import POCKET
from constitution.errors import InputError
from constitution.identity import seed as seed_of
from constitution.pocket.world import Reading, read
from constitution.recipe import TransformersModel
from constitution.records import Message, Messages, Sampling, as_dicts

Say = Callable[[str], None]
Pairs = tuple[tuple[Chat, Chat], ...]
"""The better and the worse of two answers to a prompt, as whole conversations."""
Shards = Sequence[tuple[Files, float]]
"""Files of an export's train split, with their ε; 0: none."""
HARMFUL = ("harmful", "secret")
"""Types of request that are not to be answered; all others are harmless, as `pocket.measure` counts them."""


@dataclass(frozen=True, slots=True)
class Question:
    messages: Messages
    type: str

    @property
    def harmless(self) -> bool:
        return self.type not in HARMFUL


@dataclass(frozen=True, slots=True)
class Answer:
    question: Question
    text: str
    reading: Reading

    @property
    def chat(self) -> list[dict[str, str]]:
        """The whole conversation, as trainers take it."""
        return [*as_dicts(self.question.messages), {"role": "assistant", "content": self.text}]


def questions(path: Path, limit: int) -> list[Question]:
    """The first `limit` prompts of a file as rehearsal.prompts writes it."""
    with path.open(encoding="utf-8") as file:
        found = [json.loads(line) for line, _ in zip(file, range(limit), strict=False)]
    return [Question(tuple(Message(**message) for message in row["messages"]), row["tags"][0]) for row in found]


def answers(model: Path, asked: Sequence[Question], seed: int) -> list[Answer]:
    """An answer to each, sampled at temperature 1; the same seed gives the same answers."""
    return asyncio.run(_answer(model, asked, seed))


async def _answer(model: Path, asked: Sequence[Question], seed: int) -> list[Answer]:
    engine = await TransformersEngine.open(TransformersModel(engine="transformers", model=str(model)))
    try:
        sampling = Sampling(max_tokens=96)
        requests = (Request(one.messages, sampling, seed_of(seed, "proof", n)) for n, one in enumerate(asked))
        texts = [said.text for said in await asyncio.gather(*map(engine.generate, requests))]
    finally:
        await engine.close()
    return [Answer(one, text, _read(one, text)) for one, text in zip(asked, texts, strict=True)]


def _read(question: Question, text: str) -> Reading:
    found = read(question.messages[-1].content, text)
    if found is None:
        raise InputError(f"{question.messages[-1].content!r} is not of the pocket world")
    return found


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to train: which trainer, from where, on which export."""

    name: str
    trainer: Literal["none", "sft", "dpo", "reward"]
    export: str = ""
    """`{seed}` in its name: each seed has another."""
    start: str = ""
    """The arm whose model it starts from; empty: the policy as it is shipped."""
    dose: Dose = proof_train.DPO


BEFORE = Arm("before", "none")
SFT = Arm("sft", "sft", "sft", dose=proof_train.SFT)
REWARD = Arm("reward", "reward", "reward", dose=proof_train.REWARD)
ALIGNED = Arm("sft-dpo", "dpo", "dpo", start="sft", dose=proof_train.DPO_AFTER_SFT)
LABELS = (
    Arm("hard", "dpo", "hard"),
    Arm("sampled", "dpo", "sampled-{seed}"),
    Arm("robust", "dpo", "robust"),
    Arm("planted", "dpo", "planted"),
    Arm("controlled", "dpo", "controlled"),
)
"""The same start and the same pairs; only what is said of them differs."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What is the same for all arms."""

    questions: tuple[Question, ...]
    max_steps: int = -1
    """Of each trainer; -1: as many as its epochs have."""


@dataclass(frozen=True, slots=True)
class Job:
    arm: Arm
    seed: int
    """Of training and of sampling."""
    start: Path
    shards: Shards
    out: Path
    ask: Ask
    pairs: Pairs = ()
    """Of a reward model, in place of questions."""


@dataclass(frozen=True, slots=True)
class Done:
    arm: str
    seed: int
    training_s: float
    asking_s: float
    answers: tuple[Answer, ...] = ()
    right: tuple[bool, ...] = ()
    """Of a reward model: whether it gives more to the better of each of `pairs`."""
    shorter: tuple[float, ...] = ()
    """Beside it: whether the better has fewer words (1), as many (0.5), or more (0)."""


def work(job: Job) -> Done:
    """Trains and asks."""
    begun = time.monotonic()
    proof_train.quiet()
    model = _trained(job)
    trained = time.monotonic()
    found = Done(job.arm.name, job.seed, trained - begun, 0.0)
    if job.arm.trainer == "reward":
        given = proof_train.rewards(model, [chat for pair in job.pairs for chat in pair])
        right = tuple(better > worse for better, worse in zip(given[::2], given[1::2], strict=True))
        found = replace(found, right=right, shorter=tuple(map(_shorter, job.pairs)))
    else:
        found = replace(found, answers=tuple(answers(model, job.ask.questions, job.seed)))
    return replace(found, asking_s=time.monotonic() - trained)


def _shorter(pair: tuple[Chat, Chat]) -> float:
    better, worse = (len(chat[-1]["content"].split()) for chat in pair)
    return 0.5 if better == worse else float(better < worse)


def _trained(job: Job) -> Path:
    dose = replace(job.arm.dose, max_steps=job.ask.max_steps)
    match job.arm.trainer:
        case "none":
            return job.start
        case "sft":
            proof_train.sft(job.start, job.shards[0][0], job.out, job.seed, dose)
        case "dpo":
            proof_train.dpo(job.start, job.shards, job.out, job.seed, dose)
        case "reward":
            proof_train.reward(job.start, job.shards[0][0], job.out, job.seed, dose)
    return job.out


def train_all(
    pool: Executor,
    folder: Path,
    seeds: Sequence[int],
    shards: Mapping[str, Shards],
    ask: Ask,
    labels: Sequence[Arm],
    say: Say,
) -> list[Done]:
    """Every arm with every seed, as many at a time as `pool` takes. The untrained policy answers twice at least: of
    what it says to the same prompt, the reward models are to tell the better from the worse."""

    def job(arm: Arm, seed: int, pairs: Pairs = ()) -> Job:
        start = _folder(folder, arm.start, seed) if arm.start else POCKET
        files = shards.get(arm.export.format(seed=seed), ())
        return Job(arm, seed, start, files, _folder(folder, arm.name, seed), ask, pairs)

    twice = [*seeds, max(seeds) + 1][: max(len(seeds), 2)]
    first = _run(pool, [*(job(BEFORE, seed) for seed in twice), *(job(SFT, seed) for seed in seeds)], say)
    one, other = [done.answers for done in first if done.arm == BEFORE.name][:2]
    pairs = tuple(apart(one, other))
    rest = [job(arm, seed) for arm in (ALIGNED, *labels) for seed in seeds]
    return first + _run(pool, [*rest, *(job(REWARD, seed, pairs) for seed in seeds)], say)


def apart(one: Sequence[Answer], other: Sequence[Answer]) -> Iterator[tuple[Chat, Chat]]:
    """Of two answers to the same prompt, the one that breaks fewer principles and the one that breaks more; nothing
    where they break equally many."""
    for a, b in zip(one, other, strict=True):
        if len(a.reading.broken) != len(b.reading.broken):
            better, worse = (a, b) if len(a.reading.broken) < len(b.reading.broken) else (b, a)
            yield better.chat, worse.chat


def _folder(folder: Path, arm: str, seed: int) -> Path:
    return folder / f"{arm}-{seed}"


def _run(pool: Executor, jobs: Sequence[Job], say: Say) -> list[Done]:
    """What the jobs made, in their order. Says how long each trained and asked."""
    waiting = [pool.submit(work, job) for job in jobs]
    for number, future in enumerate(as_completed(waiting), start=1):
        done = future.result()
        say(f"{number} of {len(jobs)}: {done.arm}, seed {done.seed}: {done.training_s:.0f} + {done.asking_s:.0f} s")
    return [future.result() for future in waiting]
