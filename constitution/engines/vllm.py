"""A model in vLLM, in processes that this one starts: for throughput.

    engine = await VLLMEngine.open(VLLMModel(engine="vllm", model="Qwen/Qwen2.5-7B-Instruct"))

Prompts are made into tokens here, exactly as for the transformers engine, and go to vLLM as such. Sampling is what is
asked and nothing else: a model's own defaults for top-k or repetition penalty are left out, its end tokens are used.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from constitution.engines import vllm_start
from constitution.engines.base import Completion, Request
from constitution.engines.chat import ChatTokenizer
from constitution.engines.read_out import stated
from constitution.engines.spoken import Spoken
from constitution.engines.thoughts import Said
from constitution.engines.vllm_start import Gauges
from constitution.engines.weights import ends, find, find_adapter, first_line, folder_digest, load_tokenizer, short_name
from constitution.errors import (
    ConstitutionError,
    EngineError,
    EngineGone,
    EngineUnavailable,
    RecipeError,
    RequestRefused,
)
from constitution.recipe import VLLMModel

OWN: dict[str, Any] = {"adapter": None, "reasoning": "auto", "chat_template_kwargs": {}, "template_date": None}
"""Fields of a section that the engine in memory does not depend on, with the value that is put for all of theirs."""
MEMORY = 0.9
"""Share of an accelerator's memory that all engines together take."""


