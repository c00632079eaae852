"""Other wordings of principles, tried against what people say, and kept only where that is plain on pairs that took no
part in choosing them.

    found = await improve(constitution, gold, bench, folder, Settings(wordings=4))
    for trial in found.trials: trial.decision, trial.kept

Gold is parted by conversation. On the *selection* half the old wording is tried, the writer is shown pairs on which it
is wrong, and its wordings are compared; the best one of each principle, if it is better there, is tried once on the
*held-out* half. It is kept where its rise in agreement is above 0 with the whole of its interval (paired bootstrap over
prompts) and an exact sign test over prompts (McNemar's) holds after Holm's correction over the principles tried.
Optimisers that choose and report on the same pairs find a rise where there is none (winner's curse; Cawley & Talbot
2010, "On Over-fitting in Model Selection", JMLR 11).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from constitution.errors import PrincipleError
from constitution.identity import digest
from constitution.measures import Estimate, estimate
from constitution.measures.estimate import Floats
from constitution.measures.paired import ALPHA, holm, prompts_needed, rise, sign_test
from constitution.pipeline.tasks import Window
from constitution.propose.gold import Gold, GoldPair
from constitution.propose.judging import Asked, Heard, rightness
from constitution.propose.spent import Spent, read_spent, write_spent
from constitution.propose.wordings import Wording, Wrong
from constitution.records import Constitution, Principle

LEAST = 20
"""Prompts that each half must have."""
WORTH = 0.2
"""p of the sign test on the selection half above which no held-out pairs are spent on a wording."""
VOTED = 0.5
"""Share of the pairs on which the old wording must have votes."""
AT_ONCE = 8
"""Principles whose wordings are asked for at once."""
SEEN = (0.1, 0.2)
"""Rises for which a principle with too few prompts is told how many it would take."""

Decision = Literal["kept", "not plain", "none better", "no wording", "spent", "too few", "no votes", "no gold"]
"""kept: it is proposed. not plain: better on the selection half, not plainly on the held-out half."""


class Proposer(Protocol):
    async def propose(
        self, principle: Principle, wrong: Sequence[Wrong], count: int
    ) -> tuple[list[Wording], list[str]]:
        """Wordings, and what failed, in words."""
        ...


Writers = Callable[[], AbstractAsyncContextManager[Proposer]]


class Hearing(Protocol):
    async def hear(self, asked: Asked) -> Heard: ...

    def asks(self, principle: Principle) -> str: ...


@dataclass(frozen=True, slots=True)
class Settings:
    wordings: int = 4
    """To be asked for, of each principle."""
    seed: int = 1
    only: tuple[str, ...] = ()
    """Ids of principles; empty: all that compare."""


@dataclass(frozen=True, slots=True)
class Tried:
    """One wording on the selection half."""

    wording: Wording
    agreement: Estimate | None = None
    """Share of the selection half on which it prefers what people prefer; None: it has a fault and was not tried."""
    gains: int = 0
    """Prompts on which it is righter than the old wording; `losses`: less right."""
    losses: int = 0
    p: float = 1.0
    """The sign test's."""
    missing: int = 0
    """Pairs on which it has no vote where the old one has; they count as wrong."""


@dataclass(slots=True)
class Trial:
    """What became of one principle."""

    principle: Principle
    about: str = ""
    """principle: people said of this principle which answer is better; whole: they said it on the whole."""
    selection: tuple[GoldPair, ...] = ()
    held_out: tuple[GoldPair, ...] = ()
    """Without pairs that were spent before."""
    spent: int = 0
    """Pairs of the held-out half that earlier tests have spent; they are in `selection`."""
    agreement: Estimate | None = None
    """The old wording's with gold, on all pairs."""
    missing: int = 0
    """Pairs on which the old wording has no vote; they are left out."""
    old: Floats = field(default_factory=lambda: np.empty(0))
    """Whether the old wording is right, on the selection half and then on the held-out half; NaN: no vote."""
    tried: list[Tried] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    """What failed of the writer's calls."""
    decision: Decision | None = None
    """None: it is not decided yet."""
    note: str = ""
    """Why, in words."""
    best: Wording | None = None
    """The one that was tried on the held-out half."""
    rise: Estimate | None = None
    """Rise of the agreement on the held-out half."""
    gains: int = 0
    losses: int = 0
    p: float | None = None
    """The sign test's, and after Holm's correction."""
    p_holm: float | None = None
    repeated: str = ""
    """When this very test was made before; its result is repeated from what was kept."""
    flips: Estimate | None = None
    """Share of all its pairs on which the kept wording prefers the other answer than the old one did."""

    @property
    def kept(self) -> Principle | None:
        return self.best.principle if self.best and self.decision == "kept" else None

    def end(self, decision: Decision, note: str) -> None:
        self.decision, self.note = decision, note


