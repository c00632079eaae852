"""Which principles a recipe asks for, and which of them a round is made by."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import lru_cache

from constitution.errors import RecipeError
from constitution.identity import seed
from constitution.records import Principle


@lru_cache(maxsize=4096)
def digest_of(principle: Principle) -> str:
    """`principle.digest`, worked out once: a run asks for it with every vote."""
    return principle.digest


def select(principles: Sequence[Principle], names: Sequence[str], where: str) -> tuple[Principle, ...]:
    """Those whose id or one of whose tags is in `names`, in the constitution's order; all of them without names.

    Raises RecipeError for a name that fits none, and when nothing is left; `where` is the recipe's field.
    """
    known = {name for principle in principles for name in (principle.id, *principle.tags)}
    for name in names:
        if name not in known:
            raise RecipeError(f"{where}: no principle of this use has the id or tag {name!r}", hint=_listed(known))
    chosen = tuple(p for p in principles if not names or {p.id, *p.tags} & set(names))
    if not chosen:
        raise RecipeError(f"{where}: the constitution has no principle for this", hint="name another constitution")
    return chosen


def draw_principle(principles: Sequence[Principle], run_seed: int, prompt_id: str, round: int | str) -> Principle:
    """One principle by weight; rounds are drawn independently, so with replacement, in whatever order prompts end."""
    if len(principles) == 1:
        return principles[0]
    generator = random.Random(seed(run_seed, prompt_id, "principle", round))
    return generator.choices(principles, weights=[principle.weight for principle in principles])[0]


def _listed(names: set[str]) -> str:
    return "it has: " + ", ".join(sorted(names)) if names else "it has none"
