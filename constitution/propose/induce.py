"""Principles out of preferences: candidates vote on every pair, and are chosen together (measures/sparse.py).

    pairs = read_labelled("preferences.jsonl", warehouse).pairs
    found = fit(pairs, candidates, await votes(pairs, candidates, panel), How(seed=1))
    found.chosen, found.agreement, found.drop_one

Style (length, headers, lists, bold) is a rival in the same fit: a principle that is only length has no weight beside
it, or cannot be told from it. Prompts are split: what is chosen, and its weights, come of the one part; agreement and
what is lost without each principle of the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from constitution.ask.panel import Case, Panel, hear
from constitution.engines.fake.world import differences, style
from constitution.errors import InputError
from constitution.identity import seed as seed_of
from constitution.labels import Rules, label_pair
from constitution.measures import Estimate, estimate
from constitution.measures.estimate import Floats
from constitution.measures.sparse import LEAST, Selection, log_loss, ridge, select
from constitution.measures.style import FEATURES
from constitution.propose.candidates import Candidate
from constitution.propose.labelled import RUN, LabelledPair

STYLE = tuple(f"style: {name}" for name in FEATURES)
"""Names of the rivals."""


@dataclass(frozen=True, slots=True)
class How:
    seed: int = 1
    held_out: float = 0.3
    """Share of the prompts that nothing is chosen by."""
    replicates: int = 1000


@dataclass(frozen=True, slots=True)
class Tally:
    """One candidate's votes on all pairs."""

    votes: int
    missing: int
    ties: int
    agreement: Estimate
    """Share of its votes that are no ties and prefer the better answer: what a filter by each one alone would see."""


@dataclass(frozen=True, slots=True)
class Induced:
    selection: Selection
    """Its columns are ids of candidates and STYLE."""
    train: int
    """Pairs."""
    held: int
    tallies: dict[str, Tally]
    agreement: Estimate
    """With the held-out labels, of what was chosen; one half where it says nothing."""
    undecided: int
    """Held-out pairs of which it says nothing."""
    style_agreement: Estimate
    """The same of style alone."""
    drop_one: dict[str, Estimate]
    """By chosen column: how much the held-out loss (nats a pair) rises without it, the others fitted again."""

    @property
    def chosen(self) -> tuple[str, ...]:
        """Ids of candidates that the labels reward, the heaviest first."""
        weights = {name: self.selection.weights[name].value or 0.0 for name in self.selection.chosen}
        return tuple(
            name for name in sorted(weights, key=lambda n: -weights[n]) if weights[name] > 0 and name not in STYLE
        )

    def like(self, name: str) -> tuple[str, ...]:
        """Columns that cannot be told from a chosen one, or would do in its place."""
        twins = tuple(other for other, _ in self.selection.groups[name] if other != name)
        return (*twins, *self.selection.rivals[name])


async def votes(pairs: Sequence[LabelledPair], candidates: Sequence[Candidate], panel: Panel) -> Floats:
    """How much each candidate prefers a, by the panel's votes in both orders, made into one label as its section says:
    (n, k) from −1 to 1; NaN: votes are missing. Raises as `ask.panel.hear`."""
    principles = tuple(candidate.principle for candidate in candidates)
    rules = Rules.of(panel.section)
    heard = await hear(panel, RUN, [Case(pair.prompt, pair.pair, principles) for pair in pairs])
    found = np.full((len(pairs), len(candidates)), np.nan)
    for row, pair in enumerate(pairs):
        for column, principle in enumerate(principles):
            cast = [v for by_case in heard.values() for v in by_case[row].judgements if v.principle_id == principle.id]
            expected = sum(by_case[row].expected for by_case in heard.values()) // len(principles)
            label = label_pair(pair.pair, cast, expected, {principle.id: 1.0}, rules)
            if label.p_b is not None and len(cast) == expected:
                found[row, column] = 1 - 2 * label.p_b
    return found


