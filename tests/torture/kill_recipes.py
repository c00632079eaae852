"""The runs that are killed: recipes that differ in kind, their project, and what a kill may cost each of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from constitution.judge.methods import METHODS
from constitution.principles import load_constitution
from constitution.principles.selection import select
from constitution.recipe import Recipe
from constitution.templates import GRADES, LABELS, REPLIES
from constitution.warehouse.writer import FULL

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Kind:
    """A recipe, and the servers behind its models."""

    text: str
    """TOML; `{name}` is the address of the server of that name."""
    prompts: int
    servers: Mapping[str, Mapping[str, Any]]
    """By name, the fields of the fake model that each serves; `labels`: tokens that it gives log-probabilities of."""
    mortal: str = ""
    """A server that is itself killed and started again all the while; empty: none."""
    prefect: bool = False
    """With Prefect's own server."""
    changes: Mapping[str, str] = field(default_factory=dict)
    """What HEAD and the text leave open."""
    applied: str = ""
    """How the whole run's votes make its labels, at its end; empty: each pair's own make them."""


HEAD = """
name = "killed"
seed = {seed}
constitution = "general@1.2.0"
[prompts]
path = "prompts.jsonl"
{prompts}
[model.policy]
engine = "openai"
model = "fake"
base_url = {policy}
concurrency = 12
timeout_s = 30
family = "fake"
"""
OUTPUT = """
[output]
slice = 25
window = 4
flush_rows = 4
flush_seconds = 0.1
"""
POLICY = {"latency_s": 0.004, "verbosity": 3}
JUDGE = {"latency_s": 0.002, "position_bias": 0.4, "model": "judge"}


def judge(name: str = "judge", server: str = "judge") -> str:
    address = f'base_url = "{{{server}}}"\nconcurrency = 12\ntimeout_s = 30'
    return f'[model.{name}]\nengine = "openai"\nmodel = "judge"\nfamily = "{server}"\n{address}\n'


KINDS = {
    "revise": Kind(HEAD + "[revise]\nrounds = 2\n" + OUTPUT, 100, {"policy": POLICY}),
    "jury": Kind(
        HEAD
        + judge("jury.one", "one")
        + judge("jury.two", "two")
        + '[revise]\nrounds = 1\n[judge]\nquorum = 2\nprinciples = 2\npairs = ["first-last", "parent"]\n'
        + OUTPUT,
        50,
        {"policy": POLICY, "one": JUDGE, "two": {**JUDGE, "noise": 2.0}},
    ),
    "given": Kind(
        HEAD
        + judge()
        + '[revise]\nrounds = 0\n[judge]\nprinciples = 2\npairs = ["given"]\ncalibrate = "temperature"\n'
        + OUTPUT,
        130,
        {"policy": POLICY, "judge": JUDGE},
        changes={"prompts": 'answers = ["good", "bad"]\ngold = "good"'},
        applied="mean, temperature",
    ),
    "settled": Kind(
        HEAD
        + judge()
        + '[revise]\nrounds = 1\n[judge]\nmethod = "rationale"\nprinciples = 1\nrepeats = 2\n'
        + "rationale = { temperature = 0.7 }\n"
        + 'aggregate = "dawid-skene"\ncontrol = "style"\n'
        + OUTPUT,
        70,
        {"policy": POLICY, "judge": {**JUDGE, "length_bias": 3.0}},
        applied="dawid-skene, rationale, style",
    ),
    "adaptive": Kind(
        HEAD
        + judge("jury.one", "one")
        + judge("jury.two", "two")
        + '[revise]\nrounds = 1\n[judge]\nvotes = "adaptive"\nprinciples = 6\n'
        + OUTPUT,
        40,
        {"policy": POLICY, "one": {**JUDGE, "noise": 5.0}, "two": {**JUDGE, "noise": 3.0}},
    ),
    "turns": Kind(
        HEAD + judge() + "[revise]\nrounds = 1\n[judge]\nprinciples = 1\n" + OUTPUT,
        30,
        {"policy": POLICY, "judge": JUDGE},
        changes={"prompts": 'turns = "turns"'},
    ),
    "fleet": Kind(
        HEAD
        + judge()
        + '[revise]\nrounds = 1\n[judge]\nmethod = "score"\nprinciples = 1\n[perturb]\nshare = 0.6\n'
        + OUTPUT,
        60,
        {"policy": POLICY, "second": POLICY, "judge": {**JUDGE, "labels": GRADES}},
        mortal="second",
        changes={"policy": '["{policy}", "{second}"]'},
    ),
    "sampled": Kind(
        HEAD.replace("general@1.2.0", "general@1.3.0")
        + judge()
        + '[sample.for]\nsystem_prompt = "aim"\nn = 2\n[sample.against]\nsystem_prompt = "against"\nn = 2\n'
        + '[sample.second]\nsystem_prompt = "debate"\nsees = "others"\n'
        + '[reward]\nby = ["rubric", "rule"]\nprinciples = ["even-handed", "no-preaching"]\ncombine = "veto"\n'
        + "rules = { words = [20, 60] }\nlength = { limit = 50, ramp = 20 }\n"
        + '[judge]\nprinciples = 1\npairs = ["contrast", "best-worst"]\ncontrast = ["for", "against"]\n'
        + OUTPUT,
        40,
        {"policy": POLICY, "judge": {**JUDGE, "labels": (*LABELS, *REPLIES)}},
    ),
    "long": Kind(
        HEAD
        + judge()
        + '[revise]\nrounds = 4\nexemplars = 2\n[judge]\nprinciples = 1\npairs = ["parent"]\n'
        # Nothing is written but at the end of a start: what SIGTERM and SIGINT cost is seen best.
        + OUTPUT.replace("25", "3").replace("flush_rows = 4", "flush_rows = 2000").replace("0.1", "60"),
        40,
        {"policy": POLICY, "judge": JUDGE},
    ),
    "prefect": Kind(
        HEAD + judge() + "[revise]\nrounds = 1\n[judge]\nprinciples = 2\n" + OUTPUT,
        60,
        {"policy": POLICY, "judge": JUDGE},
        prefect=True,
    ),
}