@dataclass(frozen=True, slots=True)
class Improved:
    constitution: Constitution
    trials: tuple[Trial, ...]

    @property
    def revised(self) -> Constitution:
        """The constitution with the kept wordings in place of the old ones; its version is the old one's."""
        new = {trial.principle.id: trial.kept for trial in self.trials if trial.kept}
        return replace(self.constitution, principles=tuple(new.get(p.id, p) for p in self.constitution.principles))


def conversation(gold: GoldPair) -> str:
    """What decides the half that a pair is in, and what it stands and falls with: the first user turn, but for case
    and white space."""
    first = next((turn.content for turn in gold.prompt.messages if turn.role == "user"), "")
    return " ".join(first.casefold().split())


def is_held_out(gold: GoldPair) -> bool:
    return int(digest(["held-out", conversation(gold)])[:8], 16) % 2 == 1


async def improve(
    constitution: Constitution, gold: Gold, hearing: Hearing, writer: Writers, folder: Path, settings: Settings
) -> Improved:
    """writer: opens what proposes wordings; it is called once the old wordings have been judged, and not where nothing
    is to be reworded. folder: proposals/<name>, which is there; beside it lie the other proposals of the project.

    Raises PrincipleError for an id in `only` that does not compare, and as the judges' engines do. A writer's failure
    is in the trial.
    """
    spent = read_spent(folder.parent)
    trials = [_trial(principle, gold, hearing, settings, spent) for principle in _chosen(constitution, settings.only)]
    await _measure(hearing, trials)
    if trying := _open(trials):
        await _propose_all(writer, trying, settings.wordings)
    await _select(hearing, trials)
    _spend(hearing, constitution, gold, trials, settings, spent, folder)
    await _decide(hearing, trials, _earlier(constitution, trials, spent))
    return Improved(constitution, tuple(trials))


def _open(trials: Sequence[Trial]) -> list[Trial]:
    return [trial for trial in trials if trial.decision is None]


def _chosen(constitution: Constitution, only: Sequence[str]) -> list[Principle]:
    able = {principle.id: principle for principle in constitution.principles if principle.compares}
    if unknown := [id for id in only if id not in able]:
        raise PrincipleError(
            f"{constitution.label}: no principle {unknown[0]} that compares",
            hint=f"there are: {', '.join(able)}" if able else "none has a comparison_question",
        )
    if not able:
        raise PrincipleError(f"{constitution.label}: no principle has a comparison_question", hint="give one some")
    return [able[id] for id in dict.fromkeys(only)] if only else list(able.values())


def _trial(principle: Principle, gold: Gold, hearing: Hearing, settings: Settings, spent: Sequence[Spent]) -> Trial:
    pairs = gold.about(principle)
    trial = Trial(principle, ("principle" if pairs[0].principle_id else "whole") if pairs else "")
    if not pairs:
        trial.end("no gold", "people said nothing about it, nor on the whole")
        return trial
    call = call_of(principle, pairs, hearing, settings)
    used = {key for test in spent if test.principle_id == principle.id and test.call != call for key in test.pairs}
    ours = [pair for pair in pairs if is_held_out(pair)]
    trial.held_out = tuple(pair for pair in ours if pair.key not in used)
    held = {pair.key for pair in trial.held_out}
    trial.selection = tuple(pair for pair in pairs if pair.key not in held)
    trial.spent = len(ours) - len(trial.held_out)
    sizes = _prompts(trial.selection), _prompts(trial.held_out)
    if min(sizes) < LEAST:
        told = f"{sizes[0]} prompts to choose on and {sizes[1]} held out, and {LEAST} of each are needed; {_power()}"
        before = f"{trial.spent} held-out pairs were spent by earlier tests, so new gold is needed: "
        trial.end("spent" if trial.spent else "too few", (before if trial.spent else "") + told)
    return trial


