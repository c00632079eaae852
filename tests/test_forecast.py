"""How often a forecast's interval holds what the whole then takes: by drawn populations, and by whole recipes."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from small_project import ROOT

from constitution.engines.base import Completion, Request
from constitution.identity import seed
from constitution.measures.forecast import total
from constitution.pipeline import open_run, prepare
from constitution.recipe import Recipe, load_recipe
from constitution.records import Run
from constitution.trial import Trial, try_recipe

TRIED = 16


def test_what_is_known_of_few() -> None:
    assert total([], [], 10, 1.0).value is None
    one = total([5], [1], 10, 1.0)
    assert (one.value, one.low, one.high) == (50, None, None)
    alike = total([5.0] * TRIED, [1] * TRIED, 100, 1.0)
    assert alike.value == 500
    assert alike.low == pytest.approx(500 * 0.806, abs=1)  # Wilson's interval of 16 in 16
    assert alike.high == pytest.approx(500 * 1.194, abs=1)


def test_sizes_correct_a_sample_of_small_parts() -> None:
    sizes = np.arange(1.0, 101.0)
    found = total(3 * sizes[:TRIED] + 7, sizes[:TRIED], 100, float(sizes.mean()))
    assert found.value == pytest.approx(float((3 * sizes + 7).sum()))


@pytest.mark.parametrize("sizes", ["alike", "skewed", "two kinds"])
@pytest.mark.parametrize("spread", [0.3, 0.8, 1.2])
@pytest.mark.parametrize("population", [50, 5000])
def test_coverage(sizes: str, spread: float, population: int) -> None:
    """Of 95 % intervals: over recipes whose shares of skipped revisions are 0 to 50 %, and texts' lengths lognormal."""
    draw = np.random.default_rng(3)
    held, trials = np.zeros(3), 200
    for _ in range(trials):
        size = {
            "alike": np.full(population, 50.0),
            "skewed": draw.lognormal(4, 1, population),
            "two kinds": np.where(draw.random(population) < 0.05, 2000.0, 60.0) * draw.lognormal(0, 0.3, population),
        }[sizes]
        skipped = draw.random(population) < draw.choice([0, 0.05, 0.2, 0.5])
        written = np.minimum(draw.lognormal(5, spread, (3, population)), 1024)
        votes = np.where(skipped, 0, 8)
        calls = 2.0 + ~skipped + votes
        out = written[0] + written[1] + np.where(skipped, 0, written[2]) + votes
        read = 2 * size + 300 + written[0] + np.where(skipped, 0, size + 300 + written[0] + written[1])
        read += votes * (size + 100 + written[0] + written[2])
        tried = draw.choice(population, TRIED, replace=False)
        for place, needs in enumerate((calls, out, read)):
            found = total(needs[tried], size[tried], population, float(size.mean()))
            assert found.low is not None
            assert found.high is not None
            held[place] += found.low <= needs.sum() * (1 + 1e-9) and needs.sum() * (1 - 1e-9) <= found.high
    # Prompts of two kinds, one of them rare and thirty times as long, are the hardest: it may not be among the sixteen.
    assert (held / trials >= (0.85 if sizes == "two kinds" else 0.9)).all(), held / trials


# --- whole recipes


class Made(NamedTuple):
    """How a simulated recipe's model behaves."""

    length: float
    """Mean of the logarithm of an answer's tokens."""
    spread: float
    """Standard deviation of it."""
    refused: float
    """Share of critiques that are refused, so that there is no revision."""
    unchanged: float
    """Share of revisions that are the answer again, so that there is no vote."""


