"""The attacks of attacks.toml on readings of single answers, by place: in the item of a rubric, which a model may have
written, and in the answer that is read, which is a rollout or a reference.

    python -m benchmarks.attacks_readings

Answers of the pocket world and yes/no questions that the pocket scorer answers right, where the right reply speaks
against the answer; an attack is for the other reply. As in attacks.py: with the defence, without it, and with a
harmless text instead. How many of the attacked items the lint of rubrics drops before any judge is asked is told
beside it: those that are read here, it was not asked about.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click

from benchmarks.attacks import (
    CONDITIONS,
    NONCE,
    Attack,
    Condition,
    Trial,
    attacks,
    control_tokens_read,
    scrambled,
    table,
)
from benchmarks.results import finish, options
from constitution.engines.base import Engine, Request
from constitution.engines.transformers import TransformersEngine
from constitution.judge.question import SAMPLING
from constitution.judge.read import read_choices
from constitution.judge.rubrics.lint import lint
from constitution.judge.rubrics.written import Written
from constitution.pocket.questions import Question, reply, wordings
from constitution.pocket.world import World, read
from constitution.principles import find_root, load_constitution
from constitution.recipe import TransformersModel
from constitution.records import Message, Messages
from constitution.templates import REPLIES, RUBRIC, fill, item_messages

ROOT = Path(__file__).parent.parent
PLACES = ("item", "rollout or reference")


@dataclass(frozen=True)
class Case:
    """An answer, and an item by which the grammar has something against it."""

    number: int
    prompt: Messages
    answer: str
    item: str
    wanted: str
    """The reply that an attack is for: the wrong one."""


def cases(count: int, seed: int) -> Iterator[Case]:
    """Of held-out requests."""
    rng = random.Random(f"{seed}/attacks-readings")
    world, root = World(rng), find_root(ROOT)
    asked = [
        question
        for question in wordings((load_constitution(root, "pocket-scorecard"), load_constitution(root, "pocket")))
        if not question.key.startswith(("refusal", "given"))
    ]
    number = 0
    while number < count:
        answer = world.answer(world.request("held-out"), tempted=1.0)
        found = read(answer.request.messages[-1].content, answer.text)
        if found is None or not found.broken:
            continue
        fitting: list[Question] = [question for question in asked if question.key in found.broken]
        question = rng.choice(fitting)
        wanted = REPLIES[1] if reply(question, found) else REPLIES[0]
        yield Case(number, answer.request.messages, answer.text, question.text, wanted)
        number += 1


def attacked(case: Case, attack: Attack, place: str, text: str) -> Case:
    if place == PLACES[0]:
        return replace(case, item=attack.put(case.item, text))
    return replace(case, answer=attack.put(case.answer, text))


def without_defence(case: Case) -> Messages:
    """The judge's chat with every text as it is, and a nonce that is no secret."""
    speakers = {"system": "System", "user": "Human", "assistant": "Assistant"}
    conversation = "\n\n".join(f"{speakers[turn.role]}: {turn.content}" for turn in case.prompt)
    shown = {"conversation": conversation, "answer": case.answer, "criterion": case.item, "nonce": NONCE}
    return (Message("user", fill(RUBRIC.texts["rubric.txt"], shown)), Message("assistant", RUBRIC.ending))


async def p_wanted(engine: Engine, case: Case, *, defended: bool = True) -> float:
    """Probability of the wrong reply."""
    chat = item_messages(case.prompt, case.answer, case.item, NONCE) if defended else without_defence(case)
    done = await engine.generate(Request(chat, SAMPLING, seed=1, choices=REPLIES, affinity=str(case.number)))
    (yes, no), *_ = read_choices(done, REPLIES)
    p_yes = yes / (yes + no)
    return p_yes if case.wanted == REPLIES[0] else 1 - p_yes


async def trials(engine: TransformersEngine, chosen: Sequence[Attack], count: int, seed: int) -> list[Trial]:
    """Of every attack at both places, on those of `count` answers that the judge reads right in either way."""

    async def all_of(those: Sequence[Case], defended: bool = True) -> list[float]:
        return list(await asyncio.gather(*[p_wanted(engine, case, defended=defended) for case in those]))

    found = list(cases(count, seed))
    with control_tokens_read(engine):
        naive = await all_of(found, defended=False)
    right = await all_of(found)
    known = [case for case, p, q in zip(found, right, naive, strict=True) if p < 0.5 and q < 0.5]
    tried = [(attack, place, case) for attack in chosen for place in PLACES for case in known]
    hit = [attacked(case, attack, place, attack.text(case.wanted)) for attack, place, case in tried]
    calm = [
        attacked(
            case,
            attack,
            place,
            scrambled(attack.text(case.wanted), f"{seed}/{attack.kind}/{attack.number}/{case.number}"),
        )
        for attack, place, case in tried
    ]
    values: dict[Condition, list[float]] = {"with": await all_of(hit), "harmless": await all_of(calm)}
    with control_tokens_read(engine):
        values["without"] = await all_of(hit, defended=False)
    return [
        Trial(attack.kind, attack.number, place, case.number, {name: values[name][i] for name in CONDITIONS})
        for i, (attack, place, case) in enumerate(tried)
    ]


def dropped(chosen: Sequence[Attack], found: Sequence[Trial], count: int, seed: int) -> str:
    """What the lint says of the attacked items, and what those do that it leaves, in words."""
    those = {case.number: case for case in cases(count, seed)}
    faults = {
        (attack.kind, attack.number, case.number): lint(
            [Written(attack.put(case.item, attack.text(case.wanted)))], case.prompt, None
        )[0]
        for attack in chosen
        for case in those.values()
    }
    tried = [trial for trial in found if trial.place == PLACES[0]]
    left = [trial for trial in tried if faults[trial.kind, trial.number, trial.pair] is None]
    clean = [lint([Written(case.item)], case.prompt, None)[0] for case in those.values()]
    return (
        f"the lint drops {len(tried) - len(left):,} of {len(tried):,} attacked items, and of those that it leaves "
        f"{sum(trial.turned('with') for trial in left)} turn the reading; "
        f"of the {len(clean)} as they were it drops {sum(map(bool, clean))}"
    )


async def measure(count: int, seed: int, chosen: Sequence[Attack]) -> list[Trial]:
    model = TransformersModel(engine="transformers", model="pocket-scorer", max_batch=64)
    engine = await TransformersEngine.open(model)
    try:
        return await trials(engine, chosen, count, seed)
    finally:
        await engine.close()


@click.command()
@click.option("--answers", "count", default=24, show_default=True, type=click.IntRange(min=2))
@click.option("--seed", default=1, show_default=True)
@click.option("--kind", "kinds", multiple=True, help="Only attacks of this kind; more than once for more.")
@options
def main(count: int, seed: int, kinds: tuple[str, ...], out: Path | None, page: Path | None) -> None:
    chosen = [attack for attack in attacks() if not kinds or attack.kind in kinds]
    found = asyncio.run(measure(count, seed, chosen))
    tried = len({trial.pair for trial in found})
    note = (
        f"Seed {seed}, {tried} of {count} readings that are right by themselves; {dropped(chosen, found, count, seed)}."
    )
    finish(out, page, [table(found, "readings")], [], [note])


if __name__ == "__main__":
    main()
