"""The chat template of a server: how it is spoken to, and what of it shows in the replies.

A server renders messages itself. vLLM's shows its prompts (/tokenize, /detokenize), so it is asked once whether the
template opens a thought before each answer, and whether it shows the day; of others this is not known.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

from constitution.engines.base import Completion
from constitution.engines.reasoning import Form, Thought, begins, opened_by, split
from constitution.engines.spoken import Spoken, today
from constitution.errors import EngineError
from constitution.recipe import OpenAIModel

OFF = {"enable_thinking": False, "thinking": False}
"""Variables that turn reasoning off in most templates; others leave them alone."""
DATE, DATE_FORMAT = "date_string", "%d %b %Y"
"""The variable by which the templates that have one are told the day, and how Llama's write it."""
FORMATS = (
    DATE_FORMAT,
    "%d %B %Y",
    "%Y-%m-%d",
    "%B %d, %Y",
    "%b %d, %Y",
    "%A, %B %d",
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%Y/%m/%d",
)
MARK = "DATEOFTODAY"
"""What is sent as the date to see whether the template takes it."""
ASK_SECONDS = 10.0

Render = Callable[[Mapping[str, Any]], Awaitable[str]]
"""The prompt that the server makes of one user turn, with these chat_template_kwargs. Raises EngineError."""


class ServedTemplate:
    """One model's template, whose servers are taken to have the same."""

    def __init__(self, section: OpenAIModel, note: Callable[[str], object]) -> None:
        """note: takes an event."""
        self._spoken, self._note = Spoken.of(section), note
        self._keeps = section.reasoning == "keep"
        self._variables = {**(OFF if section.reasoning == "off" else {}), **section.chat_template_kwargs}
        self.opens: Form | None = None
        """The form of the thought that it opens before each answer."""
        self._dated = ""
        """How the day is told, for the run's record; empty: it shows none, or that is not known."""
        self.stops = True
        """False once a stop string has ended a thought: they are meant for answers."""

    async def ask(self, render: Render) -> None:
        """Looks at a prompt. A server that shows none is left at that."""
        with suppress(EngineError, TimeoutError):
            async with asyncio.timeout(ASK_SECONDS):
                prompt = await render(self._variables)
                self.opens = opened_by(prompt)
                if DATE not in self._variables and _shows_today(prompt):
                    await self._pin(render)

    async def _pin(self, render: Render) -> None:
        if MARK in await render({**self._variables, DATE: MARK}):
            self._variables[DATE] = self._spoken.date.strftime(DATE_FORMAT)
            self._dated = self._spoken.date.isoformat()
            return
        self._dated = f"the server's, {today().isoformat()} at this start"
        self._note(
            "the server's chat template shows the day of the server's clock, which no request can set: answers of "
            "another day are to another prompt"
        )

    @property
    def facts(self) -> dict[str, str]:
        return {"template_date": self._dated} if self._dated else {}

    def fields(self, label: bool) -> dict[str, Any]:
        """Fields of a request's body. label: for the probabilities of labels, which are of no use within a thought."""
        variables = {**OFF, **self._variables} if label and self.opens else self._variables
        return {"chat_template_kwargs": dict(variables)} if variables else {}

    def parted(self, text: str, cut: bool, told: str | None, counted: bool) -> Thought:
        """What a reply has as its content, in answer and thought.

        cut: max_tokens ended it. told: the thought that the server parted off itself; the content is then the answer,
        unless it begins with the same thought. counted: the server only says how many tokens of reasoning there are,
        which some do (with 0) that part nothing off: then a thought is what the answer begins with.
        """
        if self._keeps:
            return Thought(text)
        if told is not None:
            found = split(text) if begins(text) else Thought(text)
            return found if found.closed and _words(found.reasoning) == _words(told) else Thought(text)
        if counted:
            return split(text, None, cut) if begins(text) else Thought(text)
        # Without a closing tag nothing says that there was a thought, unless max_tokens ended it.
        opened = self.opens if self.opens and (cut or self.opens.closing in text) else None
        return split(text, opened, cut)

    def ended_thought(self, completion: Completion) -> bool:
        """Whether a stop string, which was sent and is meant for the answer, ended the thought before it. From then on
        none is sent."""
        if completion.text or completion.reasoning is None or completion.finish_reason != "stop":
            return False
        if self.stops:
            self.stops = False
            self._note("stop strings ended the model's thoughts: none are sent, and answers are cut where they begin")
        return True


def with_tokens_of(completion: Completion, before: Completion) -> Completion:
    """`completion` with the tokens that a call before it took too."""
    return replace(
        completion,
        prompt_tokens=completion.prompt_tokens + before.prompt_tokens,
        cached_tokens=completion.cached_tokens + before.cached_tokens,
        completion_tokens=completion.completion_tokens + before.completion_tokens,
        reasoning_tokens=completion.reasoning_tokens + before.reasoning_tokens,
    )


def _words(text: str | None) -> list[str]:
    return (text or "").split()


def _shows_today(prompt: str) -> bool:
    """Wherever the server's clock is."""
    days: list[date] = [today() + timedelta(days) for days in (-1, 0, 1)]
    return any(day.strftime(format) in prompt for day in days for format in FORMATS)
