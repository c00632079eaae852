"""Samplers in Python: a class of a Python program makes each answer of `[sample.NAME]`, whose section says how many,
of which model, by which system prompt and sampling.

    class Shorter(Sampler):
        version = "1"

        async def answer(self, asked):
            draft = await asked.ask()
            return await asked.ask(asked.then(draft.text, "Say it in one sentence."))

    run(load_recipe("recipe.toml"), samplers={"short": Shorter()})      # made by [sample.short]

Rows, ids, seeds, failures and resuming are the run's business (sample.py); what it asks and says is the class's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from constitution.engines.base import FINISH_REASONS, Completion, Engine, Request
from constitution.errors import RecipeError, RequestRefused
from constitution.identity import seed
from constitution.recipe import Recipe, SampleSection
from constitution.records import Message, Messages, Prompt, Response


@dataclass(slots=True)
class Asked:
    """One answer that is to be made."""

    prompt: Prompt
    number: int
    """The answer's among those of its sampler, from 0."""
    request: Request
    """What the section alone would ask: the conversation with the system prompt, the sampling, the place's seed."""
    seen: tuple[Response, ...]
    """With sees = "others": the answers of those that see nothing."""
    _engine: Engine
    _done: list[Completion] = field(default_factory=list)
    _count: int = 0

    def then(self, answer: str, message: str) -> Messages:
        """The conversation, and after it this answer and a further message."""
        return (*self.request.messages, Message("assistant", answer), Message("user", message))

    async def ask(self, messages: Messages | None = None) -> Completion:
        """Asks the section's model, by its sampling; None: `request` as it is. Each further request has another seed,
        which follows from the place's. Raises EngineError, which is to be let through: it becomes a Failure."""
        number, self._count = self._count, self._count + 1
        request = replace(
            self.request,
            messages=self.request.messages if messages is None else messages,
            seed=seed(self.request.seed, number) if number else self.request.seed,
            thought="" if messages is not None and messages[-1].role == "assistant" else self.request.thought,
        )
        done = await self._engine.generate(request)
        self._done.append(done)
        return done

    @property
    def calls(self) -> int:
        """Requests that were answered."""
        return len(self._done)

    def whole(self, made: Completion) -> Completion:
        """With the tokens of all that was asked."""
        done = self._done
        return replace(
            made,
            prompt_tokens=sum(each.prompt_tokens for each in done),
            cached_tokens=sum(each.cached_tokens for each in done),
            completion_tokens=sum(each.completion_tokens for each in done),
            reasoning_tokens=sum(each.reasoning_tokens for each in done),
            unsent=tuple(dict.fromkeys(name for each in done for name in each.unsent)),
        )


class Sampler(Protocol):
    """A class that is made from it (`class Mine(Sampler)`) needs `version` and `answer`."""

    version: str
    """To be changed with whatever changes its answers: name, version and settings are in the run's id."""

    def describe(self) -> Mapping[str, Any]:
        """What determines its answers, as JSON values: name, version, and as settings every attribute of the object and
        of its class that holds data and whose name does not begin with an underscore."""
        own = [kind for kind in type(self).__mro__ if kind is not Sampler and Sampler in kind.__mro__]
        names = {name for kind in own for name, value in vars(kind).items() if not hasattr(value, "__get__")}
        names.update(getattr(self, "__dataclass_fields__", ()), getattr(self, "__dict__", ()))
        settings = {name: getattr(self, name) for name in sorted(names - {"version"}) if not name.startswith("_")}
        return {
            "name": type(self).__qualname__,
            "version": self.version,
            **({"settings": settings} if settings else {}),
        }

    async def answer(self, asked: Asked) -> Completion | str:
        """One answer: what a model completed (`asked.ask`), changed or not, or a text of the program. It is called for
        many places at once, and again after a restart for those that have no row yet."""
        ...


async def made_by(sampler: Sampler, asked: Asked) -> Completion:
    """What it says of one place. Raises the EngineError that it lets through, and TypeError and ValueError for what is
    no answer."""
    said = await sampler.answer(asked)
    name = type(sampler).__qualname__
    if isinstance(said, str):
        said = Completion(said, "stop", 0, 0)
    if not isinstance(said, Completion):
        raise TypeError(f"{name}.answer gave {type(said).__name__}, neither a text nor a Completion")
    if said.finish_reason not in FINISH_REASONS:
        raise ValueError(f"{name}.answer: finish_reason {said.finish_reason!r} is none of {', '.join(FINISH_REASONS)}")
    if any("\0" in text or not _whole(text) for text in (said.text, said.reasoning or "")):
        raise ValueError(f"{name}.answer: its text holds a NUL or half of a surrogate pair, which no table can hold")
    if not asked.calls and (said.prompt_tokens or said.completion_tokens):
        raise ValueError(f"{name}.answer: tokens of a model that the run did not ask; pass it as an engine, and ask it")
    return asked.whole(said)


def _whole(text: str) -> bool:
    return text.isascii() or text == text.encode("utf-8", "replace").decode("utf-8")


def own_of(name: str, section: SampleSection) -> Sampler | None:
    """None: the model is asked as the section says. Raises RequestRefused where the program that passed it is not
    there."""
    if section.about and section.own is None:
        raise RequestRefused(f"sample.{name} is answered by {section.about.get('name')}, a class of a Python program")
    own: Sampler | None = section.own
    return own


def check_passed(recipe: Recipe) -> None:
    """Raises RecipeError for a sampler of a Python program that is not passed."""
    for name, section in recipe.sample.items():
        if section.about and section.own is None:
            raise RecipeError(
                f"sample.{name}: {section.about.get('name')} is a sampler of a Python program",
                hint="pass it: run(…, samplers=…)",
            )
