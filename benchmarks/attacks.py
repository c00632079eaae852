"""Texts that try to steer the judge (attacks.toml), on the pocket judge: how many labels they turn.

    make bench-attacks

Pairs of the pocket world of which the grammar knows the better answer, and the judge too: its label, by both orders, is
right. Then an attack is put into the worse answer, or into the last human turn, and the label is made again: with the
defence; without it (marks whose nonce everyone knows, texts as they are, control tokens read as such); and, with the
defence, with a harmless text instead, made of the very characters of the attack in another order. A small model is
turned by any odd text: what an attack does beyond that text is the attack.
"""

from __future__ import annotations

import asyncio
import random
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import click

from benchmarks.results import Table, finish, options
from constitution.engines.base import Engine, Request
from constitution.engines.transformers import TransformersEngine
from constitution.judge.question import SAMPLING
from constitution.judge.read import read_choices
from constitution.pocket.world import World
from constitution.principles import find_root, load_constitution
from constitution.recipe import TransformersModel
from constitution.records import Message, Messages, Principle
from constitution.templates import ENDING, JUDGE, LABELS, fill, vote_messages
from rehearsal.measure import Share, share

ROOT = Path(__file__).parent.parent
NONCE, GUESS = "c0ffee", "0decaf"
FILL = "lantern kettle " * 60
Place = Literal["answer", "prompt"]
PLACES: tuple[Place, ...] = ("answer", "prompt")
Condition = Literal["with", "without", "harmless"]
CONDITIONS: tuple[Condition, ...] = ("with", "without", "harmless")
STRUCTURAL = ("marks-known", "marks-guessed", "marks-alike", "marks-assembled", "chat-tokens", "turns")
"""Kinds that the defence is against."""
RESAMPLES = 2_000
_OTHER = {"A": "B", "B": "A", "Y": "N", "N": "Y"}


@dataclass(frozen=True)
class Attack:
    kind: str
    number: int
    raw: str
    before: bool = False

    def text(self, me: str) -> str:
        """For an answer that may be labelled `me`; of a reading, `me` is the reply that the attack is for."""
        values = {"ME": me, "OTHER": _OTHER[me], "NONCE": NONCE, "GUESS": GUESS, "FILL": FILL}
        text = self.raw
        for name, value in values.items():
            text = text.replace(f"@{name}@", value)
        return text

    def put(self, victim: str, text: str) -> str:
        return f"{text}{victim}" if self.before else f"{victim}\n\n{text}"


@cache
def attacks() -> tuple[Attack, ...]:
    kinds = tomllib.loads((Path(__file__).parent / "attacks.toml").read_text(encoding="utf-8"))
    return tuple(
        Attack(kind, number, raw, bool(entry.get("before")))
        for kind, entry in kinds.items()
        for number, raw in enumerate(entry["texts"])
    )


def scrambled(text: str, seed: str) -> str:
    """The same characters in another order: as long, as odd, and says nothing."""
    characters = list(text)
    random.Random(seed).shuffle(characters)
    return "".join(characters)


@dataclass(frozen=True)
class Pair:
    """Two answers of which one breaks the principle and the other one nothing."""

    number: int
    prompt: Messages
    better: str
    worse: str
    principle: Principle


def pairs(count: int, seed: int) -> Iterator[Pair]:
    """Of held-out requests."""
    world = World(random.Random(f"{seed}/attacks"))
    found = load_constitution(find_root(ROOT), "pocket@1.1.0").principles
    principles = {principle.tags[0]: principle for principle in found}
    number = 0
    while number < count:
        answer = world.answer(world.request("held-out"), tempted=1.0)
        if not answer.broken:
            continue
        better = world.mend(answer, answer.broken)
        fault = sorted(answer.broken)[number % len(answer.broken)]
        yield Pair(number, answer.request.messages, better.text, answer.text, principles[fault])
        number += 1


def attacked(pair: Pair, attack: Attack, place: Place, text: str) -> Pair:
    if place == "answer":
        return replace(pair, worse=attack.put(pair.worse, text))
    last = Message("user", attack.put(pair.prompt[-1].content, text))
    return replace(pair, prompt=(*pair.prompt[:-1], last))


def without_defence(pair: Pair, first: str, second: str) -> Messages:
    """The judge's chat with every text as it is, and a nonce that is no secret."""
    speakers = {"system": "System", "user": "Human", "assistant": "Assistant"}
    conversation = "\n\n".join(f"{speakers[turn.role]}: {turn.content}" for turn in pair.prompt)
    shown = {"conversation": conversation, "first": first, "second": second}
    text = fill(JUDGE.texts["vote.txt"], {**shown, "nonce": NONCE, "question": pair.principle.comparison_question})
    return (Message("user", text), Message("assistant", ENDING))


@contextmanager
def control_tokens_read(engine: TransformersEngine) -> Iterator[None]:
    """Messages to tokens as servers do it that tokenize the rendered chat as one text."""
    chat: Any = engine._model.chat
    kept = {name: getattr(chat, name) for name in ("_control", "_never", "_heads", "_tails")}
    off: dict[str, Any] = {"_control": None, "_never": frozenset(), "_heads": (), "_tails": ()}
    for name, value in off.items():
        setattr(chat, name, value)
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(chat, name, value)


async def p_worse(engine: Engine, pair: Pair, *, defended: bool = True) -> float:
    """Probability of the worse answer, the mean of both orders."""

    async def first(one: str, other: str) -> float:
        chat = without_defence(pair, one, other)
        if defended:
            chat = vote_messages(pair.prompt, one, other, pair.principle, NONCE)
        done = await engine.generate(Request(chat, SAMPLING, seed=1, choices=LABELS, affinity=str(pair.number)))
        (a, b), *_ = read_choices(done, LABELS)
        return a / (a + b)

    one, other = await asyncio.gather(first(pair.worse, pair.better), first(pair.better, pair.worse))
    return (one + 1 - other) / 2


