"""A scorecard from beginning to end: counterfactual prompts answered, every answer asked about.

asked = await score(root, run, Order(scorecard))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from constitution.ask import EVERY, WINDOW
from constitution.ask.panel import Panel, recipe_of
from constitution.ask.scorecard import Asked, Told, ask_scorecard, items_of
from constitution.ask.swaps import Group, answer_swapped
from constitution.records import Constitution, Run
from constitution.warehouse import Warehouse


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be asked, and of whom."""

    scorecard: Constitution
    panel: Panel | None = None
    """None: the run's own judges, by its recipe."""
    swaps: Sequence[Group] = ()
    """Terms to swap in prompts; none: no counterfactual prompt is answered."""
    sample: int = EVERY
    """Prompts at the most, drawn by their ids."""
    window: int = WINDOW
    """Answers in flight at the most."""


async def score(root: Path, run: Run, order: Order, told: Told | None = None) -> list[Asked]:
    """What became of the counterfactual prompts, where there are swaps, and of each judge's questions.

    What was answered before is not asked again. Raises PrincipleError for a constitution that is no scorecard,
    InputError for a run whose recipe or policy is not to be had, and what opening an engine raises.
    """
    items_of(order.scorecard)  # a fault is told before a model loads
    panel = order.panel
    if panel is None:
        recipe = recipe_of(run)
        panel = Panel.of(recipe.model, recipe.judge, recipe.seed)
    limits, asked = {"sample": order.sample, "window": order.window}, []
    with Warehouse(root).scoring(run.run_id):
        if order.swaps:
            asked.append(await answer_swapped(root, run, order.swaps, **limits, told=told))
        return asked + await ask_scorecard(root, run, order.scorecard, panel, **limits, told=told)
