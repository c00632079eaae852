"""Opening vLLM, its arguments, and its end; each against vLLM itself."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from real_vllm import ARGUMENTS

from constitution.engines import open_engine
from constitution.engines.vllm_args import OPERATIONAL, OWNED, flag, serve_command
from constitution.engines.vllm_start import arguments
from constitution.engines.weights import POCKET
from constitution.errors import ModelLoadError, RecipeError
from constitution.recipe import OpenAIModel, VLLMModel


def section(**table: Any) -> VLLMModel:
    return VLLMModel(engine="vllm", model="pocket", vllm=table)


# --- arguments


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"max_modl_len": 512}, "no such argument; did you mean max_model_len?"),
        ({"max_model_len": "much"}, "max_model_len"),
        ({"gpu_memory_utilization": "half"}, "invalid float value: 'half'"),
        ({"max_num_seqs": 0.5}, "invalid int value: '0.5'"),
        ({"enforce_eager": "yes"}, "expected true or false"),
        ({"max_num_seqs": True}, "a value and not true or false"),
        ({"dtype": "float99"}, "invalid choice: 'float99'"),
        ({"compilation_config": {"moed": 1}}, "compilation_config"),
        ({"model": "other"}, "cannot be set here"),
    ],
)
async def test_a_wrong_argument_is_told_before_any_model_loads(table: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        await open_engine(section(**table))
    assert said in str(caught.value)
    assert next(iter(table)) in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_values_are_what_vllms_command_line_makes_of_them() -> None:
    found = arguments(
        section(
            max_model_len=512,
            quantization="fp8",
            enable_prefix_caching=False,
            cudagraph_capture_sizes=[1, 2],
            hf_overrides={"max_position_embeddings": 99},
            compilation_config={"mode": 0},
            limit_mm_per_prompt={"image": 1},
        )
    )
    assert (found["max_model_len"], found["quantization"]) == (512, "fp8")
    assert found["enable_prefix_caching"] is False
    assert found["cudagraph_capture_sizes"] == [1, 2]
    assert found["hf_overrides"] == {"max_position_embeddings": 99}
    assert int(found["compilation_config"].mode) == 0


def serve_parser() -> Any:
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    return make_arg_parser(FlexibleArgumentParser())


async def test_every_argument_has_its_flag() -> None:
    """`flag` writes a name with dashes: every argument of the engine is known to `vllm serve` so."""
    from vllm.engine.arg_utils import AsyncEngineArgs

    options = {option for action in serve_parser()._actions for option in action.option_strings}
    names = {field.name for field in fields(AsyncEngineArgs)}
    # What vLLM sets itself, and what its own command line does not offer either.
    unknown = {name for name in names if flag(name, True)[0] not in options and not name.startswith("_")}
    assert len(names - unknown) > 150
    for name in unknown:
        with pytest.raises(RecipeError, match=r"no such argument|cannot be set here"):
            arguments(section(**{name: "x"}))
    # Names that are left out of a run's identity, or refused, are names: all but a few that other versions have.
    assert len((OPERATIONAL | set(OWNED)) - names) < 20


@pytest.mark.parametrize(
    "model",
    [
        VLLMModel(
            engine="vllm",
            model="pocket",
            adapter="/adapters/kind",
            revision="abc",
            vllm={
                **ARGUMENTS,
                "tensor_parallel_size": 2,
                "quantization": "fp8",
                "enable_prefix_caching": False,
                "cudagraph_capture_sizes": [1, 2],
                "hf_overrides": {"rope_parameters": {"rope_theta": 5.0}},
                "compilation_config": {"mode": 0},
                "speculative_config": {"method": "ngram", "num_speculative_tokens": 3},
            },
        ),
        OpenAIModel(
            engine="openai",
            model="m",
            base_url="http://127.0.0.1:8123/v1",
            vllm={"model": "org/weights", "lora_modules": {"kind": "/adapters/kind"}, "uvicorn_log_level": "warning"},
        ),
    ],
    ids=["vllm", "openai"],
)
async def test_the_serve_command_is_one_that_vllm_takes(model: VLLMModel | OpenAIModel) -> None:
    words = serve_command(model)
    assert words[:2] == ["vllm", "serve"]
    read = serve_parser().parse_args(["--model", *words[2:]])
    assert read.served_model_name == [model.model]
    assert (read.host, read.port) == ("127.0.0.1", 8000 if model.engine == "vllm" else 8123)
    assert (read.scheduling_policy, read.generation_config, read.load_format) == ("priority", "vllm", "safetensors")
    assert read.enable_prompt_tokens_details
    assert read.enable_lora
    assert [(each.name, each.path) for each in read.lora_modules] == [("kind", "/adapters/kind")]
    assert read.max_logprobs >= 20
    assert not read.trust_remote_code
    if model.engine == "vllm":
        assert (read.model, read.revision, read.quantization) == (str(POCKET), "abc", "fp8")
        assert read.hf_overrides == {"rope_parameters": {"rope_theta": 5.0}}
        assert read.speculative_config == {"method": "ngram", "num_speculative_tokens": 3}
        assert read.cudagraph_capture_sizes == [1, 2]
    else:
        assert (read.model, read.uvicorn_log_level) == ("org/weights", "warning")


# --- what cannot be opened


async def test_a_model_that_vllm_does_not_load_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"not safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "unheard-of", "architectures": ["UnheardOf"]}))
    with pytest.raises(ModelLoadError, match="vLLM cannot load it") as caught:
        await open_engine(VLLMModel(engine="vllm", model=str(tmp_path)))
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_a_table_that_vllm_itself_refuses_is_told_in_one_line() -> None:
    with pytest.raises(ModelLoadError) as caught:
        await open_engine(section(**ARGUMENTS, max_num_batched_tokens=64, enable_chunked_prefill=False))
    assert "max_num_batched_tokens" in str(caught.value)
    assert "\n" not in str(caught.value)


# --- its end

DEAD = """
import asyncio, multiprocessing, os, signal
from constitution.engines.base import Request
from constitution.engines.vllm import VLLMEngine
from constitution.recipe import VLLMModel
from constitution.records import Message, Sampling

