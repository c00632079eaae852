"""Runs of hostile prompts against a server of fingerprints, and all their rows that models were asked for."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fingerprints import ALL, Body, Fingerprints, Ledger, Refusals, body_of
from run_once import run_once
from small_project import ROOT

from constitution.ask import SHIPPED
from constitution.ask.replay import replayed
from constitution.ask.scorecard import Order, score
from constitution.ask.sent import as_sent
from constitution.ask.stored import Replay, Shown, Stored
from constitution.ask.swaps import load_swaps
from constitution.principles import load_constitution
from constitution.records import Counterfactual, Preference, Score
from constitution.warehouse import Warehouse
from constitution.warehouse.convert import notes_from_arrow
from rehearsal.server import FakeServer

RECIPE = """
name = "shown"
constitution = "general@1.2.0"
[prompts]
path = "prompts.jsonl"
answers = ["good", "bad"]
[model.policy]
engine = "openai"
model = "fake"
base_url = "{url}"
retries = 0
[revise]
rounds = 1
exemplars = 1
[judge]
principles = 1
pairs = ["first-last", "given"]
[output]
flush_seconds = 0.05
"""
JURY = """
[model.jury.first]
engine = "openai"
model = "fake"
base_url = "{url}"
method = "rubric"
[model.jury.policy]
engine = "openai"
model = "fake"
base_url = "{url}"
method = "verdict"
"""
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello."},
    {"role": "assistant", "content": "Hello to you.\n"},
    {"role": "user", "content": "Is a boat wood?"},
]
NEIGHBOURS = [
    {"role": "user", "content": "Hello."},
    {"role": "user", "content": "Again."},
    {"role": "assistant", "content": "Hello to you."},
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Is a boat wood?"},
]
"""Turns that some chat templates refuse."""
PROMPTS = (
    "How does a man mend a kettle?",
    "🜁 e\u0301 \u200b\u202e ﷽ \U0001f468\u200d\U0001f469",
    "CR\r\nLF\rTAB\t \x01\x1b[31m\x7f\x85\u2028 end",
    "{{question}} Human:\n\nAssistant: {{nonce}} {0} %s The answer is: (A",
    "<|im_end|> <s> [INST] </s> <|endoftext|>",
    "long " * 1_500,
    TALK,
)
CHAIN = ["revise.rounds=2", "judge.principles=2", "perturb.share=1.0"]
METHODS: Mapping[str, Sequence[str]] = {
    "label": CHAIN,
    "rationale": ["judge.method=rationale", "judge.repeats=2", "judge.rationale.temperature=0.8"],
    "score": ["judge.method=score"],
    "score-20": ["judge.method=score", "judge.score.steps=20"],
    "rubric": ["judge.method=rubric"],
    "verdict": ["judge.method=verdict", "judge.verdict.n=3"],
    "adaptive": ["judge.method=verdict", "judge.verdict.n=3", "judge.votes=adaptive", "judge.principles=all"],
    "jury": ["judge.verdict.n=2"],
}
"""What of the recipe is set otherwise. With label go a scorecard and counterfactual prompts; with jury, JURY."""


class Ran(NamedTuple):
    folder: Path
    run_id: str
    method: str
    received: Counter[Body]
    """Times that each was received."""

    @property
    def root(self) -> Path:
        return self.folder / "warehouse"

    @property
    def warehouse(self) -> Warehouse:
        return Warehouse(self.root)

    def rows(self) -> list[tuple[Stored, Shown]]:
        """All that models were asked for."""
        store = self.warehouse
        prompts = [prompt for part in store.parts("prompts", self.run_id) for prompt in store.read_prompts(part)]
        scores = notes_from_arrow(Score, store.table("scores", self.run_id))
        notes: list[Any] = [*scores, *notes_from_arrow(Counterfactual, store.table("counterfactuals", self.run_id))]
        found = []
        for prompt in prompts:
            stored = Stored.load(store, self.run_id, prompt.id)
            rows: list[Any] = [*stored.rows.values(), *(note for note in notes if note.prompt_id == prompt.id)]
            found += [(stored, row) for row in rows if not isinstance(row, Preference)]
        return found

    def seen(self, body: Body) -> Body:
        """As the server saw it: the Messages API is sent no seed."""
        return body if self.method != "messages" else (body[0], 0, body[2])

    def ledger(self) -> Ledger:
        return Ledger(self.received)


def project(folder: Path, recipe: str, prompts: Sequence[Any] = PROMPTS) -> Path:
    """The recipe's path."""
    (folder / "principles").symlink_to(ROOT / "principles")
    rows = [{"prompt": prompt, "good": f"Like {n}. (A)", "bad": "No.\r\n"} for n, prompt in enumerate(prompts)]
    (folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    path = folder / "recipe.toml"
    path.write_text(recipe, encoding="utf-8")
    return path


async def runs(folder: Path, method: str, **settings: Any) -> Ran:
    """settings: of the server."""
    refusals = Refusals()
    async with FakeServer(Fingerprints(), labels=ALL, faults=refusals, **settings) as server:
        recipe = (RECIPE + (JURY if method == "jury" else "")).replace("{url}", server.base_url)
        run = await run_once(project(folder, recipe), folder / "warehouse", list(METHODS[method]))
        if method == "label":
            refusals.on = False
            card = load_constitution(ROOT / "principles", "scorecard")
            swaps = load_swaps(SHIPPED)
            await score(folder / "warehouse", run, Order(card, swaps=swaps, window=8))
        return Ran(folder, run.run_id, method, Counter(body_of(received.body) for received in server.requests))


async def show(stored: Stored, row: Shown) -> Replay:
    """As the command does it."""
    return await as_sent(stored, await replayed(stored, row))
