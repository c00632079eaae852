"""vLLM's arguments as far as no vLLM is needed for them; tests/vllm holds them against vLLM's own parser."""

from __future__ import annotations

import asyncio
import builtins
import json
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from tiny import save_tiny_model

from constitution.engines import open_engine, vllm_start
from constitution.engines.identity import model_identity
from constitution.engines.vllm import _shares as shares
from constitution.engines.vllm_args import check, decisive, flag, serve_command
from constitution.engines.vllm_start import _for_adapters as for_adapters
from constitution.engines.weights import POCKET, find, find_adapter
from constitution.errors import ModelLoadError, RecipeError
from constitution.recipe import OpenAIModel, VLLMModel, load_recipe


def local(model: str = "pocket", **fields: Any) -> VLLMModel:
    return VLLMModel(engine="vllm", model=model, **fields)


def served(model: str = "m", url: str | tuple[str, ...] = "http://127.0.0.1:8000/v1", **fields: Any) -> OpenAIModel:
    return OpenAIModel(engine="openai", model=model, base_url=url, **fields)


def value(command: list[str], option: str) -> str:
    return command[command.index(option) + 1]


# --- flags and the command


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("max_model_len", 4096, ["--max-model-len", "4096"]),
        ("gpu_memory_utilization", 0.8, ["--gpu-memory-utilization", "0.8"]),
        ("quantization", "fp8", ["--quantization", "fp8"]),
        ("enforce_eager", True, ["--enforce-eager"]),
        ("enable_prefix_caching", False, ["--no-enable-prefix-caching"]),
        ("cudagraph_capture_sizes", [1, 2], ["--cudagraph-capture-sizes", "1", "2"]),
        ("hf_overrides", {"rope": {"a": 1}}, ["--hf-overrides", '{"rope": {"a": 1}}']),
    ],
)
def test_flags_are_as_vllm_writes_them(name: str, given: object, words: list[str]) -> None:
    assert flag(name, given) == words


def test_a_local_models_command_says_all_that_its_engine_relies_on() -> None:
    command = serve_command(local(revision="abc", vllm={"tensor_parallel_size": 2}), "http://0.0.0.0:9000/v1")
    assert command[:3] == ["vllm", "serve", str(POCKET)]
    assert value(command, "--served-model-name") == "pocket"
    assert (value(command, "--host"), value(command, "--port")) == ("0.0.0.0", "9000")
    assert value(command, "--scheduling-policy") == "priority"
    assert value(command, "--generation-config") == "vllm"
    assert value(command, "--load-format") == "safetensors"
    assert int(value(command, "--max-logprobs")) >= 20
    assert value(command, "--tensor-parallel-size") == "2"
    assert value(command, "--revision") == "abc"
    assert "--enable-prompt-tokens-details" in command
    assert "--enable-lora" not in command


def test_a_served_name_may_differ_from_where_the_weights_are() -> None:
    section = served("policy", ("http://one:8001/v1", "http://two:8002/v1"), vllm={"model": "org/weights"})
    for address, host in ((None, "one"), ("http://two:8002/v1", "two")):
        command = serve_command(section, address)
        assert command[2] == "org/weights"
        assert value(command, "--served-model-name") == "policy"
        assert value(command, "--host") == host


def test_what_the_recipe_says_wins_but_for_too_few_log_probabilities() -> None:
    command = serve_command(served(vllm={"scheduling_policy": "fcfs", "max_logprobs": 5, "load_format": "dummy"}))
    assert value(command, "--scheduling-policy") == "fcfs"
    assert value(command, "--load-format") == "dummy"
    assert value(command, "--max-logprobs") == "20"
    assert value(serve_command(served(vllm={"max_logprobs": 50})), "--max-logprobs") == "50"


@pytest.mark.parametrize("modules", [{"kind": "/adapters/kind"}, ["kind=/adapters/kind"]])
def test_adapters_are_served_by_their_names(modules: object) -> None:
    command = serve_command(served("kind", vllm={"model": "org/base", "lora_modules": modules}))
    assert "--enable-lora" in command
    assert value(command, "--lora-modules") == "kind=/adapters/kind"
    assert value(command, "--served-model-name") == "org/base"
    command = serve_command(local("org/base", adapter="/adapters/kind/"))
    assert value(command, "--lora-modules") == "kind=/adapters/kind/"
    assert value(command, "--served-model-name") == "org/base"


