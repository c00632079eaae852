"""The jobs of `make bench-vllm`: on a CPU the rehearsal's, on a GPU one of the size that people run.

A dummy model has the shape of a real one and random weights, so its speed is real and its text is not. It has no end
token: no answer ends before max_tokens, and every run does the same work.
"""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from constitution.engines.weights import POCKET
from constitution.recipe import Recipe, load_recipe
from constitution.records import as_dicts
from rehearsal.prompts import held_out_requests

ROOT = Path(__file__).parent.parent
RECIPE = ROOT / "recipes" / "pocket.toml"
WORDS = (  # noqa: SIM905
    "water river stone bread lamp winter letter garden honest quiet market bridge music paper window road please"
    " explain why how many people would rather keep the old house than sell it and what they should tell a friend"
).split()


@dataclass(frozen=True)
class Shape:
    """A model and a job for it."""

    what: str
    """In words, for the report."""
    layers: dict[str, int] | None
    """Of a dummy model, by the names of Llama's config; None: the pocket model."""
    arguments: dict[str, Any]
    """vLLM's, the same for every contender."""
    overrides: tuple[str, ...] = ()
    """Of recipes/pocket.toml."""
    words: tuple[int, int] = (60, 150)
    """Length of a prompt for a dummy model, from and to."""


CPU = {
    "dtype": "float32",
    "enforce_eager": True,
    "max_model_len": 2048,
    "max_num_seqs": 256,
    # As the library's engine on a CPU has it; vLLM's own 128 would cost all contenders a quarter more.
    "block_size": 32,
    # A seeded request whose prompt is read in chunks ends the CPU build's engine.
    "enable_chunked_prefill": False,
    "max_num_batched_tokens": 8192,
}
LONG = (
    'constitution="general@1.1.0"',
    "revise.exemplars=2",
    "revise.initial.max_tokens=256",
    "revise.critique.max_tokens=128",
    "revise.revision.max_tokens=256",
    'judge.only=["true-statements","no-preaching","no-help-with-harm","respectful-tone"]',
)
LLAMA_8B = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
}
TINY = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
}
SHAPES = {
    "pocket": Shape("the pocket model, as in recipes/pocket.toml", None, CPU),
    "llama-8b": Shape(
        "the layers of Llama 3 8B (7.0 B parameters, a vocabulary of 1,024), dummy weights, outputs of fixed length",
        LLAMA_8B,
        # Two engines stand side by side on the accelerator.
        {"dtype": "bfloat16", "max_model_len": 8192, "max_num_seqs": 512, "gpu_memory_utilization": 0.45},
        LONG,
    ),
    "tiny": Shape(
        "a dummy model of 0.1 M parameters: tries the GPU's job out on a CPU",
        TINY,
        {**CPU, "max_model_len": 4096},
        ('constitution="general@1.1.0"', "revise.initial.max_tokens=24", 'judge.only=["true-statements"]'),
        words=(10, 20),
    ),
}


@dataclass(frozen=True)
class Job:
    """A shape laid out in a folder, ready for the contenders."""

    shape: Shape
    folder: Path
    prompts: int
    window: int
    more: dict[str, Any] = field(default_factory=dict)
    """Further engine arguments, for all contenders."""

    @property
    def model(self) -> Path:
        return self.folder / "model" if self.shape.layers else POCKET

    @property
    def arguments(self) -> dict[str, Any]:
        dummy = {"load_format": "dummy"} if self.shape.layers else {}
        return {**self.shape.arguments, **dummy, **self.more}

    def recipe(self) -> Recipe:
        engine = {"engine": "vllm", "model": str(self.model) if self.shape.layers else "pocket"}
        return load_recipe(
            RECIPE,
            [
                *(f"model.policy.{name}={json.dumps(value)}" for name, value in engine.items()),
                *(f"model.policy.vllm.{name}={json.dumps(value)}" for name, value in self.arguments.items()),
                f"prompts.path={self.folder / 'prompts.jsonl'}",
                f"prompts.limit={self.prompts}",
                f"output.window={self.window}",
                *self.shape.overrides,
            ],
        )

    def write(self) -> None:
        """Prompts, and the dummy model's configuration and tokenizer."""
        rows = dummy_prompts(self.prompts, self.shape.words) if self.shape.layers else pocket_prompts(self.prompts)
        (self.folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        if self.shape.layers:
            write_dummy(self.model, self.shape.layers)


def pocket_prompts(count: int) -> list[dict[str, Any]]:
    """As recipes/pocket-prompts.jsonl, and more of them."""
    return [{"messages": as_dicts(request.messages), "tags": [request.type]} for request in held_out_requests(count, 7)]


def dummy_prompts(count: int, words: tuple[int, int]) -> list[dict[str, Any]]:
    draw = random.Random(1)
    texts = [f"{number}: " + " ".join(draw.choices(WORDS, k=draw.randint(*words))) for number in range(count)]
    return [{"prompt": text, "tags": []} for text in texts]


def write_dummy(folder: Path, layers: dict[str, int]) -> None:
    """A Llama of these layers without weights, with the pocket model's tokenizer and no end token."""
    folder.mkdir(parents=True)
    for name in ("tokenizer.json", "chat_template.jinja"):
        shutil.copy(POCKET / name, folder)
    settings = json.loads((POCKET / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"eos_token": None}))
    config = json.loads((POCKET / "config.json").read_text())
    config |= {"eos_token_id": None, "tie_word_embeddings": False, "max_position_embeddings": 8192, **layers}
    (folder / "config.json").write_text(json.dumps(config))
