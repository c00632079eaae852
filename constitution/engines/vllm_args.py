"""vLLM's engine arguments as a recipe's `vllm` table holds them; this module needs no vLLM.

    serve_command(recipe.model.policy)     # ["vllm", "serve", "Qwen/Qwen2.5-7B-Instruct", "--host", …]

The names are vLLM's own, with underscores. What vLLM itself knows of them, their types and which there are, is checked
against its own command-line parser when the engine opens.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from constitution.engines.weights import SHIPPED
from constitution.errors import RecipeError
from constitution.recipe import OpenAIModel, VLLMModel

_WHERE = (
    "tensor_parallel_size pipeline_parallel_size prefill_context_parallel_size decode_context_parallel_size "
    "data_parallel_size data_parallel_rank data_parallel_start_rank data_parallel_size_local "
    "data_parallel_address data_parallel_rpc_port data_parallel_hybrid_lb data_parallel_external_lb "
    "data_parallel_backend distributed_executor_backend distributed_timeout_seconds device_ids master_addr "
    "master_port nnodes node_rank numa_bind numa_bind_nodes numa_bind_cpus enable_expert_parallel enable_eplb "
    "eplb_config all2all_backend disable_custom_all_reduce max_parallel_loading_workers ray_workers_use_nsight "
    "api_server_count"
)
_MEMORY = (
    "gpu_memory_utilization kv_cache_memory_bytes num_gpu_blocks_override block_size swap_space cpu_offload_gb "
    "cpu_offload_params offload_backend offload_group_size offload_num_in_group offload_params "
    "offload_prefetch_step kv_offloading_size kv_offloading_backend enable_sleep_mode"
)
_SPEED = (
    "max_num_seqs max_num_batched_tokens max_num_scheduled_tokens max_num_partial_prefills "
    "max_long_partial_prefills long_prefill_token_threshold enable_chunked_prefill enable_prefix_caching "
    "prefix_caching_hash_algo scheduling_policy async_scheduling stream_interval max_num_queued_reqs "
    "max_num_queued_tokens enforce_eager compilation_config cudagraph_capture_sizes max_cudagraph_capture_size "
    "optimization_level performance_mode enable_flashinfer_autotune max_loras max_cpu_loras max_logprobs"
)
_HANDLING = (
    "download_dir use_tqdm_on_load safetensors_load_strategy safetensors_prefetch_num_threads "
    "safetensors_prefetch_block_size disable_log_stats enable_log_requests aggregate_engine_logging "
    "otlp_traces_endpoint collect_detailed_traces kv_cache_metrics kv_cache_metrics_sample cudagraph_metrics "
    "enable_mfu_metrics enable_logging_iteration_details shutdown_timeout host port root_path uvicorn_log_level "
    "disable_uvicorn_access_log log_level log_config_file logging_config cpu_distributed_timeout_seconds"
)
OPERATIONAL = frozenset(f"{_WHERE} {_MEMORY} {_SPEED} {_HANDLING}".split())
"""Arguments that say where, in how much memory and how fast a model runs, and not what it answers."""

OWNED = {
    "model": "it is `model` in the section itself",
    "served_model_name": "it is `model` in the section itself",
    "revision": "it is `revision` in the section itself",
    "tokenizer": "the tokenizer is the one in the model's folder",
    "tokenizer_revision": "the tokenizer is the one in the model's folder",
    "tokenizer_mode": "the tokenizer is the one in the model's folder",
    "skip_tokenizer_init": "stop strings need the tokenizer",
    "model_weights": "the weights are those in the model's folder",
    "hf_config_path": "the configuration is the one in the model's folder; `hf_overrides` changes parts of it",
    "runner": "only generation is used",
    "convert": "only generation is used",
    "logprobs_mode": "votes need raw log-probabilities",
    "enable_lora": "name the adapter's folder as `adapter` in the section itself",
    "lora_modules": "name the adapter's folder as `adapter` in the section itself",
    "enable_sleep_mode": "no engine of a run sleeps",
    "generation_config": "sampling is what [revise] says",
    "override_generation_config": "sampling is what [revise] says",
    "worker_extension_cls": "it is taken by the watch that ends the engine with this process",
}
"""Arguments that the in-process engine sets itself, and where to say them instead."""

EXECUTORS = ("ray", "mp", "uni", "external_launcher")
"""Values of `distributed_executor_backend` that are no code's name."""

SAFE_FORMATS = {"safetensors", "fastsafetensors", "instanttensor", "runai_streamer", "sharded_state", "mistral"}
SAFE_FORMATS |= {"bitsandbytes", "runai_streamer_sharded", "dummy"}
"""Values of `load_format` that cannot end in reading pickles, which may run code; dummy needs no weights."""


_CODE = (
    *("logits_processors", "middleware", "worker_cls", "worker_extension_cls", "scheduler_cls"),
    *("tool_parser_plugin", "reasoning_parser_plugin", "io_processor_plugin", "kv_connector_module_path"),
)
"""Arguments whose values name Python that vLLM would import."""

_GUARDED = ("trust_remote_code", "load_format", "api_key", "hf_token", "config", *_CODE)
"""Arguments that are refused, or some of whose values are: vLLM's command takes any beginning of a name for it too."""