class VLLMEngine:
    """An `Engine` over one vLLM engine, which sections that differ in the fields of `OWN` alone share."""

    def __init__(self, core: Core, section: VLLMModel, adapter: Path | None) -> None:
        self._core = core
        self._chat = core.chat(section)
        self._adapter = adapter
        self._lora = core.lora(adapter) if adapter else None
        core.users += 1

    @classmethod
    async def open(cls, section: VLLMModel) -> VLLMEngine:
        """Start vLLM. Raises RecipeError for arguments that it does not take, ModelLoadError."""
        [engine] = await cls.open_together([section])
        return engine

    @classmethod
    async def open_together(cls, sections: Sequence[VLLMModel]) -> list[VLLMEngine]:
        """The engines of `sections`, in order. Those that differ in nothing but the adapter and how the chat template
        is spoken to share one of vLLM's; others share the accelerator's memory. Raises RecipeError, ModelLoadError."""
        adapters = [await asyncio.to_thread(find_adapter, section) for section in sections]
        bases = [section.bare.model_copy(update=OWN) for section in sections]
        distinct = [base for number, base in enumerate(bases) if base not in bases[:number]]
        cores: list[Core] = []
        try:
            for base, memory in zip(distinct, _shares(distinct), strict=True):
                folders = [folder for each, folder in zip(bases, adapters, strict=True) if each == base and folder]
                cores.append(await Core.open(base, list(dict.fromkeys(folders)), memory))
        except BaseException:
            for core in cores:
                await core.close()
            raise
        return [
            cls(cores[distinct.index(base)], section, folder)
            for base, section, folder in zip(bases, sections, adapters, strict=True)
        ]

    @property
    def model(self) -> str:
        return f"{self._core.name}+{self._adapter.name}" if self._adapter else self._core.name

    def describe(self) -> Mapping[str, str]:
        adapter = {"adapter": folder_digest(self._adapter)} if self._adapter else {}
        return {**self._core.facts, **self._chat.facts, "name": self.model, **adapter}

    async def generate(self, request: Request) -> Completion:
        """As `ChatTokenizer.prepared`; raises EngineGone once vLLM's engine is dead."""
        prompt, labels, max_tokens = self._chat.prepared(request, self._core.context)
        if labels:
            return await self._score(request, prompt, labels)
        return await self._write(request, prompt, max_tokens)

    async def _write(self, request: Request, prompt: list[int], max_tokens: int) -> Completion:
        stop, outs = list(request.sampling.stop), []
        for strings in (stop, []):
            out = await self._run(
                prompt,
                request,
                max_tokens=max_tokens,
                stop=strings,
                # Text is made of the tokens here, once; vLLM needs it, token by token, to look for stop strings only.
                detokenize=bool(strings),
            )
            outs.append(out)
            answer = out.outputs[0]
            stopped = isinstance(answer.stop_reason, str)
            said = self._said(request, prompt, answer, cut=stopped or answer.finish_reason == "length")
            if not stopped or said.reasoning is None or said.text:
                break  # else a stop string ended the thought, which it is not meant for: again without
        places = [at for each in stop if (at := said.text.find(each)) >= 0]
        if places:
            said = said._replace(text=said.text[: min(places)])
        elif stopped:
            said = said._replace(text=str(answer.text))
        return self._completion(outs, said, "stop" if places else answer.finish_reason)

    async def _score(self, request: Request, prompt: list[int], labels: Mapping[str, Sequence[int]]) -> Completion:
        """The labels' log-probabilities: one request for each beginning that labels have in common, which are one
        token long at the least, all of them on the prompt's place in the prefix cache."""
        wanted: dict[tuple[int, ...], set[int]] = {(): set()}
        for tokens in labels.values():
            for depth, token in enumerate(tokens):
                wanted.setdefault(tuple(tokens[:depth]), set()).add(token)
        found = await _together(
            [self._next(request, [*prompt, *before], sorted(tokens)) for before, tokens in wanted.items()]
        )
        after = {before: logprobs for before, (_, logprobs) in zip(wanted, found, strict=True)}
        logprobs = {
            label: sum(after[tuple(tokens[:depth])][token] for depth, token in enumerate(tokens))
            for label, tokens in labels.items()
        }
        if any(math.isnan(value) for value in logprobs.values()):
            raise EngineError(f"{self.model}: its logits are not numbers", hint='try dtype = "float32"')
        first = found[0][0].outputs[0]
        text = self._chat.decode(self._tokens(first), prompt[-4:] if request.continues else [])
        return self._completion([out for out, _ in found], Said(text), first.finish_reason, logprobs)

    async def _next(self, request: Request, prompt: list[int], tokens: list[int]) -> tuple[Any, dict[int, float]]:
        """The log-probabilities of `tokens` as the next one after `prompt`: raw, over the whole vocabulary."""
        out = await self._run(prompt, request, max_tokens=1, detokenize=False, logprob_token_ids=tokens)
        given = out.outputs[0].logprobs[0] if out.outputs[0].logprobs else {}
        if any(token not in given for token in tokens):
            raise EngineError(f"{self.model}: vLLM's answer lacks the log-probability of a label")
        return out, {token: given[token].logprob for token in tokens}

    async def _run(self, prompt: list[int], request: Request, **fields: Any) -> Any:
        sampling = request.sampling
        return await self._core.run(
            prompt,
            request.priority,
            self._lora,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=request.seed,
            **fields,
        )

    def _said(self, request: Request, prompt: list[int], answer: Any, cut: bool) -> Said:
        return self._chat.said(self._tokens(answer), prompt, request.continues, cut)

    def _tokens(self, answer: Any) -> list[int]:
        tokens = list(answer.token_ids)
        return tokens[:-1] if tokens and tokens[-1] in self._core.ends else tokens

    def _completion(
        self, outs: Sequence[Any], said: Said, reason: str, logprobs: Mapping[str, float] | None = None
    ) -> Completion:
        return Completion(
            said.text,
            reason,
            sum(len(out.prompt_token_ids) for out in outs),
            sum(len(out.outputs[0].token_ids) for out in outs),
            sum(out.num_cached_tokens or 0 for out in outs),
            logprobs,
            said.reasoning,
            said.reasoning_tokens,
        )

    def stats(self) -> Mapping[str, Any]:
        """vLLM's own figures (`Gauges.stats`); engines that share one tell the same."""
        events = self._chat.events()
        return {**self._core.gauges.stats(self._core.in_flight), **({"events": events} if events else {})}

    async def close(self) -> None:
        """The last of those that share vLLM's engine ends it, and what is in flight fails."""
        self._core.users -= 1
        if not self._core.users:
            await self._core.close()