def write_project(folder: Path, kind: Kind, seed: int) -> None:
    """A project with the repository's principles and flows, and prompts."""
    for name in ("principles", "flows"):
        shutil.copytree(ROOT / name, folder / name)
    (folder / "recipes").mkdir()
    rows: list[dict[str, Any]] = [
        {
            "prompt": f"What is to be known of matter {seed}-{number}?",
            "good": f"Of {number}: Check the label before you begin. Ask someone who knows if you are unsure.",
            "bad": f"Of {number}: Nobody reads labels, just begin. " + "Opinions differ. " * (number % 3),
        }
        for number in range(kind.prompts)
    ]
    if "turns" in kind.changes.get("prompts", ""):
        rows = [{"turns": [row["prompt"], "Say it shorter.", "And why?"][: 1 + n % 3]} for n, row in enumerate(rows)]
    (folder / "recipes" / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_recipe(folder: Path, kind: Kind, seed: int, addresses: Mapping[str, str]) -> Path:
    """The recipe with these servers, whose addresses are no part of the run."""
    path = folder / "recipes" / "killed.toml"
    fields = {"seed": str(seed), "prompts": "", "policy": '"{policy}"', **kind.changes}
    text = kind.text
    for name, value in fields.items():
        text = text.replace(f"{{{name}}}", value) if name != "policy" else text.replace("= {policy}", f"= {value}")
    for name, address in addresses.items():
        text = text.replace(f"{{{name}}}", address)
    path.write_text(text)
    return path


def calls_of_a_row(recipe: Recipe) -> int:
    """Calls that the dearest row takes: a revision has a critique before it, a vote of these methods two readings."""
    method = recipe.judge.method if recipe.judge else "label"
    return 2 if recipe.revise.rounds or method in ("rationale", "score") else 1


def calls_at_once(recipe: Recipe) -> int:
    """Calls of one prompt that can be answered or in flight without a row that the writer has taken: critique and
    revision; or all samples of a wave; or all readings of all answers; or all votes on its pairs, each with all its
    readings; or all of its perturbations."""
    most, section = 2 if recipe.revise.rounds else max(1, recipe.samples), recipe.judge
    if recipe.reward is not None:
        principles = load_constitution(ROOT / "principles", recipe.constitution).principles
        criteria = sum(len(each.criteria) for each in select(principles, recipe.reward.principles, "reward"))
        most = max(most, recipe.samples * criteria * max(1, len(recipe.model.jury)))
    if section is not None:
        assert isinstance(section.principles, int)
        readings = 2 if section.method in ("rationale", "score") else 1
        judges = max(1, len(recipe.model.jury))
        most = max(most, judges * len(METHODS[section.method].orders) * section.principles * section.repeats * readings)
        if recipe.perturb is not None:
            most = max(most, len(recipe.perturb.kinds))
    return most


def lost_in_order(recipe: Recipe) -> int:
    """Answered calls that SIGTERM or SIGINT may cost: all that is buffered is written, so only what the prompts in the
    window had in flight, critiques without their revision, and readings of votes that were not complete."""
    return recipe.output.window * calls_at_once(recipe)


def lost_at_once(recipe: Recipe) -> int:
    """Answered calls that SIGKILL may cost: besides, the rows that the writer had taken and not written. It takes none
    while FULL × flush_rows or more wait, so one less and then the rows of one `put`: an answer and its failure, or two
    given answers."""
    waiting = FULL * recipe.output.flush_rows - 1 + 2
    return lost_in_order(recipe) + waiting * calls_of_a_row(recipe)
