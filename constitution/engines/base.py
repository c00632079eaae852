"""The seam: everything that generates text is an `Engine`, and nothing above this line knows which one.

    request = Request(messages, Sampling(max_tokens=64), seed=1)
    completion = await engine.generate(request)

Rendering (templates, few-shot exemplars, judge prompts) happens above the seam; chat templates, batching, retries and
transport happen below it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

from constitution.records import Messages, Sampling


@dataclass(frozen=True, slots=True)
class Request:
    messages: Messages
    """If the last one is the assistant's, it is a prefix that the model continues."""
    sampling: Sampling
    seed: int
    priority: int = 0
    """Lower runs first, as in vLLM."""
    choices: tuple[str, ...] = ()
    """Labels whose log-probabilities, as the next text, are wanted. With choices, one token is generated at most."""
    affinity: str = ""
    """Requests of equal affinity (the id of a prompt, or of its conversation) begin alike: a fleet keeps them on one
    server, whose cache has it."""
    step: str = ""
    """What it is for (initial, critique, vote …): whether an engine can be used at all is told by its steps."""
    answered: int = 0
    """Replies to it that earlier starts could not use: an engine that keeps replies gives another one."""
    thought: str = ""
    """What the model is given as its own thought, closed, before the text that it writes; not with choices, and not
    where the last message is a prefix. Empty: it thinks as it does."""

    closed: bool = False
    """The last message, the assistant's, is over: the choices are tokens of the vocabulary, by their names, and are
    read right after the token that ends the turn (LaSeR, arXiv 2510.14943, section 3). Without choices: a reward model
    scores it."""

    @property
    def continues(self) -> bool:
        return self.messages[-1].role == "assistant" and not self.closed


FINISH_REASONS = ("stop", "length", "refusal", "content_filter", "tool_calls")
"""stop: at its end. length: by max_tokens. refusal: the server says that the model refuses, and `text` is how it does.
content_filter: held back, and `text` is what came before. tool_calls: to call a tool, and `text` is what it said before
that."""

SLACK = 1e-3
"""By so much probabilities may add up to more than 1, and a log-probability be over 0, from rounding alone."""


class Unseen(NamedTuple):
    """How likely the choices can be at most that an engine does not know, such as those outside a server's top 20."""

    each: float
    """Probability that none of them exceeds."""
    together: float
    """Probability that all of them together do not exceed."""


@dataclass(frozen=True, slots=True)
class Completion:
    text: str
    """What the model wrote, without the prefix that it continued; never its reasoning."""
    finish_reason: str
    """One of FINISH_REASONS. An engine says the same of a server's own words for them; a generation that was broken off
    (abort, error, none given) is an EngineError, not a completion."""
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    choice_logprobs: Mapping[str, float] | None = None
    """Raw log-probability (natural log, over the whole vocabulary, temperature 1) of each of the request's choices.
    Those that the engine does not know are missing, and `unseen` is given."""
    reasoning: str | None = None
    """What it thought before it wrote the text, without its tags; None: nothing that is known."""
    reasoning_tokens: int = 0
    """Part of `completion_tokens`: tokens of the reasoning; 0: none that are known."""
    unsent: tuple[str, ...] = ()
    """Those of seed, temperature and top_p that the server was not sent: it refuses them, or the recipe omits them."""
    unseen: Unseen | None = None
    """Probability of the choices that `choice_logprobs` lacks; None: it lacks none."""


class Engine(Protocol):
    """Errors come as the exceptions of `constitution.errors`: retryable ones after the engine has done its retries.

    A class that is made from it (`class Mine(Engine)`) needs `model` and `generate` alone.
    """

    @property
    def model(self) -> str:
        """Short name of the model, as the columns `model` and `judge` have it."""
        ...

    def describe(self) -> Mapping[str, str]:
        """What determines the model's answers, for the run's provenance: name, engine, digest or revision, dtype."""
        return {"name": self.model, "engine": type(self).__name__}

    async def generate(self, request: Request) -> Completion: ...

    def stats(self) -> Mapping[str, Any]:
        """What the engine can tell of its work since it opened, as JSON values, for the run's record: figures such as
        `running`, `waiting`, `preemptions`; per server under `endpoints`; and under `events` sentences on what went
        wrong and was mended. Empty where there is nothing to tell."""
        return {}

    async def close(self) -> None:
        """Frees what the engine holds."""
        return


@runtime_checkable
class Scorer(Protocol):
    """What an engine has besides that is asked as a scalar reward model."""

    async def score(self, messages: Messages) -> float:
        """The raw number, on the model's own scale, for the last message, which is the assistant's whole answer to
        those before it. A conversation is never shortened to fit: ContextTooLong."""
        ...


class Unasked(Engine):
    """Takes the place of an engine where no model is asked."""

    @property
    def model(self) -> str:
        return ""

    async def generate(self, request: Request) -> Completion:
        raise NotImplementedError("no model is asked")
