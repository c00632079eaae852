"""Starting vLLM: its arguments checked by vLLM's own parser, our defaults, and its processes.

Whatever differs between vLLM's versions is asked of its Python interface, never of its version number.
"""

from __future__ import annotations

import difflib
import importlib.util
import json
import os
import select
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

from constitution.engines.vllm_args import OWNED, check, flag
from constitution.engines.weights import first_line
from constitution.errors import ModelLoadError, RecipeError
from constitution.recipe import VLLMModel


def library() -> Any:
    """The vllm package; its import takes seconds. Raises ModelLoadError where it is not installed or does not work."""
    found = importlib.util.find_spec("vllm")
    if found is None or found.origin is None:  # a mere folder of that name has no origin
        raise ModelLoadError(
            "engine vllm: vLLM is not installed",
            hint="pip install 'constitution[vllm]', or serve the model and use the openai engine",
        )
    # Read once, at the import. A forked engine would hold the run's lock and the parent's threads' locks; its
    # many remarks would tear the progress bar; and nothing is to be sent to anybody.
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    with parts():
        import vllm
    return vllm


@contextmanager
def parts() -> Iterator[None]:
    """Imports of vLLM's parts; the first one loads what it is built on. Raises ModelLoadError where they fail."""
    try:
        yield
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        raise ModelLoadError(
            f"engine vllm: vLLM cannot be imported: {first_line(error)}",
            hint="0.26 or newer is needed, in the build for this machine's torch and driver; "
            "`python -c 'import vllm.v1.engine.async_llm'` says more",
        ) from error


def arguments(section: VLLMModel) -> dict[str, Any]:
    """The section's `vllm` table with the values that vLLM's command line would make of them.

    Raises RecipeError for an unknown argument, with the nearest name, and for a value that vLLM does not take.
    """
    check(section)
    version = library().__version__
    with parts():
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser: Any = AsyncEngineArgs.add_cli_args(FlexibleArgumentParser())
    options = {action.dest for action in parser._actions}
    known = sorted({field.name for field in fields(AsyncEngineArgs)} & options - set(OWNED))
    parsed = {}
    for name, value in section.vllm.items():
        place = f"model {section.model}: vllm.{name}"
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise RecipeError(
                f"{place}: vLLM {version} has no such argument" + (f"; did you mean {near[0]}?" if near else ""),
                hint="`vllm serve --help=all` lists them",
            )
        parsed[name] = _parse(parser, name, value, place)
    return parsed


def _parse(parser: Any, name: str, value: Any, place: str) -> Any:
    said: list[str] = []

    def fail(message: str) -> None:
        said.append(message)
        raise SystemExit(2)

    parser.error = fail
    switch = next(action for action in parser._actions if action.dest == name).nargs == 0
    if switch is not isinstance(value, bool):
        wanted = "true or false" if switch else "a value and not true or false"
        raise RecipeError(f"{place}: expected {wanted}", hint="see vLLM's engine arguments")
    try:
        return getattr(parser.parse_args(flag(name, value)), name)
    except SystemExit:
        message = " ".join((said[0].partition(": ")[2] or said[0]).split())  # pydantic's has several lines
    except Exception as error:  # whatever its types raise
        message = first_line(error)
    raise RecipeError(f"{place}: {message}", hint="see vLLM's engine arguments")


def start(
    section: VLLMModel, folder: Path, adapters: Sequence[Path], memory: float | None, scores: bool = False
) -> tuple[Any, Gauges]:
    """vLLM's AsyncLLM for the model in `folder`, and its figures; blocks for as long as the model loads.

    adapters: LoRA folders that requests will name. memory: share of the accelerator's memory, None: vLLM's default.
    scores: it is a reward model, and writes nothing.
    Raises RecipeError for arguments that vLLM does not take, ModelLoadError for a model that it does not load.
    """
    given = arguments(section)
    with parts():
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.async_llm import AsyncLLM

    settings: dict[str, Any] = {
        "model": str(folder),
        "trust_remote_code": False,
        "load_format": "safetensors",
        "scheduling_policy": "priority",
        "generation_config": "vllm",
        "logprobs_mode": "raw_logprobs",
        "disable_log_stats": True,  # vLLM's own lines of log; `Gauges` gets the figures all the same
        "use_tqdm_on_load": False,
        "worker_extension_cls": "constitution.engines.vllm_start.Lifeline",
        **({"runner": "pooling", "convert": "classify"} if scores else {}),
        **_for_cpu(given),
        **_for_adapters(adapters),
        **({"gpu_memory_utilization": memory} if memory is not None else {}),
        **given,
    }

    class Owned(AsyncLLM):  # type: ignore[misc]
        def __del__(self) -> None:
            """Its owner has shut it down; vLLM does it again when Python ends, and complains of what is gone."""

    gauges = Gauges()
    try:
        made = AsyncEngineArgs(**settings)
        with _no_interrupts():
            # LLM_CLASS: the batch sizes of vLLM's offline class, which are made for throughput.
            llm = Owned.from_engine_args(
                made, usage_context=UsageContext.LLM_CLASS, stat_loggers=[lambda config, index=0: gauges]
            )
    except Exception as error:  # whatever a model, a table of arguments or an accelerator makes it raise
        raise ModelLoadError(
            f"model {section.model}: vLLM cannot load it: {_cause(error)}",
            hint="the lines of vLLM's log above say more; VLLM_LOGGING_LEVEL=INFO shows all of them",
        ) from error
    return llm, gauges


def on_cpu() -> bool:
    library()
    from vllm.platforms import current_platform

    return bool(current_platform.is_cpu())


