"""What adaptive votes would have saved of a finished run and what they would have changed, by its stored votes.

Each pair's votes are looked at in the order in which adaptive votes ask for them: where they would have stopped, the
label that they make is held against the one that all of them make. No model is asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from constitution.engines.base import Unasked
from constitution.errors import InputError
from constitution.judge.pairs import Pair
from constitution.labels import Rules
from constitution.labels.label import pair_mean
from constitution.labels.votes import drop_reason, side_of
from constitution.pipeline.label import Labeller, labeller
from constitution.recipe import Recipe
from constitution.records import FIXED_DROPS, Judgement, Preference, Response, Row, Run
from constitution.warehouse import Warehouse


@dataclass(slots=True)
class Replayed:
    """What one value of `judge.sure` comes to. Perturbations, whose votes are all asked for, do not count."""

    sure: float
    pairs: int = 0
    """That have a label by all their votes."""
    calls: int = 0
    """Calls that their votes took."""
    saved: int = 0
    """Calls of votes that would not have been asked for."""
    changed: int = 0
    """Pairs of which another answer would be kept, or one where none is, or none where one is."""


def replay(warehouse: Warehouse, run: Run, recipe: Recipe, rules: Rules, sures: Sequence[float]) -> list[Replayed]:
    """For each of `sures`. recipe: the run's. rules: by which labels are made; of what needs the votes of all pairs
    (dawid-skene, control, calibrate) they are what comes before it. Raises InputError for a run without votes and for
    one whose votes were not all asked for."""
    constitution = warehouse.read_principles(run.run_id)
    if recipe.judge is None or not recipe.asks_votes or constitution is None:
        raise InputError(f"{run.run_id}: the run has no votes", hint="its recipe needs a [judge] section")
    if recipe.judge.votes == "adaptive":
        raise InputError(
            f"{run.run_id}: its votes were adaptive, and what was not asked for cannot be replayed",
            hint='replay a run with judge.votes = "all", say of some hundred prompts (prompts.limit)',
        )
    adaptive = recipe.judge.model_copy(update={"votes": "adaptive", **asdict(rules)})
    names = list(recipe.model.jury) or [""]
    made = labeller(recipe.model_copy(update={"judge": adaptive}), constitution, run, dict.fromkeys(names, Unasked()))
    assert made is not None
    found = [Replayed(sure) for sure in sures]
    for part in warehouse.parts("prompts", run.run_id):
        prompts = warehouse.read_prompts(part)
        rows = warehouse.rows_of(run.run_id, [prompt.id for prompt in prompts])
        for prompt in prompts:
            have = {row.id: row for row in rows.get(prompt.id, ())}
            answers = [row for row in have.values() if isinstance(row, Response)]
            for pair in made.pairs(prompt, answers, have):
                if pair.kind != "perturbation":
                    _replay(made, pair, have, found)
    return found


def _replay(made: Labeller, pair: Pair, have: Mapping[str, Row], found: Sequence[Replayed]) -> None:
    label = have.get(pair.id)
    votes = [row for row in have.values() if isinstance(row, Judgement) and row.pair_id == pair.id]
    whole = pair_mean(pair, votes, made.weights, made.rules)
    if whole is None or not isinstance(label, Preference):
        return
    fixed = label.drop_reason in FIXED_DROPS
    looks = list(_looks(made, pair, votes))
    for each in found:
        p_b, calls = next((p_b, calls) for doubt, p_b, calls in looks if doubt <= 1 - each.sure)
        each.pairs += 1
        each.calls += looks[-1][2]
        each.saved += looks[-1][2] - calls
        each.changed += not fixed and _kept(p_b, made.rules) != _kept(whole, made.rules)


def _looks(made: Labeller, pair: Pair, votes: Sequence[Judgement]) -> Iterator[tuple[float, float | None, int]]:
    """At the end of each wave: how doubtful the label is, the label, and the calls so far; the last is of all votes."""
    units = made.units(pair)
    wave = {(unit.principle_id, unit.repeat): unit.wave for unit in units}
    together = units[0].repeat is None
    of_wave = [(wave.get((vote.principle_id, None if together else vote.repeat)), vote) for vote in votes]
    assert made.monitor is not None
    for last in sorted({unit.wave for unit in units}):
        cast = [vote for wave, vote in of_wave if wave is not None and wave <= last]
        asked = [unit for unit in units if unit.wave <= last]
        doubt = made.monitor.doubt(pair, cast, asked, units[len(asked) :])
        yield doubt, pair_mean(pair, cast, made.weights, made.rules), sum(vote.calls for vote in cast)


def _kept(p_b: float | None, rules: Rules) -> int:
    """1: b, -1: a, 0: neither."""
    if p_b is None or drop_reason(None, p_b, rules.margin) is not None:
        return 0
    return side_of(p_b)
