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
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

from constitution.engines import _vllm_start
from constitution.engines._chat import ChatTokenizer
from constitution.engines._turns import Turns
from constitution.engines._vllm_gauges import Gauges
from constitution.engines._vllm_place import place
from constitution.engines.base import Completion, Request
from constitution.engines.weights import ends, find, find_adapter, first_line, folder_digest, load_tokenizer, short_name
from constitution.errors import (
    ConstitutionError,
    ContextTooLong,
    EngineError,
    EngineGone,
    EngineUnavailable,
    RequestRefused,
)
from constitution.recipe import VLLMModel


class VLLMEngine:
    """An `Engine` over one vLLM engine, which sections that differ in the adapter alone share."""

    def __init__(self, core: Core, adapter: Path | None) -> None:
        self._core = core
        self._adapter = adapter
        self._lora = core.lora(adapter) if adapter else None
        core.users += 1

    @classmethod
    async def open(cls, section: VLLMModel) -> VLLMEngine:
        """Start vLLM. Raises RecipeError for arguments that it does not take, ModelLoadError."""
        [engine] = await open_together([section], "auto")
        return engine

    @property
    def model(self) -> str:
        return f"{self._core.name}+{self._adapter.name}" if self._adapter else self._core.name

    def describe(self) -> Mapping[str, str]:
        adapter = {"adapter": folder_digest(self._adapter)} if self._adapter else {}
        return {**self._core.facts, "name": self.model, **adapter}

    async def generate(self, request: Request) -> Completion:
        """Raises ContextTooLong for a prompt that leaves no room for a token; where only the answer would be too
        long, max_tokens is cut to the room there is, and the answer ends as `length`."""
        core = self._core
        prompt = core.chat.encode(request.messages)
        labels = {label: self._label(request, label) for label in request.choices}
        room = core.context - len(prompt) - max((len(tokens) - 1 for tokens in labels.values()), default=0)
        if room < 1:
            raise ContextTooLong(
                f"{self.model}: the prompt has {len(prompt)} tokens, and the model takes {core.context}"
                " together with the answer"
            )
        if core.turns is None:
            return await self._answer(request, prompt, labels, room)
        async with core.turns.turn(core):
            return await self._answer(request, prompt, labels, room)

    async def _answer(
        self, request: Request, prompt: list[int], labels: Mapping[str, Sequence[int]], room: int
    ) -> Completion:
        if labels:
            return await self._score(request, prompt, labels)
        sampling = request.sampling
        out = await self._run(
            prompt,
            request,
            max_tokens=min(sampling.max_tokens, room),
            stop=list(sampling.stop),
            # Text is made of the tokens here, once; vLLM needs it, token by token, to look for stop strings only.
            detokenize=bool(sampling.stop),
        )
        answer = out.outputs[0]
        text = self._text(request, prompt, answer)
        if isinstance(answer.stop_reason, str):
            found = [at for stop in sampling.stop if (at := text.find(stop)) >= 0]
            text = text[: min(found)] if found else str(answer.text)
        return self._completion([out], text, answer.finish_reason)

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
        text = self._text(request, prompt, first)
        return self._completion([out for out, _ in found], text, first.finish_reason, logprobs)

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

    def _text(self, request: Request, prompt: list[int], answer: Any) -> str:
        tokens = list(answer.token_ids)
        if tokens and tokens[-1] in self._core.ends:
            tokens.pop()
        return self._core.chat.decode(tokens, prompt[-4:] if request.continues else [])

    def _completion(
        self, outs: Sequence[Any], text: str, reason: str, logprobs: Mapping[str, float] | None = None
    ) -> Completion:
        return Completion(
            text,
            reason,
            sum(len(out.prompt_token_ids) for out in outs),
            sum(len(out.outputs[0].token_ids) for out in outs),
            sum(out.num_cached_tokens or 0 for out in outs),
            logprobs,
        )

    def _label(self, request: Request, label: str) -> list[int]:
        if not label:
            raise RequestRefused(f"{self.model}: an empty label has no probability")
        return self._core.chat.label(request.messages, label)

    def stats(self) -> Mapping[str, Any]:
        """vLLM's own figures (`Gauges.stats`); engines that share one tell the same."""
        return self._core.gauges.stats(self._core.in_flight)

    async def close(self) -> None:
        """The last of those that share vLLM's engine ends it, and what is in flight fails."""
        self._core.users -= 1
        if not self._core.users:
            await self._core.close()


