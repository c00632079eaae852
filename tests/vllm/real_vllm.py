"""A real vLLM on the CPU: one engine in process and one server for all of these tests.

They run where vLLM is installed: `make test-vllm`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from vllm_cpu import serving

from constitution.engines.transformers import TransformersEngine
from constitution.engines.vllm import VLLMEngine
from constitution.engines.weights import POCKET
from constitution.recipe import TransformersModel, VLLMModel
from constitution.records import Message, Messages

ROOT = Path(__file__).parents[2]
CONTEXT = 2048
ARGUMENTS = {"dtype": "float32", "enforce_eager": True, "max_model_len": CONTEXT, "max_num_seqs": 32}
"""As FACTS of vLLM on a CPU say: eager, in the precision that transformers computes in."""


@pytest.fixture(scope="session")
def conversations() -> list[Messages]:
    lines = (ROOT / "recipes" / "pocket-prompts.jsonl").read_text(encoding="utf-8").splitlines()
    return [tuple(Message(**turn) for turn in json.loads(line)["messages"]) for line in lines[:48]]


@pytest.fixture(scope="session")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A LoRA adapter of the pocket model with random weights, and the model into which it is merged."""
    import torch
    from safetensors.torch import load_file, save_file

    folder, merged = tmp_path_factory.mktemp("lora") / "kind", tmp_path_factory.mktemp("merged") / "kind"
    folder.mkdir()
    shutil.copytree(POCKET, merged)
    weights = {name: each.float() for name, each in load_file(POCKET / "model.safetensors").items()}
    torch.manual_seed(3)
    rank, alpha = 4, 8
    made: dict[str, Any] = {}
    for name in [name for name in weights if name.endswith(("q_proj.weight", "v_proj.weight"))]:
        out_size, in_size = weights[name].shape
        down, up = torch.randn(rank, in_size) * 0.05, torch.randn(out_size, rank) * 0.05
        stem = "base_model.model." + name.removesuffix(".weight")
        made |= {f"{stem}.lora_A.weight": down, f"{stem}.lora_B.weight": up}
        weights[name] = weights[name] + alpha / rank * up @ down
    save_file(made, folder / "adapter_model.safetensors")
    save_file({name: each.contiguous() for name, each in weights.items()}, merged / "model.safetensors")
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "target_modules": ["q_proj", "v_proj"]}
    config |= {"base_model_name_or_path": str(POCKET), "bias": "none", "task_type": "CAUSAL_LM"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder, merged


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def engines(adapter: tuple[Path, Path]) -> AsyncIterator[list[VLLMEngine]]:
    """Of the pocket model: without an adapter, and with one; both on one engine of vLLM's."""
    base = VLLMModel(engine="vllm", model="pocket", vllm=dict(ARGUMENTS))
    opened = await VLLMEngine.open_together([base, base.model_copy(update={"adapter": str(adapter[0])})])
    yield opened
    for engine in opened:
        await engine.close()


@pytest.fixture(scope="session")
def engine(engines: list[VLLMEngine]) -> VLLMEngine:
    return engines[0]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def reference() -> AsyncIterator[TransformersEngine]:
    opened = await TransformersEngine.open(TransformersModel(engine="transformers", model="pocket"))
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of a server."""
    table = {**ARGUMENTS, "model": "pocket", "enable_chunked_prefill": False, "distributed_executor_backend": "uni"}
    with serving("served-pocket", table, tmp_path_factory.mktemp("server") / "log") as url:
        yield url