def call_of(principle: Principle, pairs: Sequence[GoldPair], hearing: Hearing, settings: Settings) -> str:
    """Names a test before it is made: the same call again repeats its result, any other one needs pairs of its own."""
    said = [[pair.key, pair.p_b > 0.5] for pair in sorted(pairs, key=lambda pair: pair.key)]
    return digest([principle.id, hearing.asks(principle), said, settings.seed, settings.wordings])


def _power() -> str:
    needed = (f"{share:.0%} on {2 * prompts_needed(share)}" for share in SEEN)
    return f"a rise of {' and one of '.join(needed)} prompts with gold, if no prompt got worse"


def _prompts(pairs: Sequence[GoldPair]) -> int:
    return len({conversation(pair) for pair in pairs})


async def _measure(hearing: Hearing, trials: Sequence[Trial]) -> None:
    """The old wordings, on all their gold."""
    asked = [(trial.principle, (*trial.selection, *trial.held_out)) for trial in trials]
    for trial, (_, pairs), heard in zip(trials, asked, await hearing.hear(asked), strict=True):
        trial.old = rightness(pairs, heard)
        voted = ~np.isnan(trial.old)
        trial.missing = int((~voted).sum())
        trial.agreement = _agreement(trial.old, pairs)
        if trial.decision is None and voted.mean() < VOTED:
            trial.end("no votes", f"the judges have no vote on {trial.missing} of its {len(pairs)} pairs")


def _agreement(right: Floats, pairs: Sequence[GoldPair]) -> Estimate:
    voted = ~np.isnan(right)
    clusters = [conversation(pair) for pair, there in zip(pairs, voted, strict=True) if there]
    return estimate.mean(right[voted], clusters, proportion=True)


async def _propose_all(writer: Writers, trials: Sequence[Trial], count: int) -> None:
    room = Window(AT_ONCE)
    async with writer() as proposer, asyncio.TaskGroup() as group:
        for trial in trials:
            await room.acquire()
            room.start(group, _propose(proposer, trial, count))


async def _propose(writer: Proposer, trial: Trial, count: int) -> None:
    """The writer sees pairs of the selection half alone."""
    old = trial.old[: len(trial.selection)]
    order = sorted(range(len(old)), key=lambda place: digest(["shown", trial.selection[place].key]))
    wrong = [Wrong(trial.selection[place]) for place in order if old[place] < 1]
    if not wrong:
        trial.end("none better", "it is right on every pair that a better wording would be chosen on")
        return
    wordings, trial.failed = await writer.propose(trial.principle, wrong, count)
    trial.tried = [Tried(wording) for wording in wordings]
    if not any(not wording.fault for wording in wordings):
        failed = f"; {trial.failed[0]}" if trial.failed else ""
        trial.end("no wording", f"of {len(wordings)} wordings none can be tried{failed}")


async def _select(hearing: Hearing, trials: Sequence[Trial]) -> None:
    """The best wording of each principle on the selection half."""
    places = [(trial, place) for trial in _open(trials) for place, each in enumerate(trial.tried) if not _fault(each)]
    asked = [(trial.tried[place].wording.principle, trial.selection) for trial, place in places]
    for (trial, place), heard in zip(places, await hearing.hear(asked), strict=True):
        old, new, clusters, missing = _both(trial.old[: len(trial.selection)], trial.selection, heard)
        gains, losses, p = sign_test(old, new, clusters)
        agreement = estimate.mean(new, clusters, proportion=True)
        trial.tried[place] = Tried(trial.tried[place].wording, agreement, gains, losses, p, missing)
    for trial in _open(trials):
        better = [each for each in trial.tried if each.gains > each.losses and each.p <= WORTH]
        if not better:
            trial.end(
                "none better", "no wording is plainly better where it would be chosen; no held-out pair was spent"
            )
            continue
        first = min(
            better, key=lambda each: (each.losses - each.gains, len(each.wording.principle.comparison_question))
        )
        trial.best = first.wording