def decisive(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `arguments` that may change what the model answers: all that are not known to be operational."""
    return {name: value for name, value in sorted(arguments.items()) if name not in OPERATIONAL}


def check(section: VLLMModel | OpenAIModel) -> None:
    """Raises RecipeError for arguments that are refused whatever vLLM says of them."""
    for name in section.vllm:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise RecipeError(
                f"vllm.{name}: expected the name with underscores: {re.sub(r'[^a-z0-9]+', '_', name.lower())}"
            )
        if near := [each for each in _GUARDED if each.startswith(name) and each != name]:
            raise RecipeError(f"vllm.{name}: a name that is cut short; did you mean {near[0]}?")
        if isinstance(section, VLLMModel) and name in OWNED:
            raise RecipeError(f"vllm.{name}: cannot be set here", hint=OWNED[name])
        if name in ("api_key", "hf_token"):
            variable = {"api_key": "VLLM_API_KEY", "hf_token": "HF_TOKEN"}[name]
            raise RecipeError(f"vllm.{name}: a key does not belong in a recipe", hint=f"set {variable} where vLLM runs")
        if name == "config":
            raise RecipeError("vllm.config: arguments are written in the recipe itself, not in another file")
    _no_foreign_code(section.vllm, "vllm")


def _no_foreign_code(value: Any, place: str) -> None:
    """Also inside tables: a draft model's has the same switches. A text that the command would read as another option
    is refused too."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            _no_option(name, place)
            if name.replace("-", "_") == "trust_remote_code":
                raise RecipeError(f"{place}.{name}: code from a model's folder never runs", hint="leave it out")
            if re.fullmatch(r".*(_cls|_plugin|_module_path)|middleware|logits_processors", name.replace("-", "_")):
                raise RecipeError(
                    f"{place}.{name}: names code for vLLM to import, which no recipe does", hint="leave it out"
                )
            if name.replace("-", "_") == "distributed_executor_backend" and inner not in EXECUTORS:
                raise RecipeError(f"{place}.{name}: expected one of {', '.join(EXECUTORS)}")
            if name.replace("-", "_") == "load_format" and not (isinstance(inner, str) and inner in SAFE_FORMATS):
                raise RecipeError(
                    f"{place}.{name}: {inner!r} may read pickles, which can run code",
                    hint=f"one of {', '.join(sorted(SAFE_FORMATS))}; or leave it out",
                )
            _no_foreign_code(inner, f"{place}.{name}")
    elif isinstance(value, list | tuple):
        for inner in value:
            _no_foreign_code(inner, place)
    else:
        _no_option(value, place)


def _no_option(value: Any, place: str) -> None:
    if isinstance(value, str) and re.match(r"-\D", value):
        raise RecipeError(f"{place}: {value!r} would be read as another option")


def flag(name: str, value: Any) -> list[str]:
    """The argument as words of vLLM's command line: false as --no-name, lists word by word, tables as JSON."""
    dashed = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{dashed}" if value else f"--no-{dashed}"]
    if isinstance(value, list | tuple):
        return [f"--{dashed}", *map(_word, value)]
    return [f"--{dashed}", _word(value)]


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def serve_command(section: VLLMModel | OpenAIModel, address: str | None = None) -> list[str]:
    """The command that serves the section's model as its engine needs it.

    `address`: the base URL that the server shall have; None: the first of the section's, or port 8000 of this machine.
    For another one of a fleet, call it again with that one's. Raises RecipeError for arguments that are refused.
    """
    check(section)
    given = dict(section.vllm)
    weights = str(given.pop("model", section.model))
    adapters: dict[str, str] = _adapters(given.pop("lora_modules", {}))
    served = section.model
    if isinstance(section, VLLMModel):
        address = address or "http://127.0.0.1:8000/v1"
        given |= {"revision": section.revision} if section.revision else {}
        if section.adapter:
            adapters = {adapter_name(section): section.adapter}
    elif served in adapters:
        served = weights  # the adapter has the name that is asked for
    url = urlsplit(address or section.base_urls[0])  # type: ignore[union-attr]
    given = {
        "served_model_name": served,
        "host": url.hostname,
        "port": url.port or (443 if url.scheme == "https" else 80),
        "load_format": "safetensors",
        # Requests nearer to their prompt's end come first, which is what the run's priorities are for.
        "scheduling_policy": "priority",
        "enable_prompt_tokens_details": True,
        # Without it the model's own defaults for top-k and the like would be applied to every request.
        "generation_config": "vllm",
        **({"enable_lora": True} if adapters else {}),
        **given,
        "max_logprobs": max(20, int(given.get("max_logprobs", 20))),
    }
    words = ["vllm", "serve", str(SHIPPED.get(weights, weights))]
    for name, value in given.items():
        words += flag(name, value)
    return words + (["--lora-modules", *(f"{name}={path}" for name, path in adapters.items())] if adapters else [])


def adapter_name(section: VLLMModel) -> str:
    """The adapter's folder's name; empty without an adapter."""
    return Path(section.adapter.rstrip("/")).name if section.adapter else ""


def _adapters(given: Any) -> dict[str, str]:
    """`lora_modules` as a table, or as the list of name=path that vLLM's command takes."""
    if isinstance(given, Mapping) and all(isinstance(path, str) for path in given.values()):
        return dict(given)
    if isinstance(given, list) and all(isinstance(each, str) and "=" in each for each in given):
        return dict(each.split("=", 1) for each in given)
    raise RecipeError("vllm.lora_modules: expected a table of names and folders")