class Core:
    """vLLM's engine, with what is known of its model."""

    def __init__(self, section: VLLMModel, folder: Path, llm: Any, gauges: Gauges) -> None:
        """Raises ModelLoadError for a tokenizer that cannot be used, and for a vLLM that lacks what requests need."""
        with vllm_start.parts():
            from vllm.exceptions import VLLMValidationError
            from vllm.inputs.engine import tokens_input
            from vllm.sampling_params import RequestOutputKind, SamplingParams
        self.name = short_name(section)
        self.gauges = gauges
        self.users = 0
        self.in_flight = 0
        self._section, self._folder, self._llm = section, folder, llm
        self._chats: dict[str, ChatTokenizer] = {}
        """By how the template is spoken to. Each has a tokenizer, which no two threads may use at once."""
        self.ends = ends(_generation_config(folder), self.chat(section).eos_token_id)
        self.context = int(llm.model_config.max_model_len)
        self._numbers = itertools.count()
        self._input = tokens_input
        self._refusals = (VLLMValidationError, ValueError)
        # skip_clone: they are made for one request alone.
        self._params = partial(SamplingParams, output_kind=RequestOutputKind.FINAL_ONLY, skip_clone=True)
        self._loras: dict[Path, Any] = {}

    @classmethod
    async def open(
        cls, section: VLLMModel, adapters: Sequence[Path], memory: float | None, scores: bool = False
    ) -> Core:
        """As `vllm_start.start`, in a thread."""
        folder = await asyncio.to_thread(find, section)
        llm, gauges = await _started(section, folder, adapters, memory, scores)
        try:
            if not _distributed(llm):
                await llm.collective_rpc("follow", args=(os.getpid(),))
            return await asyncio.to_thread(cls, section, folder, llm, gauges)
        except BaseException:
            await asyncio.to_thread(llm.shutdown)
            raise

    def chat(self, section: VLLMModel) -> ChatTokenizer:
        """The model's chat template, spoken to as `section` says. Raises ModelLoadError."""
        key = repr([section.reasoning, section.chat_template_kwargs, section.template_date])
        if key not in self._chats:
            tokenizer = load_tokenizer(self._section, self._folder)
            self._chats[key] = ChatTokenizer(tokenizer, self.name, Spoken.of(section))
        return self._chats[key]

    @cached_property
    def facts(self) -> dict[str, str]:
        """What determines the model's answers, for the run's provenance; reads the weights once for their digest."""
        import torch
        import vllm

        config = self._llm.model_config
        facts = {
            "name": self.name,
            "engine": "vllm",
            "digest": folder_digest(self._folder),
            "dtype": str(config.dtype).removeprefix("torch."),
            "max_model_len": str(self.context),
            "vllm": vllm.__version__,
            "torch": torch.__version__,
            **stated(self._folder),
        }
        if config.quantization:
            facts["quantization"] = str(config.quantization)
        if self._section.revision:
            facts["revision"] = self._section.revision
        return facts

    def lora(self, folder: Path) -> Any:
        """vLLM's LoRARequest for an adapter that the engine was opened with."""
        from vllm.lora.request import LoRARequest

        if folder not in self._loras:
            number = len(self._loras) + 1
            self._loras[folder] = LoRARequest(f"{folder.name}-{number}", number, str(folder))
        return self._loras[folder]

    async def run(self, prompt: list[int], priority: int, lora: Any, **fields: Any) -> Any:
        """vLLM's RequestOutput for a prompt's tokens; `fields` are of its SamplingParams. Raises as `finished`."""

        def begin(llm: Any, number: str) -> AsyncIterator[Any]:
            params = self._params(**fields, stop_token_ids=list(self.ends))
            stream: AsyncIterator[Any] = llm.generate(
                self._input(prompt), params, number, priority=priority, lora_request=lora
            )
            return stream

        out = await self.finished(begin)
        if out.outputs[0].finish_reason not in ("stop", "length"):
            raise self._gone("ended a request without an answer")
        return out

    async def pooled(self, prompt: list[int], params: Any) -> Any:
        """vLLM's PoolingRequestOutput for a prompt's tokens. Raises as `finished`."""
        return await self.finished(lambda llm, number: llm.encode(self._input(prompt), params, number))

    async def finished(self, begin: Callable[[Any, str], AsyncIterator[Any]]) -> Any:
        """The last of what vLLM gives for a request. begin: sends it to vLLM's engine under a number. A cancelled call
        takes it out of vLLM. Raises RequestRefused, EngineUnavailable, EngineError."""
        llm, out = self._llm, None
        if llm is None:
            raise self._gone("is closed")
        self.in_flight += 1
        try:
            async for each in begin(llm, f"{next(self._numbers)}"):
                out = each  # the final one alone
        except Exception as error:
            raise self._translated(error) from error
        finally:
            self.in_flight -= 1
        if out is None:
            raise self._gone("ended a request without an answer")
        return out

    def _translated(self, error: Exception) -> ConstitutionError:
        if self._llm is None or self._llm.errored:
            return self._gone("is dead")
        if isinstance(error, self._refusals):
            return RequestRefused(f"{self.name}: vLLM refuses the request: {first_line(error)}")
        cause = error.__cause__ or error
        return EngineError(f"{self.name}: {type(cause).__name__} in vLLM: {first_line(cause)}")

    def _gone(self, what: str) -> EngineUnavailable:
        dead = self._llm is not None and self._llm.errored
        return (EngineGone if dead else EngineUnavailable)(
            f"{self.name}: vLLM's engine {what}",
            hint="the lines of vLLM's log above say why; starting the run again resumes it",
        )

    async def close(self) -> None:
        llm, self._llm = self._llm, None
        await asyncio.to_thread(llm.shutdown)