async def main():
    engine = await VLLMEngine.open(VLLMModel(engine="vllm", model="pocket", vllm=ARGUMENTS))
    def request(seed):
        messages = (Message("user", "Go on."), Message("assistant", "It"))
        return engine.generate(Request(messages, Sampling(temperature=2.0, max_tokens=1900), seed=seed))
    running = [asyncio.create_task(request(seed)) for seed in range(4)]
    while engine.stats()["running"] < 4:
        await asyncio.sleep(0.01)
    core, = multiprocessing.active_children()
    os.kill(core.pid, KILL)
    for outcome in await asyncio.gather(*running, return_exceptions=True):
        print(type(outcome).__name__, outcome, flush=True)
    try:
        await asyncio.wait_for(request(9), 2)
    except Exception as error:
        print("later:", type(error).__name__, error, flush=True)
    await engine.close()
    print("closed", flush=True)

if __name__ == "__main__":
    asyncio.run(main())
"""


async def test_a_dead_engine_is_told_to_those_in_flight_and_at_once_to_those_who_come(tmp_path: Path) -> None:
    script = tmp_path / "dead.py"
    script.write_text(DEAD.replace("ARGUMENTS", repr(ARGUMENTS)).replace("KILL", str(int(signal.SIGKILL))))
    command = [sys.executable, str(script)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=240, check=False)
    lines = done.stdout.splitlines()
    said = [line for line in lines if "EngineGone" in line]
    assert len(said) == 5, done.stdout + done.stderr
    assert all("pocket: vLLM's engine is dead" in line for line in said)
    assert said[-1].startswith("later:")
    assert lines[-1] == "closed"


ORPHAN = """
import asyncio, multiprocessing, os, signal
from constitution.engines.vllm import VLLMEngine
from constitution.recipe import VLLMModel

async def main():
    await VLLMEngine.open(VLLMModel(engine="vllm", model="pocket", vllm=ARGUMENTS))
    core, = multiprocessing.active_children()
    print(core.pid, flush=True)
    await asyncio.sleep(600)

if __name__ == "__main__":
    asyncio.run(main())
"""


def test_ctrl_c_spares_the_engine_and_a_kill_of_its_owner_ends_it(tmp_path: Path) -> None:
    script = tmp_path / "orphan.py"
    script.write_text(ORPHAN.replace("ARGUMENTS", repr(ARGUMENTS)))
    owner = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert owner.stdout is not None
        core = next(int(line) for line in owner.stdout if line.strip().isdigit())
        os.kill(core, signal.SIGINT)  # as a terminal sends it to every process of the group
        time.sleep(1)
        assert alive(core)
    finally:
        owner.kill()
        owner.wait()
    end = time.monotonic() + 10
    while alive(core) and time.monotonic() < end:
        time.sleep(0.1)
    assert not alive(core)


def alive(process: int) -> bool:
    """Running, and not only waiting to be taken note of."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