def _for_cpu(given: Mapping[str, Any]) -> dict[str, Any]:
    if not on_cpu():
        return {}
    # vLLM's own 128 tokens there leave short prompts little to share: with 32 the pocket job found 62 % of its prompt
    # tokens in the cache instead of 46 %.
    settings: dict[str, Any] = {"block_size": 32}
    if not {"enable_chunked_prefill", "max_num_batched_tokens"} & set(given):
        # vLLM's CPU sampler cannot skip the random numbers of a chunk that yields no token ("CPU Generator does not
        # use offset"): a seeded request whose prompt is read in chunks ends the engine. Without chunks vLLM itself
        # makes a step large enough for the longest prompt.
        settings["enable_chunked_prefill"] = False
    if all(given.get(f"{kind}_parallel_size", 1) == 1 for kind in ("tensor", "pipeline", "data")):
        # Model and scheduler in one process: two would poll each other, and cores are what a CPU has least of. vLLM
        # allows that on a CPU where this variable says so, which an asynchronous engine does not read otherwise.
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        settings["distributed_executor_backend"] = "uni"
    return settings


def _for_adapters(adapters: Sequence[Path]) -> dict[str, Any]:
    if not adapters:
        return {}
    most = max(map(_rank, adapters))
    rank = next((size for size in (8, 16, 32, 64, 128, 256, 320, 512) if size >= most), 512)
    return {"enable_lora": True, "max_loras": len(adapters), "max_lora_rank": rank}


def _rank(adapter: Path) -> int:
    try:
        return int(json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))["r"])
    except (ValueError, TypeError, KeyError) as error:
        raise ModelLoadError(
            f"adapter {adapter}: its adapter_config.json says no rank: {type(error).__name__}: {first_line(error)}",
            hint="name a folder in PEFT's format",
        ) from error


@contextmanager
def _no_interrupts() -> Iterator[None]:
    """Processes started within are not reached by Ctrl-C, which is for the run: it writes what it has, and ends them.

    They inherit the mask of blocked signals. It is the calling thread's alone, so the main thread gets its Ctrl-C.
    """
    resource_tracker.ensure_running()  # it unblocks signals in this thread when it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _cause(error: Exception) -> str:
    """In one line; of pydantic's several lines the one that says what is wrong."""
    details = getattr(error, "errors", None)
    if callable(details) and (found := details()):
        return str(found[0].get("msg", error)).removeprefix("Value error, ").splitlines()[0]
    return first_line(error)


@dataclass(slots=True)
class Gauges:
    """Read here and not from vLLM's Prometheus registry, which holds the figures of one engine in a process only."""

    running: dict[int, int] = field(default_factory=dict)
    """Requests in the batch; per engine, of which there are several with data parallelism."""
    waiting: dict[int, int] = field(default_factory=dict)
    usage: dict[int, float] = field(default_factory=dict)
    """Share of the key-value cache that is in use."""
    most_running: int = 0
    preemptions: int = 0
    queries: int = 0
    """Tokens of prompts."""
    hits: int = 0
    """Part of those: tokens found in the prefix cache."""

    def record(
        self, scheduler_stats: Any, iteration_stats: Any, mm_cache_stats: Any = None, engine_idx: int = 0
    ) -> None:
        if scheduler_stats is not None:
            self.running[engine_idx] = scheduler_stats.num_running_reqs
            self.waiting[engine_idx] = scheduler_stats.num_waiting_reqs
            self.usage[engine_idx] = scheduler_stats.kv_cache_usage
            self.queries += scheduler_stats.prefix_cache_stats.queries
            self.hits += scheduler_stats.prefix_cache_stats.hits
            self.most_running = max(self.most_running, sum(self.running.values()))
        if iteration_stats is not None:
            self.preemptions += iteration_stats.num_preempted_reqs

    def log_engine_initialized(self) -> None: ...

    def log(self) -> None: ...

    def record_sleep_state(self, is_awake: int, level: int) -> None: ...

    def stats(self, in_flight: int) -> dict[str, Any]:
        """As `Engine.stats` gives them; tokens in `prefix_queries` and `prefix_hits`, shares between 0 and 1.

        in_flight: requests that are not answered yet. vLLM says nothing after its last step, so what it said before
        may be of requests that are done.
        """
        running = min(sum(self.running.values()), in_flight)
        return {
            "running": running,
            "waiting": min(sum(self.waiting.values()), in_flight - running),
            "most_running": self.most_running,
            "preemptions": self.preemptions,
            "kv_cache_usage": round(max(self.usage.values(), default=0.0), 4),
            "prefix_queries": self.queries,
            "prefix_hits": self.hits,
            "prefix_hit_rate": round(self.hits / self.queries, 4) if self.queries else 0.0,
        }


class Lifeline:
    """vLLM mixes it into its worker (`worker_extension_cls`), where `follow` is then called by name.

    vLLM's engine runs in its own process, and outlives a parent that is killed: the accelerator's memory stays
    taken, and the next start fails for want of it.
    """

    def follow(self, owner: int) -> None:
        """Kill this process, and the scheduler's where that is another, when the process `owner` is gone."""
        try:
            descriptor = os.pidfd_open(owner)
        except OSError:  # not a process of this machine, or a kernel without it: then it lives on, as vLLM's do
            return
        parent = os.getppid()
        scheduler = parent if parent != owner else 0
        threading.Thread(target=_leave_with, args=(descriptor, scheduler), name="lifeline", daemon=True).start()


def _leave_with(descriptor: int, scheduler: int) -> None:
    select.select([descriptor], [], [])
    if scheduler and os.getppid() == scheduler:
        os.kill(scheduler, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
