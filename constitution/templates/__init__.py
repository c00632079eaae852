"""Prompt texts as files beside this module, and the pure functions that fill them.

A template's `{{name}}` is replaced in one pass, so that braces in what people or models wrote are never read again.
`REVISE`, `PERTURB` and those of the methods of judging are the sets of templates; a row's `template_digest`
is the digest of the set it came from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from constitution.identity import digest
from constitution.records import Criterion, Exemplar, Message, Messages, Perturbation, Principle

LABELS = ("A", "B")
"""What the judge chooses from; the assistant's prefix opens the bracket, so that each is one token."""
GRADES = tuple("123456789")
"""From the worst to the best. Not 10: to most tokenizers it is two tokens, the first of which is the grade 1."""
LETTERS = tuple("TSRQPONMLKJIHGFEDCBA")
"""Finer grades, from the worst to the best. Letters are one token each, to tokenizers that split numbers into digits
too, and A is the best, as at school. Not more than the 20 likeliest tokens that a server returns."""
REPLIES = ("Y", "N")
"""To a criterion: yes, no."""

_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")
_FOLDER = Path(__file__).parent
_SPEAKERS = {"system": "System", "user": "Human", "assistant": "Assistant"}


@dataclass(frozen=True)
class TemplateSet:
    """Templates that work together. `digest` covers every text."""

    texts: Mapping[str, str]

    @cached_property
    def digest(self) -> str:
        return digest(dict(self.texts))


def _load(*names: str) -> TemplateSet:
    """The files without the newline that ends them: a prefix must end where the model continues."""
    return TemplateSet({name: (_FOLDER / name).read_text(encoding="utf-8").removesuffix("\n") for name in names})


REVISE = _load("critique.txt", "revision.txt")
JUDGE = _load("vote.txt", "vote-prefix.txt")
RATIONALE = _load("rationale.txt", "vote-prefix.txt")
SCORE = _load("score.txt", "score-prefix.txt")
SCORE_FINE = _load("score-20.txt", "score-prefix.txt")
RUBRIC = _load("rubric.txt", "vote-prefix.txt")
VERDICT = _load("verdict.txt")
PERTURB = _load("polished.txt", "terse.txt", "sarcastic.txt")

ENDING = JUDGE.texts["vote-prefix.txt"]
"""After it comes a label: what a vote by label begins with, and a rationale ends with."""


def fill(template: str, values: Mapping[str, str]) -> str:
    """`template` with every `{{name}}` replaced from `values`, in one pass. Raises KeyError for a name not in it."""
    return _PLACEHOLDER.sub(lambda match: values[match[1]], template)


def critique_messages(
    prompt: Messages, response: str, principle: Principle, exemplars: Sequence[Exemplar] = ()
) -> Messages:
    """The chat that asks for a critique of `response` (Constitutional AI, arXiv 2212.08073, section 3.1)."""
    request = _request("critique.txt", principle.critique_request, prompt, response)
    return (*_opening(prompt, principle, exemplars), Message("assistant", response), Message("user", request))


def revision_messages(
    prompt: Messages, response: str, critique: str, principle: Principle, exemplars: Sequence[Exemplar] = ()
) -> Messages:
    """The chat that asks for the revision: it begins with the critique's chat, so that a prefix cache serves it."""
    request = _request("revision.txt", principle.revision_request, prompt, response)
    asked = critique_messages(prompt, response, principle, exemplars)
    return (*asked, Message("assistant", critique), Message("user", request))


def perturb_messages(prompt: Messages, answer: str, perturbation: Perturbation) -> Messages:
    """The chat that asks for `answer` with a perturbation put in."""
    return (*prompt, Message("assistant", answer), Message("user", PERTURB.texts[f"{perturbation}.txt"]))


def vote_messages(prompt: Messages, first: str, second: str, principle: Principle, nonce: str) -> Messages:
    """The judge's chat; it ends with an assistant prefix, after which the model writes one of `LABELS`.

    What the votes on one pair share (conversation, answers) comes first and the principle's question last, so that a
    prefix cache serves them. `nonce` is in every mark and unknown to the texts' authors; the texts lose it, and
    anything that looks like a mark (`disarm`).
    """
    return (
        Message("user", _two_answers(JUDGE.texts["vote.txt"], prompt, (first, second), principle, nonce)),
        _ending(),
    )


def rationale_messages(
    prompt: Messages, first: str, second: str, principle: Principle, nonce: str, rationale: str | None = None
) -> Messages:
    """As `vote_messages`, but the judge is to reason first. With the `rationale` that it wrote, the chat continues
    after that and the standard ending (arXiv 2309.00267), with one of `LABELS`."""
    asked = _two_answers(RATIONALE.texts["rationale.txt"], prompt, (first, second), principle, nonce)
    return (Message("user", asked),) if rationale is None else (Message("user", asked), _ending(rationale))


def verdict_messages(prompt: Messages, first: str, second: str, principle: Principle, nonce: str) -> Messages:
    """The chat that asks for a verdict in writing: one turn, which any server takes as it is."""
    return (Message("user", _two_answers(VERDICT.texts["verdict.txt"], prompt, (first, second), principle, nonce)),)