def _shares(sections: Sequence[VLLMModel]) -> list[float | None]:
    """Each engine's share of an accelerator's memory: of what the recipe's own shares leave, the others get equal
    parts. None: what the recipe or, for an engine alone, vLLM says. Raises RecipeError where nothing is left."""
    given = [section.vllm.get("gpu_memory_utilization") for section in sections]
    if len(sections) == 1 or None not in given:
        return [None] * len(sections)
    rest = (MEMORY - sum(share for share in given if share is not None)) / given.count(None)
    if rest <= 0:
        raise RecipeError(
            "vllm.gpu_memory_utilization: nothing is left of the accelerator's memory for the other models",
            hint="lower it, or serve one of the models and use the openai engine",
        )
    return [round(rest, 3) if share is None else None for share in given]


async def _started(*given: Any) -> tuple[Any, Gauges]:
    """`vllm_start.start` in a thread. That cannot be cancelled: an engine whose opening was cancelled is shut down
    as soon as it is there."""
    threads = ThreadPoolExecutor(1, "vllm-start")
    starting = threads.submit(vllm_start.start, *given)
    threads.shutdown(wait=False)
    try:
        return await asyncio.wrap_future(starting)
    except asyncio.CancelledError:
        starting.add_done_callback(_abandon)
        raise


def _abandon(started: Future[tuple[Any, Gauges]]) -> None:
    if not started.cancelled() and started.exception() is None:
        started.result()[0].shutdown()


async def _together(calls: Sequence[Any]) -> list[Any]:
    """Their results, in order; the first error cancels the others and is raised."""
    if len(calls) == 1:
        return [await calls[0]]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call) for call in calls]
    except* ConstitutionError as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


def _generation_config(folder: Path) -> Any:
    """The model's generation settings, as transformers finds them: for its end tokens."""
    import transformers

    library: Any = transformers
    if (folder / "generation_config.json").is_file():
        return library.GenerationConfig.from_pretrained(folder, local_files_only=True)
    config = library.AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    return library.GenerationConfig.from_model_config(config)


def _distributed(llm: Any) -> bool:
    """Whether workers are on other machines, where this process's number says nothing."""
    config = llm.vllm_config.parallel_config
    return getattr(config, "nnodes", 1) > 1 or config.distributed_executor_backend == "ray"
