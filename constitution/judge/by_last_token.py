"""Rewards by the token after an answer: beta * (log p(token | prompt, answer) - c_ref) of a model that was trained so
(LaSeR, arXiv 2510.14943, section 3; as its published code reads it).

The token is read right after the one that ends the answer's turn. `raw` is the reward as it is computed, `value` the
same no lower than 0 and no higher than 1, which the training aims at. In a model that was not trained so the number
means nothing: it is refused where nothing in the model's files says so, unless the recipe wants it anyway.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from constitution.engines.base import SLACK, Engine, Request
from constitution.errors import MalformedReply, RecipeError
from constitution.generate.base import Emit
from constitution.judge.raw import Number, Readings
from constitution.judge.sources import Reads
from constitution.recipe import LastTokenSection, Recipe, RewardSection
from constitution.records import Constitution, Failure, Message, Prompt, Response, Reward, Row, Sampling, Score

STEP = "reward-last-token"
_ONE_TOKEN = Sampling(temperature=0.0, max_tokens=1)


def reads(section: RewardSection, constitution: Constitution) -> Reads:
    """No judge is asked and no rule is looked at."""
    return Reads()


def check_policy(recipe: Recipe) -> None:
    """Raises RecipeError for an engine that cannot read it."""
    policy = recipe.model.policy
    if policy.engine == "openai":
        raise RecipeError(
            f"reward.by: last-token reads the token after an answer that is over, which the API of {policy.model} does "
            "not have",
            hint='run the policy in the process, by engine = "transformers" or "vllm"',
        )


def check_trained(recipe: Recipe, policy: Engine) -> None:
    """Raises RecipeError where the policy's files do not say that it was trained for this, or say that it was by other
    settings."""
    own = recipe.reward.last_token if recipe.reward else None
    if own is None or own.anyway:
        return
    model, about = policy.model, policy.describe()
    if "read_out" not in about:
        raise RecipeError(
            f"reward.by: last-token means nothing in a model that was not trained for it, and nothing in the files of "
            f"{model} says that it was",
            hint="train it by LaSeR's loss, which is to leave `last_token_reward` in its config.json; or set "
            "reward.last_token.anyway = true (run --anyway), and look at reward_auc in the audit",
        )
    try:
        stated = json.loads(about["read_out"])
    except ValueError:
        return  # its card says so, without the settings
    for name in ("token", "c_ref", "beta") if isinstance(stated, dict) else ():
        if name in stated and stated[name] != getattr(own, name):
            raise RecipeError(
                f"reward.last_token.{name}: it is {getattr(own, name)!r}, and {model} was trained with {stated[name]!r}"
            )


@dataclass(frozen=True, slots=True)
class ReadOut:
    """What the rewards by the token of one start of a run have in common."""

    run_id: str
    attempt: int
    section: RewardSection
    own: LastTokenSection
    engine: Engine

    @property
    def readings(self) -> Readings:
        return Readings(self.run_id, self.attempt, self.section, "last-token", self.engine.model, self._ask)

    async def rewards(
        self, prompt: Prompt, answers: Sequence[Response], have: Mapping[str, Row], emit: Emit
    ) -> tuple[list[Reward], list[Failure]]:
        """Those of the answers, and the failures that left one without value, or to be made."""
        readings = self.readings
        found = await readings.made(prompt, answers, have, emit)
        made: list[Reward] = []
        for answer in answers:
            there, read = have.get(readings.reward_id(answer)), found.get(answer.text)
            if isinstance(there, Reward):
                made.append(there)
            elif not (isinstance(read, Failure) and read.retryable):
                raw = self.reward_of(read.raw) if isinstance(read, Score) and read.raw is not None else None
                value = None if raw is None else min(max(raw, 0.0), 1.0)
                made.append(readings.reward(answer, read, value, raw))
        await emit([reward for reward in made if reward.id not in have])
        return made, [read for read in found.values() if isinstance(read, Failure)]

    def reward_of(self, logprob: float) -> float:
        return self.own.beta * (logprob - self.own.c_ref)

    def request(self, prompt: Prompt, text: str) -> Request:
        messages, affinity = (*prompt.messages, Message("assistant", text)), prompt.first_id or prompt.id
        return Request(messages, _ONE_TOKEN, 0, choices=(self.own.token,), affinity=affinity, step=STEP, closed=True)

    async def _ask(self, prompt: Prompt, text: str) -> Number:
        token = self.own.token
        done = await self.engine.generate(self.request(prompt, text))
        logprob = (done.choice_logprobs or {}).get(token)
        if logprob is None or not -float("inf") < logprob <= SLACK:  # NaN too
            error = MalformedReply(f"{logprob} is given as the log-probability of {token}")
            error.retryable = False
            raise error
        return Number(logprob, done.prompt_tokens, done.cached_tokens, done.completion_tokens)