def test_the_projects_own_recipe_passes() -> None:
    models = load_recipe(Path(__file__).parents[1] / "recipes" / "vllm.toml").model
    for section in (models.policy, models.judge):
        assert isinstance(section, VLLMModel)
        check(section)


# --- what is refused


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"trust_remote_code": True}, "vllm.trust_remote_code"),
    ({"speculative_config": {"model": "x", "trust_remote_code": True}}, "vllm.speculative_config.trust_remote_code"),
    ({"load_format": "pt"}, "pickles"),
    ({"load_format": "auto"}, "pickles"),
    ({"load_format": ["pt"]}, "pickles"),
    ({"hf_token": "secret"}, "does not belong in a recipe"),
    ({"max-model-len": 5}, "max_model_len"),
    # What vLLM's command would take for one of these.
    ({"trust_remote": True}, "did you mean trust_remote_code"),
    ({"load_form": "pt"}, "did you mean load_format"),
    ({"speculative_config.trust_remote_code": True}, "with underscores"),
    ({"cudagraph_capture_sizes": [1, "--trust-remote-code"]}, "would be read as another option"),
    ({"dtype": "-O3"}, "would be read as another option"),
    (
        {"speculative_config": {"model": "x", "draft_load_config": {"load_format": "pt"}}},
        "draft_load_config.load_format",
    ),
    ({"config": "more.yaml"}, "in the recipe itself"),
]


@pytest.mark.parametrize(("table", "said"), REFUSED)
@pytest.mark.parametrize("section", [local, served])
def test_refused_whatever_vllm_says(section: Any, table: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said) as caught:
        check(section(vllm=table))
    assert "secret" not in str(caught.value) + caught.value.hint
    with pytest.raises(RecipeError):
        serve_command(section(vllm=table))


@pytest.mark.parametrize(
    "name", ["model", "revision", "served_model_name", "enable_lora", "logprobs_mode", "model_weights"]
)
def test_arguments_that_the_engine_sets_itself_name_the_field_instead(name: str) -> None:
    with pytest.raises(RecipeError, match=rf"vllm\.{name}") as caught:
        check(local(vllm={name: "x"}))
    assert caught.value.hint
    if name != "model":
        check(served(vllm={name: "x"}))


def test_a_refused_argument_is_told_before_any_run_is_written() -> None:
    with pytest.raises(RecipeError, match="trust_remote_code"):
        model_identity(local(vllm={"trust_remote_code": True}))
    # Nor is a model looked for, and perhaps downloaded, in vain.
    with pytest.raises(RecipeError, match="trust_remote_code"):
        model_identity(local("nobody/has-this", vllm={"trust_remote_code": True}))


async def test_without_vllm_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    real = builtins.__import__

    def refuse(name: str, *args: Any) -> Any:
        assert name.split(".")[0] != "vllm"
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ModelLoadError, match="not installed") as caught:
        await open_engine(local())
    assert "constitution[vllm]" in caught.value.hint