def score_messages(
    prompt: Messages, answer: str, principle: Principle, nonce: str, grades: tuple[str, ...] = GRADES
) -> Messages:
    """The chat that asks for a grade of one answer; after its prefix the model writes one of the grades: `GRADES` or
    `LETTERS`.

    Conversation and answer come first, so that a prefix cache serves all principles.
    """
    question = principle.comparison_question
    template = SCORE.texts["score.txt"] if grades == GRADES else SCORE_FINE.texts["score-20.txt"]
    asked = _one_answer(template, prompt, answer, nonce, {"question": question})
    return (Message("user", asked), Message("assistant", SCORE.texts["score-prefix.txt"]))


def rubric_messages(prompt: Messages, answer: str, criterion: Criterion, nonce: str) -> Messages:
    """The chat that asks one criterion of one answer; after its prefix the model writes one of `REPLIES`."""
    asked = _one_answer(RUBRIC.texts["rubric.txt"], prompt, answer, nonce, {"criterion": criterion.question})
    return (Message("user", asked), _ending())


def transcript(messages: Messages) -> str:
    """The conversation as one text, every turn whole; lines that would pass for another turn are quoted."""
    from constitution.templates.disarm import quote_turns  # compiles patterns for 30 ms, which readers need not

    return "\n\n".join(f"{_SPEAKERS[message.role]}: {quote_turns(message.content)}" for message in messages)


# Kept: the votes on a pair are rendered one after the other and show the same texts. By the kind of the template and
# not by its mark: a pattern is hashed by all of its code.
@lru_cache(maxsize=64)
def _disarm(text: str, nonce: str, one: bool) -> str:
    """`one`: for a template that shows one answer."""
    from constitution.templates.disarm import MARK, MARK_OF_ONE, disarm

    return disarm(text, nonce, MARK_OF_ONE if one else MARK)


@lru_cache(maxsize=64)
def _conversation(prompt: Messages, nonce: str, one: bool) -> str:
    # Turn by turn and before turns are quoted: what is behind a mark begins a line once the mark is gone.
    return transcript(tuple(Message(turn.role, _disarm(turn.content, nonce, one)) for turn in prompt))


def _two_answers(template: str, prompt: Messages, shown: tuple[str, str], principle: Principle, nonce: str) -> str:
    values = {
        "nonce": nonce,
        "conversation": _conversation(prompt, nonce, False),
        "first": _disarm(shown[0], nonce, False),
        "second": _disarm(shown[1], nonce, False),
        "question": principle.comparison_question,
    }
    return fill(template, values)


def _one_answer(template: str, prompt: Messages, answer: str, nonce: str, asked: Mapping[str, str]) -> str:
    values = {
        "nonce": nonce,
        "conversation": _conversation(prompt, nonce, True),
        "answer": _disarm(answer, nonce, True),
        **asked,
    }
    return fill(template, values)


def _ending(rationale: str = "") -> Message:
    return Message("assistant", f"{rationale}\n\n{ENDING}" if rationale else ENDING)


def _request(template: str, request: str, prompt: Messages, response: str) -> str:
    """A principle's request in its template; the request may name `{{prompt}}` (last human turn) and `{{response}}`."""
    last_turn = next((message.content for message in reversed(prompt) if message.role == "user"), "")
    request = fill(request, {"prompt": last_turn, "response": response})
    return fill(REVISE.texts[template], {"request": request})


def _opening(prompt: Messages, principle: Principle, exemplars: Sequence[Exemplar]) -> Messages:
    """System messages, then the exemplars as turns of the same chat, then the conversation.

    An exemplar's own system message opens its first human turn: in mid-chat many models refuse one, and at the top it
    would speak for the conversation too.
    """
    system = tuple(message for message in prompt if message.role == "system")
    turns = tuple(message for message in prompt if message.role != "system")
    shown = _shown(tuple(exemplars), principle.critique_request, principle.revision_request)
    return (*system, *shown, *turns)


@lru_cache(maxsize=1024)
def _shown(exemplars: tuple[Exemplar, ...], critique_request: str, revision_request: str) -> Messages:
    """The exemplars as turns of a chat. Kept: they are the same in every chat by one principle."""
    shown: list[Message] = []
    for exemplar in exemplars:
        context, answer = exemplar.messages, exemplar.response
        critique = _request("critique.txt", exemplar.critique_request or critique_request, context, answer)
        revision = _request("revision.txt", exemplar.revision_request or revision_request, context, answer)
        shown += [
            *_without_system(context),
            Message("assistant", answer),
            Message("user", critique),
            Message("assistant", exemplar.critique),
            Message("user", revision),
            Message("assistant", exemplar.revision),
        ]
    return tuple(shown)


def _without_system(messages: Messages) -> Messages:
    """`messages` with the system's words put before those of the first human turn."""
    said = [message.content for message in messages if message.role == "system"]
    turns = [message for message in messages if message.role != "system"]
    if said and turns:
        turns[0] = Message(turns[0].role, "\n\n".join([*said, turns[0].content]))
    return tuple(turns)