def fit(pairs: Sequence[LabelledPair], candidates: Sequence[Candidate], given: Floats, how: How) -> Induced:
    """given (n, k): `votes`. InputError where two candidates have one id, or there are too few prompts."""
    ids = [candidate.principle.id for candidate in candidates]
    if twice := next((id for id in ids if ids.count(id) > 1 or id in STYLE), ""):
        raise InputError(f"two candidates have the id {twice}", hint="rename one of them")
    groups = np.array([pair.group for pair in pairs])
    if len(set(groups)) < LEAST:
        raise InputError(
            f"{len(pairs)} pairs on {len(set(groups))} prompts say which answer is better; principles are not told "
            f"from chance by fewer than {LEAST} prompts",
            hint="add pairs; at 100 two principles of ten are found",
        )
    names, labels = [*ids, *STYLE], np.array([pair.p_a for pair in pairs])
    table = np.column_stack([given, styles(pairs)])
    held = held_out(groups, how)
    chosen = select(table[~held], labels[~held], groups[~held], names, replicates=how.replicates, seed=how.seed)
    test = (table[held], labels[held], groups[held])
    odds = chosen.log_odds(test[0], names)
    alone = select(table[~held][:, len(ids) :], labels[~held], groups[~held], STYLE, replicates=0, seed=how.seed)
    drop_one = {}
    for name in chosen.chosen:
        without = _refitted(table[~held], labels[~held], test[0], names, [n for n in chosen.chosen if n != name])
        lost = log_loss(without, test[1]) - log_loss(odds, test[1])
        drop_one[name] = estimate.mean(lost, test[2], replicates=how.replicates)
    return Induced(
        selection=chosen,
        train=int((~held).sum()),
        held=int(held.sum()),
        tallies={id: _tally(given[:, place], labels, groups) for place, id in enumerate(ids)},
        agreement=_agreement(odds, *test[1:], how),
        undecided=int((np.abs(odds) < 1e-12).sum()),
        style_agreement=_agreement(alone.log_odds(test[0][:, len(ids) :], STYLE), *test[1:], how),
        drop_one=drop_one,
    )


def held_out(groups: Sequence[str] | np.ndarray, how: How) -> np.ndarray:
    """(n) Which pairs are held out: by their prompt and the seed alone, so that no prompt is on both sides."""
    part = {group: seed_of(how.seed, str(group), "induce-held-out") % 10_000 / 10_000 for group in set(groups)}
    return np.array([part[group] < how.held_out for group in groups])


def styles(pairs: Sequence[LabelledPair]) -> Floats:
    """Differences of style, a − b, as the audit has them: (n, 4)."""
    return np.array([differences(style(pair.pair.a.text), style(pair.pair.b.text)) for pair in pairs])


def _refitted(given: Floats, labels: Floats, test: Floats, names: Sequence[str], left: Sequence[str]) -> Floats:

    columns = [list(names).index(name) for name in left]
    plain = np.nan_to_num(given[:, columns])
    scale = np.sqrt((plain**2).mean(axis=0))
    weights = ridge(plain / scale, labels, np.ones((1, len(labels))))[0] / scale
    odds: Floats = np.nan_to_num(test[:, columns]) @ weights
    return odds


def _agreement(odds: Floats, labels: Floats, groups: np.ndarray, how: How) -> Estimate:
    """With one rater's word, in the mean over raters."""
    right = np.where(np.abs(odds) < 1e-12, 0.5, np.where(odds > 0, labels, 1 - labels))
    return estimate.mean(right, groups, proportion=True, replicates=how.replicates)


def _tally(column: Floats, labels: Floats, groups: np.ndarray) -> Tally:
    cast = ~np.isnan(column)
    sided = cast & (np.abs(np.nan_to_num(column)) > 1e-12)
    right = np.where(column[sided] > 0, labels[sided], 1 - labels[sided])
    agreement = estimate.mean(right, groups[sided], proportion=True)
    return Tally(int(cast.sum()), int((~cast).sum()), int((cast & ~sided).sum()), agreement)