@pytest.mark.parametrize(
    "code",
    ['raise ImportError("libcudart.so.13: cannot open shared object file")', "__version__ = '0.1'"],
    ids=["broken", "old"],
)
async def test_a_vllm_that_cannot_be_imported_is_told_in_one_line(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vllm").mkdir()
    (tmp_path / "vllm" / "__init__.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        with pytest.raises(ModelLoadError, match=r"cannot be imported: (libcudart|No module named)") as caught:
            await open_engine(local())
    finally:
        sys.modules.pop("vllm", None)
    assert "0.26" in caught.value.hint


async def test_an_engine_whose_opening_was_cancelled_is_shut_down_when_it_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, go_on, ended = (threading.Event() for _ in range(3))

    class Started:
        def shutdown(self) -> None:
            ended.set()

    def start(*given: Any) -> tuple[Any, Any]:
        begun.set()
        assert go_on.wait(10)
        return Started(), None

    monkeypatch.setattr(vllm_start, "start", start)
    opening = asyncio.create_task(open_engine(local()))
    assert await asyncio.to_thread(begun.wait, 10)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert not ended.is_set()
    go_on.set()
    assert await asyncio.to_thread(ended.wait, 10)


@pytest.mark.parametrize("text", ["{", '{"r": "many"}', "{}", "[]"])
def test_an_adapter_without_a_rank_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(text)
    with pytest.raises(ModelLoadError, match="says no rank") as caught:
        for_adapters([tmp_path])
    assert str(tmp_path) in str(caught.value)


def test_the_rank_has_room_for_every_adapter(tmp_path: Path) -> None:
    folders = [adapter(tmp_path / str(rank), rank=rank) for rank in (4, 24)]
    assert for_adapters(folders) == {"enable_lora": True, "max_loras": 2, "max_lora_rank": 32}
    assert for_adapters([]) == {}


# --- identity


def test_speed_and_place_stay_out_of_the_runs_identity() -> None:
    plain = model_identity(local())
    table = {
        "log_level": "debug",
        "tensor_parallel_size": 4,
        "gpu_memory_utilization": 0.5,
        "max_num_seqs": 9,
        "enforce_eager": True,
    }
    assert model_identity(local(vllm=table)) == plain
    assert model_identity(served(vllm=table)) == model_identity(served())


@pytest.mark.parametrize(
    "table", [{"quantization": "fp8"}, {"max_model_len": 512}, {"load_format": "dummy"}, {"of_tomorrow": 1}]
)
def test_what_may_change_an_answer_is_in_it(table: dict[str, Any]) -> None:
    assert decisive(table) == table
    assert model_identity(local(vllm=table)) != model_identity(local())


def test_identity_is_of_the_files_and_the_name_and_not_of_the_place(tmp_path: Path) -> None:
    first = save_tiny_model(tmp_path / "first")
    elsewhere = tmp_path / "elsewhere" / "first"
    elsewhere.parent.mkdir()
    elsewhere.symlink_to(first)
    assert model_identity(local(str(first))) == model_identity(local(str(elsewhere)))
    assert model_identity(local(str(first))) != model_identity(local())


def adapter(folder: Path, weights: str = "adapter_model.safetensors", rank: int = 4) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"r": rank}))
    (folder / weights).write_bytes(b"weights")
    return folder


def test_the_adapter_belongs_to_the_identity(tmp_path: Path) -> None:
    first, second = adapter(tmp_path / "first"), adapter(tmp_path / "second", rank=8)
    found = [model_identity(local(adapter=each and str(each))) for each in (None, first, second)]
    assert len({json.dumps(each, sort_keys=True) for each in found}) == 3


# --- folders


def test_dummy_weights_need_no_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert find(local(str(tmp_path), vllm={"load_format": "dummy"})) == tmp_path
    with pytest.raises(ModelLoadError, match="safetensors"):
        find(local(str(tmp_path)))


def test_adapters_are_safetensors_in_pefts_format(tmp_path: Path) -> None:
    assert find_adapter(local()) is None
    assert find_adapter(local(adapter=str(adapter(tmp_path / "good")))) == tmp_path / "good"
    with pytest.raises(ModelLoadError, match="pickles"):
        find_adapter(local(adapter=str(adapter(tmp_path / "pickled", "adapter_model.bin"))))
    with pytest.raises(ModelLoadError, match=r"adapter_config\.json"):
        find_adapter(local(adapter=str(tmp_path / "none")))


# --- memory


def test_several_models_share_what_the_recipe_leaves_of_the_memory() -> None:
    def of(*given: float | None) -> list[float | None]:
        return shares([local(vllm={} if share is None else {"gpu_memory_utilization": share}) for share in given])

    assert of(None) == of(0.3) == [None]
    assert of(None, None) == [0.45, 0.45]
    assert of(0.3, None) == [None, 0.6]
    assert of(0.3, 0.5) == [None, None]
    with pytest.raises(RecipeError, match="nothing is left"):
        of(0.9, None)