class Core:
    """vLLM's engine, with what is known of its model."""

    def __init__(self, section: VLLMModel, folder: Path, llm: Any, gauges: Gauges) -> None:
        """Raises ModelLoadError for a tokenizer that cannot be used, and for a vLLM that lacks what requests need."""
        with _vllm_start.parts():
            from vllm.exceptions import VLLMValidationError
            from vllm.inputs.engine import tokens_input
            from vllm.sampling_params import RequestOutputKind, SamplingParams
        self.name = short_name(section)
        self.gauges = gauges
        self.turns: Turns[Core] | None = None
        """Where engines share an accelerator in turns."""
        self.users = 0
        self.in_flight = 0
        self._section, self._folder, self._llm = section, folder, llm
        tokenizer = load_tokenizer(section, folder)
        self.chat = ChatTokenizer(tokenizer, self.name)
        self.ends = ends(_generation_config(folder), tokenizer)
        self.context = int(llm.model_config.max_model_len)
        self._numbers = itertools.count()
        self._input = tokens_input
        self._refusals = (VLLMValidationError, ValueError)
        # skip_clone: they are made for one request alone.
        self._params = partial(SamplingParams, output_kind=RequestOutputKind.FINAL_ONLY, skip_clone=True)
        self._loras: dict[Path, Any] = {}

    @classmethod
    async def open(
        cls, section: VLLMModel, adapters: Sequence[Path] = (), memory: float | None = None, sleeps: bool = False
    ) -> Core:
        """As `_vllm_start.start`, in a thread."""
        folder = await asyncio.to_thread(find, section)
        llm, gauges = await _started(section, folder, adapters, memory, sleeps)
        try:
            if not _distributed(llm):
                await llm.collective_rpc("follow", args=(os.getpid(),))
            return await asyncio.to_thread(cls, section, folder, llm, gauges)
        except BaseException:
            await asyncio.to_thread(llm.shutdown)
            raise

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
        """vLLM's RequestOutput for a prompt's tokens; `fields` are of its SamplingParams. A cancelled call takes its
        request out of vLLM. Raises RequestRefused, EngineUnavailable, EngineError."""
        llm, out = self._llm, None
        if llm is None:
            raise self._gone("is closed")
        self.in_flight += 1
        try:
            params = self._params(**fields, stop_token_ids=list(self.ends))
            number, tokens = f"{next(self._numbers)}", self._input(prompt)
            async for each in llm.generate(tokens, params, number, priority=priority, lora_request=lora):
                out = each  # the final one alone
        except Exception as error:
            raise self._translated(error) from error
        finally:
            self.in_flight -= 1
        if out is None or out.outputs[0].finish_reason not in ("stop", "length"):
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

    async def sleep(self) -> None:
        """Give the accelerator's memory back; the weights wait in the machine's. Nothing may be in flight: a request
        to a sleeping engine would hang."""
        await self._llm.sleep(level=1)

    async def wake_up(self) -> None:
        await self._llm.wake_up()

    async def close(self) -> None:
        if self.turns is not None:
            await self.turns.close()
        llm, self._llm = self._llm, None
        await asyncio.to_thread(llm.shutdown)


async def open_together(
    sections: Sequence[VLLMModel], placement: Literal["auto", "together", "turns"]
) -> list[VLLMEngine]:
    """The engines of `sections`, in order. Those that differ in the adapter alone share one of vLLM's; others are on
    the same accelerator as `placement` says. Raises RecipeError, ModelLoadError."""
    adapters = [await asyncio.to_thread(find_adapter, section) for section in sections]
    bases = [section.bare.model_copy(update={"adapter": None}) for section in sections]
    distinct = [base for number, base in enumerate(bases) if base not in bases[:number]]
    placed = await asyncio.to_thread(place, placement, distinct)
    cores: list[Core] = []
    try:
        # The first is the policy's and wakes last, because it begins.
        for base, memory in reversed(list(zip(distinct, placed.memory, strict=True))):
            if placed.turns and cores:
                await cores[-1].sleep()
            folders = [folder for each, folder in zip(bases, adapters, strict=True) if each == base and folder]
            cores.append(await Core.open(base, list(dict.fromkeys(folders)), memory, placed.turns))
    except BaseException:
        for core in cores:
            await core.close()
        raise
    if placed.turns:
        turns = Turns(cores)
        for core in cores:
            core.turns = turns
    cores.reverse()
    return [VLLMEngine(cores[distinct.index(base)], folder) for base, folder in zip(bases, adapters, strict=True)]


async def _started(*given: Any) -> tuple[Any, Gauges]:
    """`_vllm_start.start` in a thread. That cannot be cancelled: an engine that nobody waits for any more is shut down
    as soon as it is there."""
    threads = ThreadPoolExecutor(1, "vllm-start")
    starting = threads.submit(_vllm_start.start, *given)
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