class Simulated:
    """An `Engine` whose answers have these lengths. What it says follows from request and seed."""

    def __init__(self, made: Made) -> None:
        self._made = made

    model = "simulated"

    def describe(self) -> Mapping[str, str]:
        return {"name": self.model, **{name: str(value) for name, value in self._made._asdict().items()}}

    def stats(self) -> Mapping[str, Any]:
        return {}

    async def close(self) -> None:
        return

    async def generate(self, request: Request) -> Completion:
        made, drawn = self._made, random.Random(seed(request.seed, request.affinity, request.step))
        read = sum(len(message.content) for message in request.messages) // 4
        if request.choices:
            return Completion("A", "length", read, 1, 0, {"A": -0.5, "B": -1.0})
        step = request.step.partition("-")[0]
        if step == "critique" and drawn.random() < made.refused:
            return Completion("I'm sorry, but I can't help with that.", "stop", read, 12)
        if step == "revision" and drawn.random() < made.unchanged:
            answer = request.messages[-4].content if len(request.messages) > 3 else ""
            return Completion(answer, "stop", read, max(len(answer) // 4, 1))
        tokens = int(min(drawn.lognormvariate(made.length, made.spread), 2000)) + 1
        return Completion(f"{request.affinity[:6]} {step} " + "word" * tokens, "stop", read, tokens)


def simulated(folder: Path, number: int, prompts: int) -> tuple[Path, Recipe]:
    """Its own recipe, drawn by its number."""
    drawn = random.Random(number)
    made = Made(
        drawn.uniform(2, 5), drawn.choice([0.2, 0.6, 1.0]), drawn.choice([0, 0.1, 0.3]), drawn.choice([0, 0.1, 0.4])
    )
    folder.mkdir()
    (folder / "principles").symlink_to(ROOT / "principles")
    longer = drawn.choice([0.1, 0.7, 1.2])
    rows = [{"prompt": f"{n} " + "why " * int(drawn.lognormvariate(3, longer))} for n in range(prompts)]
    (folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    judges = drawn.choice([1, 2, 3])
    jury = "".join(f'[model.jury.j{n}]\nengine = "fake"\nprice = {{ input = {n + 1}.0 }}\n' for n in range(judges))
    pairs = drawn.choice([["first-last"], ["first-last", "parent"]])
    perturb = "[perturb]\nshare = 0.1\n" if drawn.random() < 0.3 else ""
    path = folder / "recipe.toml"
    path.write_text(
        f'name = "simulated"\nseed = {number}\nconstitution = "general@1.1.0"\n[prompts]\npath = "prompts.jsonl"\n'
        f'[model.policy]\nengine = "fake"\nprice = {{ input = 1.0, output = 4.0 }}\n{jury}'
        f"[revise]\nrounds = {drawn.choice([1, 2])}\nexemplars = {drawn.choice([0, 2])}\n{perturb}"
        f"[judge]\nprinciples = {drawn.choice([1, 2])}\npairs = {json.dumps(pairs)}\n",
        encoding="utf-8",
    )
    roles = ("policy", *(f"j{n}" for n in range(judges)))
    recipe = load_recipe(path)
    sections = recipe.model
    given = recipe.with_engines({role: Simulated(made) for role in roles}).model
    priced = {
        "policy": given.policy.model_copy(update={"price": sections.policy.price}),
        "jury": {
            name: each.model_copy(update={"price": sections.jury[name].price}) for name, each in given.jury.items()
        },
    }
    return path, recipe.model_copy(update={"model": given.model_copy(update=priced)})


async def foreseen_and_found(folder: Path, number: int, prompts: int) -> tuple[Trial, Run]:
    path, recipe = simulated(folder, number, prompts)
    trial = await try_recipe(recipe, path, folder / "w", TRIED)
    plan = prepare(recipe, path, folder / "w")
    async with open_run(plan) as session:
        await session.walk()
        return trial, await session.finish()


def held(trial: Trial, run: Run) -> dict[str, bool]:
    """Whether the run took what was forecast."""
    took = {
        "calls": sum(used.calls for used in run.usage),
        "tokens_in": run.counts["prompt_tokens"],
        "tokens_out": run.counts["completion_tokens"],
        "cost": run.cost or 0.0,
    }
    ends = {name: (trial.forecast[name].low or 0.0, trial.forecast[name].high or 0.0) for name in took}
    return {name: ends[name][0] <= took[name] <= ends[name][1] for name in took}


async def recipes(folder: Path, count: int, prompts: int) -> dict[str, int]:
    """Of that many recipes, those whose forecast held."""
    right: dict[str, int] = {}
    for number in range(count):
        for name, kept in held(*await foreseen_and_found(folder / str(number), number, prompts)).items():
            right[name] = right.get(name, 0) + kept
    return right


async def test_a_few_recipes_take_what_was_forecast(tmp_path: Path) -> None:
    right = await recipes(tmp_path, 2, 40)
    assert all(kept == 2 for kept in right.values()), right


@pytest.mark.torture
async def test_forty_recipes_take_what_was_forecast(tmp_path: Path) -> None:
    right = await recipes(tmp_path, 40, 300)
    assert all(kept >= 36 for kept in right.values()), right