def _fault(tried: Tried) -> str:
    return tried.wording.fault


def _both(
    old: Floats, pairs: Sequence[GoldPair], heard: Sequence[float | None]
) -> tuple[Floats, Floats, list[str], int]:
    """Old and new on the pairs on which the old wording has votes; where the new one has none there, it is wrong, for a
    wording must not gain by leaving out what is hard."""
    new, voted = rightness(pairs, heard), ~np.isnan(old)
    clusters = [conversation(pair) for pair, there in zip(pairs, voted, strict=True) if there]
    missing = int(np.isnan(new[voted]).sum())
    return old[voted], np.nan_to_num(new[voted], nan=0.0), clusters, missing


def _spend(
    hearing: Hearing,
    constitution: Constitution,
    gold: Gold,
    trials: Sequence[Trial],
    settings: Settings,
    spent: Sequence[Spent],
    folder: Path,
) -> None:
    """Writes down the tests that are about to be made; a test that was made with another wording is not made again."""
    tests = []
    for trial in _open(trials):
        assert trial.best is not None
        call = call_of(trial.principle, gold.about(trial.principle), hearing, settings)
        test = Spent(
            constitution.label,
            trial.principle.id,
            call,
            hearing.asks(trial.principle),
            hearing.asks(trial.best.principle),
            tuple(sorted(pair.key for pair in trial.held_out)),
        )
        before = [each for each in spent if each.principle_id == trial.principle.id and each.call == call]
        if not before:
            tests.append(test)
        elif any(each.new != test.new for each in before):
            trial.end(
                "spent", f"its held-out pairs were spent on another wording on {before[0].at}; new gold is needed"
            )
        else:
            trial.repeated = before[0].at
    if tests:
        write_spent(folder, tests)


def _earlier(constitution: Constitution, trials: Sequence[Trial], spent: Sequence[Spent]) -> int:
    """Tests of this constitution's principles that were made before and are not made here: they are of one family with
    these, or principles could be tried one by one as if each were the only one."""
    here, until = {trial.principle.id for trial in _open(trials)}, max((t.repeated for t in _open(trials)), default="")
    name = constitution.name
    before = [each for each in spent if each.constitution.partition("@")[0] == name and (not until or each.at <= until)]
    return sum(each.principle_id not in here for each in before)


async def _decide(hearing: Hearing, trials: Sequence[Trial], earlier: int) -> None:
    """The held-out half, once."""
    tested = [(trial, trial.best) for trial in _open(trials) if trial.best]
    asked = [(best.principle, (*trial.held_out, *trial.selection)) for trial, best in tested]
    for (trial, _), heard in zip(tested, await hearing.hear(asked), strict=True):
        size, count = len(trial.selection), len(trial.held_out)
        old, new, clusters, _ = _both(trial.old[size:], trial.held_out, heard[:count])
        trial.rise = rise(old, new, clusters)
        trial.gains, trial.losses, trial.p = sign_test(old, new, clusters)
        pairs = (*trial.selection, *trial.held_out)
        now = rightness(pairs, [*heard[count:], *heard[:count]])
        both = ~np.isnan(trial.old) & ~np.isnan(now)
        clusters = [conversation(pair) for pair, there in zip(pairs, both, strict=True) if there]
        flipped = np.abs(trial.old[both] - now[both]) > 0.75
        trial.flips = estimate.mean(flipped.astype(float), clusters, proportion=True)
    ours = [trial.p for trial, _ in tested if trial.p is not None]
    adjusted = holm([*ours, *[1.0] * earlier])[: len(ours)]
    for (trial, _), p in zip(tested, adjusted, strict=True):
        trial.p_holm = p
        assert trial.rise is not None
        if p <= ALPHA and trial.rise.low is not None and trial.rise.low > 0:
            trial.end("kept", "its agreement rises by more than its interval on pairs that took no part in choosing it")
        else:
            trial.end("not plain", f"better where it was chosen, not plainly on the held-out pairs; {_power()}")
