"""The job of `engine.py` as each client is given it: prompts, recipe, command line and environment."""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.job import QUESTIONS, SAMPLES
from benchmarks.sim_engine import WORDS

ROOT = Path(__file__).parent.parent
PEERS = ROOT / "build" / "peers"
RECIPE = """
name = "bench"
constitution = "{constitution}"
[prompts]
path = "prompts.jsonl"
[model.policy]
engine = "openai"
model = "sim"
base_url = "{base_url}"
dialect = "vllm"
concurrency = {concurrency}
{steps}
[output]
window = {window}
"""
CHAIN = """
[revise]
rounds = {rounds}
principles = ["answers-the-request"]
exemplars = 0
{judge}
"""
JUDGE = """[judge]
only = ["answers-the-request"]
"""
SAMPLED = f"""
[sample.eight]
n = {SAMPLES}
[reward]
principles = ["undesired"]
"""


@dataclass(frozen=True)
class Part:
    """A comparison: the same job for several clients."""

    title: str
    clients: tuple[str, ...]
    speed: float
    """Of the simulated engine; 10: ten times as fast as a large model on a GPU."""
    long: bool = False
    """The chain of five answers, without votes."""
    samples: bool = False
    """Eight samples, and seven criteria of each, in place of the chain and its votes."""
    once: bool = False
    """One trial a client; else as many as --repeats."""
    cache_tokens: int = 524_288
    """That the engine's prefix cache holds."""
    window: int = 256
    """Prompts in flight, of ours; two votes of each are asked at once."""
    slots: int = 256
    """Requests that the engine runs at once."""
    words: tuple[int, int] = (60, 150)
    """Of a prompt: at least and at most."""
    stragglers: float = 0.0
    """Share of the requests that take thirty times as long."""

    @property
    def calls(self) -> int:
        """A prompt."""
        return SAMPLES * (1 + len(QUESTIONS)) if self.samples else 5

    @property
    def rounds(self) -> int:
        return 2 if self.long else 1

    @property
    def median_tokens(self) -> int:
        return 120 if self.long else 100


PARTS = {
    "real": Part("Real time", ("bare", "ours", "command"), 1.0, once=True),
    "fast": Part("Ten-fold speed", ("bare", "ours"), 10.0),
    "long": Part("Ten-fold speed, five answers of real length", ("bare", "ours"), 10.0, long=True),
    "flood": Part("Hundred-fold speed: the client alone is the bottleneck", ("bare", "ours"), 100.0),
    "memory": Part("Memory", ("ours",), 10.0, once=True),
    "profile": Part("Where the CPU goes, ten-fold speed, five answers", ("profile",), 10.0, long=True, once=True),
    "samples": Part("Ten-fold speed, eight samples and seven criteria of each", ("bare", "ours"), 10.0, samples=True),
    "prefixes": Part(
        "The same, with a prefix cache without end", ("ours",), 10.0, samples=True, once=True, cache_tokens=2**40
    ),
    "samples-memory": Part("Memory, eight samples", ("ours",), 10.0, samples=True, once=True),
    "peers": Part("Peers, ten-fold speed", ("bare", "ours"), 10.0, once=True),
}
PEER_PROMPTS = 1000
"""Fewer than ours: some are slow."""


@dataclass(frozen=True)
class Job:
    """What a client is given."""

    base_url: str
    folder: Path
    part: Part
    prompts: int

    @property
    def file(self) -> Path:
        return self.folder / "prompts.jsonl"

    @property
    def warehouse(self) -> Path:
        return self.folder / "warehouse"

    def recipe(self) -> Path:
        """Ours: a project folder with the recipe."""
        (self.folder / "principles").symlink_to(ROOT / "principles")
        path = self.folder / "bench.toml"
        part, name = self.part, "pocket-scorecard@1.0.0" if self.part.samples else "general@1.1.0"
        chain = CHAIN.format(rounds=part.rounds, judge="" if part.long else JUDGE)
        steps = SAMPLED if part.samples else chain
        sizes = {"window": part.window, "concurrency": 2 * part.window}
        path.write_text(RECIPE.format(base_url=self.base_url, constitution=name, steps=steps, **sizes))
        return path


Command = Callable[[Job], list[str]]


def bare(job: Job) -> list[str]:
    given = ["--base-url", job.base_url, "--prompts", str(job.file)]
    return [sys.executable, "-m", "benchmarks.bare", *given, *_how(job.part)]


def _how(part: Part) -> list[str]:
    return [f"--{name}" for name in ("long", "samples") if getattr(part, name)]


def ours(job: Job) -> list[str]:
    return [sys.executable, "-m", "benchmarks.ours", str(job.recipe()), str(job.warehouse)]


def profile(job: Job) -> list[str]:
    return [*ours(job), "--profile"]


def command(job: Job) -> list[str]:
    constitution = str(Path(sys.executable).parent / "constitution")
    return [constitution, "run", str(job.recipe()), "--warehouse", str(job.warehouse)]


def peer(module: str, *more: str) -> Command:
    """A script of benchmarks/peers in its own environment."""

    def line(job: Job) -> list[str]:
        python = PEERS / module / "bin" / "python"
        given = ["--base-url", job.base_url, "--prompts", str(job.file), "--out", str(job.folder)]
        return [str(python), "-m", f"benchmarks.peers.{module}", *given, *more]

    return line


CLIENTS: dict[str, Command] = {
    "bare": bare,
    "ours": ours,
    "command": command,
    "profile": profile,
    "datatrove": peer("datatrove"),
    "datatrove, checkpoints": peer("datatrove", "--checkpoints"),
    "data-designer": peer("datadesigner"),
    "inspect_ai": peer("inspect"),
}
QUIET = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "NEMO_TELEMETRY_ENABLED": "false",
    "OPENAI_API_KEY": "none",
    "SIM_API_KEY": "none",
    "TELEMETRY_ENABLED": "false",
}
"""Environment of the clients: no telemetry, no line of log for every request."""


def environment(folder: Path) -> dict[str, str]:
    """What clients are started with; what they keep under their home goes to `folder`, but for their caches, which a
    user's second run has."""
    own = {"PREFECT_HOME": str(folder), "HOME": str(folder), "XDG_CACHE_HOME": str(ROOT / "build" / "bench" / "cache")}
    variables = os.environ | QUIET | {"PYTHONPATH": str(ROOT), **own}
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    # Two peers count tokens with tiktoken, which downloads its tables; litellm carries them.
    for tables in PEERS.glob("*/lib/*/site-packages/litellm/litellm_core_utils/tokenizers"):
        variables["TIKTOKEN_CACHE_DIR"] = str(tables)
    return variables


def write_prompts(path: Path, count: int, words: tuple[int, int] = (60, 150)) -> None:
    """Requests with a number of words between the two, always the same, each with its own number."""
    generator = random.Random(1)
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            text = " ".join(generator.choices(WORDS, k=generator.randint(*words)))
            file.write(json.dumps({"prompt": f"Question {number}. {text.capitalize()}?"}) + "\n")