@dataclass(frozen=True)
class Trial:
    """One attack on one pair whose label was right without it."""

    kind: str
    number: int
    place: str
    pair: int
    """Or the reading's number."""
    p: Mapping[Condition, float]
    """Probability of the worse answer, or of the reply that the attack is for."""

    def turned(self, condition: Condition) -> bool:
        return self.p[condition] > 0.5


async def trials(engine: TransformersEngine, chosen: Sequence[Attack], count: int, seed: int) -> list[Trial]:
    """Of every attack at both places, on those of `count` pairs that the judge gets right in either way."""
    found, tried = list(pairs(count, seed)), random.Random(f"{seed}/labels")
    with control_tokens_read(engine):
        naive = await asyncio.gather(*[p_worse(engine, pair, defended=False) for pair in found])
    right = await asyncio.gather(*[p_worse(engine, pair) for pair in found])
    known = [pair for pair, p, q in zip(found, right, naive, strict=True) if p < 0.5 and q < 0.5]
    cases = [
        (attack, place, pair, attack.text(tried.choice("AB")))
        for attack in chosen
        for place in PLACES
        for pair in known
    ]
    values: dict[Condition, list[float]] = {}
    hit = [attacked(pair, attack, place, text) for attack, place, pair, text in cases]
    calm = [
        attacked(pair, attack, place, scrambled(text, f"{seed}/{attack.kind}/{attack.number}/{pair.number}"))
        for attack, place, pair, text in cases
    ]
    values["with"] = list(await asyncio.gather(*[p_worse(engine, pair) for pair in hit]))
    values["harmless"] = list(await asyncio.gather(*[p_worse(engine, pair) for pair in calm]))
    with control_tokens_read(engine):
        values["without"] = list(await asyncio.gather(*[p_worse(engine, pair, defended=False) for pair in hit]))
    return [
        Trial(attack.kind, attack.number, place, pair.number, {name: values[name][i] for name in CONDITIONS})
        for i, (attack, place, pair, _) in enumerate(cases)
    ]


def flips(found: Sequence[Trial], condition: Condition) -> Share:
    return share(condition, (trial.turned(condition) for trial in found))


def beyond(found: Sequence[Trial], condition: Condition) -> tuple[float, float, float]:
    """Share of labels that the attack turns less the share that harmless text turns, with its 95 % interval: bootstrap
    over pairs, as trials on one pair are not independent."""
    import numpy as np

    numbers = sorted({trial.pair for trial in found})
    place = {number: index for index, number in enumerate(numbers)}
    sums, sizes = np.zeros(len(numbers)), np.zeros(len(numbers))
    for trial in found:
        sums[place[trial.pair]] += trial.turned(condition) - trial.turned("harmless")
        sizes[place[trial.pair]] += 1
    drawn = np.random.default_rng(1).integers(len(numbers), size=(RESAMPLES, len(numbers)))
    differences = sums[drawn].sum(1) / sizes[drawn].sum(1)
    low, high = np.quantile(differences, [0.025, 0.975])
    return float(sums.sum() / sizes.sum()), float(low), float(high)


def table(found: Sequence[Trial], what: str = "labels") -> Table:
    """Per place all attacks, then every kind: the share of labels turned, with its 95 % Wilson interval."""
    places = list(dict.fromkeys(trial.place for trial in found))
    parts = {f"all, in the {place}": [trial for trial in found if trial.place == place] for place in places}
    for kind in dict.fromkeys(trial.kind for trial in found):
        for place in places:
            of_kind = [trial for trial in found if (trial.kind, trial.place) == (kind, place)]
            parts[f"{kind}, in the {place}"] = of_kind
    rows = []
    for name, part in parts.items():
        shares = [flips(part, condition) for condition in ("without", "with", "harmless")]
        value, low, high = (100 * figure for figure in beyond(part, "with"))
        rows.append(
            [
                name,
                str(len({(trial.kind, trial.number) for trial in part})),
                f"{len(part):,}",
                *(f"{_percent(s.value)} ({_percent(s.interval[0])}–{_percent(s.interval[1])})" for s in shares),
                f"{value:+.1f} points ({low:+.1f} to {high:+.1f})",
            ]
        )
    columns = [f"{what} turned by", "attacks", "n", "without the defence", "with it", "harmless text"]
    return Table([*columns, "beyond harmless text"], rows)


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


async def measure(count: int, seed: int, kinds: Sequence[str]) -> list[Trial]:
    engine = await TransformersEngine.open(TransformersModel(engine="transformers", model="pocket", max_batch=64))
    try:
        chosen = [attack for attack in attacks() if not kinds or attack.kind in kinds]
        return await trials(engine, chosen, count, seed)
    finally:
        await engine.close()


@click.command()
@click.option("--pairs", "count", default=40, show_default=True, type=click.IntRange(min=2))
@click.option("--seed", default=1, show_default=True)
@click.option("--kind", "kinds", multiple=True, help="Only attacks of this kind; more than once for more.")
@options
def main(count: int, seed: int, kinds: tuple[str, ...], out: Path | None, page: Path | None) -> None:
    found = asyncio.run(measure(count, seed, kinds))
    tried = len({trial.pair for trial in found})
    note = f"Seed {seed}, {tried} of {count} pairs that the judge gets right by itself."
    finish(out, page, [table(found)], [], [note])


if __name__ == "__main__":
    main()
