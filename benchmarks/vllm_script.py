"""The job as a good engineer writes it by hand for vLLM: stage after stage, each stage one call of `LLM.generate`.

All initial answers; all critiques; all revisions; …; all votes, both ways round, of all principles in one call. The
texts, draws and seeds are those of the library (its templates are pure functions), so that both do the same work. It
stores nothing but one JSON file, does not resume, and a failure ends it.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.vllm_outcome import Call, Outcome
from constitution import templates
from constitution.generate.outcomes import clean
from constitution.generate.revise import revising
from constitution.identity import digest, seed
from constitution.measures import refuses_briefly
from constitution.pipeline.plan import judging
from constitution.principles import find_root, load_constitution
from constitution.principles.selection import draw_principle
from constitution.prompts import read_prompts
from constitution.recipe import Recipe
from constitution.records import Messages, Prompt, Sampling, as_dicts


class Script:
    """The hand-written script; the model loads once, `run` does the job once."""

    def __init__(self, recipe: Recipe, recipe_path: Path, model: Path, arguments: dict[str, Any]) -> None:
        from vllm import LLM

        self.recipe = recipe
        self.base = recipe_path.parent
        self.llm = LLM(model=str(model), **arguments)
        self.tokenizer = self.llm.get_tokenizer()
        self.labels = [self._label(label) for label in templates.LABELS]
        self.done: list[Any] = []
        """vLLM's own record of every request of the latest run."""

    def run(self, out: Path, keep_calls: bool) -> Outcome:
        self.llm.reset_prefix_cache()
        self.done = []
        begun = time.perf_counter()
        recipe = self.recipe
        prompts = list(read_prompts(recipe.prompts, self.base))
        constitution = load_constitution(find_root(self.base), recipe.constitution)
        revise_by, judge_by = revising(recipe, constitution), judging(recipe, constitution)
        ids = [prompt.id for prompt in prompts]
        initial = self._stage(
            [prompt.messages for prompt in prompts], recipe.revise.initial.sampling, ids, "initial", 0
        )
        texts = [[answer] for answer in initial]
        last = list(initial)
        for round in range(1, recipe.revise.rounds + 1):
            going = [index for index, answer in enumerate(initial) if answer]
            drawn = [draw_principle(revise_by, recipe.seed, ids[index], round) for index in going]
            shots = [constitution.exemplars_for(principle)[: recipe.revise.exemplars] for principle in drawn]
            asked = [
                templates.critique_messages(prompts[i].messages, last[i], principle, shot)
                for i, principle, shot in zip(going, drawn, shots, strict=True)
            ]
            going_ids = [ids[index] for index in going]
            critiques = self._stage(asked, recipe.revise.critique.sampling, going_ids, "critique", round)
            asked, able = [], []
            for i, principle, shot, critique in zip(going, drawn, shots, critiques, strict=True):
                texts[i].append(critique)
                if critique and not refuses_briefly(critique):
                    able.append(i)
                    asked.append(templates.revision_messages(prompts[i].messages, last[i], critique, principle, shot))
            revisions = self._stage(asked, recipe.revise.revision.sampling, [ids[i] for i in able], "revision", round)
            for i, revision in zip(able, revisions, strict=True):
                texts[i].append(revision)
                last[i] = revision or last[i]
        votes = self._votes(prompts, initial, last, judge_by)
        answers = dict(zip(ids, texts, strict=True))
        out.write_text(json.dumps({"answers": answers, "votes": votes}))
        return self._outcome(time.perf_counter() - begun, answers, votes, keep_calls)

    def _stage(
        self, chats: Sequence[Messages], sampling: Sampling, ids: Sequence[str], step: str, round: int
    ) -> list[str]:
        from vllm import SamplingParams

        settings = [
            SamplingParams(
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                max_tokens=sampling.max_tokens,
                stop=list(sampling.stop),
                seed=seed(self.recipe.seed, id, step, round),
            )
            for id in ids
        ]
        return [clean(output.outputs[0].text) for output in self._generate(chats, settings, continues=False)]

    def _votes(
        self, prompts: Sequence[Prompt], initial: Sequence[str], last: Sequence[str], judging: Sequence[Any]
    ) -> dict[str, float]:
        from vllm import SamplingParams

        chats, names = [], []
        for prompt, first, second in zip(prompts, initial, last, strict=True):
            if not first or first == second:
                continue
            nonce = digest([self.recipe.seed, prompt.id])[:6]  # as the library makes it: the same tokens for both
            for order, shown in (("ab", (first, second)), ("ba", (second, first))):
                for principle in judging:
                    chats.append(templates.vote_messages(prompt.messages, *shown, principle, nonce))
                    names.append(f"{prompt.id}/{principle.id}/{order}")
        settings = SamplingParams(temperature=0.0, max_tokens=1, logprob_token_ids=self.labels)
        outputs = self._generate(chats, [settings] * len(chats), continues=True)
        found = {}
        for name, output in zip(names, outputs, strict=True):
            a, b = (math.exp(output.outputs[0].logprobs[0][label].logprob) for label in self.labels)
            found[name] = a / (a + b)
        return found

    def _generate(self, chats: Sequence[Messages], settings: list[Any], *, continues: bool) -> list[Any]:
        from vllm import TokensPrompt

        if not chats:
            return []
        tokens = self.tokenizer.apply_chat_template(
            [as_dicts(chat) for chat in chats],
            add_generation_prompt=not continues,
            continue_final_message=continues,
            tokenize=True,
            return_dict=False,
        )
        prompts = [TokensPrompt(prompt_token_ids=ids) for ids in tokens]
        found: list[Any] = self.llm.generate(prompts, settings, use_tqdm=False)
        self.done += found
        return found

    def _label(self, label: str) -> int:
        (token,) = self.tokenizer.encode(label, add_special_tokens=False)
        return int(token)

    def _outcome(
        self, seconds: float, answers: dict[str, list[str]], votes: dict[str, float], keep_calls: bool
    ) -> Outcome:
        calls = [
            Call(output.prompt_token_ids, output.outputs[0].token_ids, output.num_cached_tokens) for output in self.done
        ]
        return Outcome(
            seconds=seconds,
            prompts=len(answers),
            answers=answers,
            votes=votes,
            calls=calls if keep_calls else [],
            requests=len(calls),
            prompt_tokens=sum(len(call.prompt) for call in calls),
            cached_tokens=sum(call.cached for call in calls),
            output_tokens=sum(len(call.output) for call in calls),
        )
