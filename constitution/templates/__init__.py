"""Prompt texts as files beside this module, and the pure functions that fill them.

A template's `{{name}}` is replaced in one pass, so that braces in what people or models wrote are never read again.
`REVISE`, `PERTURB` and those of the methods of judging are the sets of templates; a row's `template_digest`
is the digest of the set it came from. A project's own (wording.py) take the place of these, set by set.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

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
_MARK = re.compile(r"\[([^\[\]\n{}]*?)\s*\{\{nonce\}\}[^\[\]\n]*\]")


class Frame(NamedTuple):
    """What of a template a text that it shows must not pass for."""

    marks: tuple[str, ...]
    """The words of its marks, without the nonce: `answer A`, `end`."""
    speakers: tuple[str, str, str]
    """How a conversation names system, user and assistant."""


@dataclass(frozen=True, eq=False)
class TemplateSet:
    """Templates that work together. `digest` covers every text."""

    texts: Mapping[str, str]

    @cached_property
    def digest(self) -> str:
        return digest(dict(self.texts))

    @cached_property
    def frame(self) -> Frame:
        marks = dict.fromkeys(mark for text in self.texts.values() for mark in _MARK.findall(text))
        return Frame(tuple(marks), speakers_of(self.texts.get(SPEAKERS, _ENGLISH_SPEAKERS)))

    @property
    def ending(self) -> str:
        """After it comes a label: what a vote by label begins with, and a rationale ends with."""
        return self.texts["vote-prefix.txt"]


SPEAKERS = "speakers.txt"
"""A line for each role: `user: Human`. A set has it where it is not the package's own."""
_ENGLISH_SPEAKERS = "system: System\nuser: Human\nassistant: Assistant"


def speakers_of(text: str) -> tuple[str, str, str]:
    """The names of system, user and assistant. Raises KeyError for a role that the text does not name."""
    names = {role.strip(): name.strip() for role, _, name in (line.partition(":") for line in text.splitlines())}
    return names["system"], names["user"], names["assistant"]


def read_text(name: str) -> str:
    """The package's template, without the newline that ends the file: a prefix must end where the model continues."""
    if name == SPEAKERS:
        return _ENGLISH_SPEAKERS
    return (_FOLDER / name).read_text(encoding="utf-8").removesuffix("\n")


def _load(*names: str) -> TemplateSet:
    return TemplateSet({name: read_text(name) for name in names})


REVISE = _load("critique.txt", "revision.txt")
JUDGE = _load("vote.txt", "vote-prefix.txt")
RATIONALE = _load("rationale.txt", "vote-prefix.txt")
SCORE = _load("score.txt", "score-prefix.txt")
SCORE_FINE = _load("score-20.txt", "score-prefix.txt")
RUBRIC = _load("rubric.txt", "vote-prefix.txt")
RUBRIC_NEGATED = _load("rubric-negated.txt", "vote-prefix.txt")
VERDICT = _load("verdict.txt")
PERTURB = _load("polished.txt", "terse.txt", "sarcastic.txt")
REFERENCE = _load("reference.txt", "reference-answer.txt")
REFERENCE_SEEN = _load("reference-seen.txt", "reference-answer.txt")
WRITE = _load(
    *(f"write-{source}.txt" for source in ("prompt", "principles", "reference", "contrast")),
    *("write-rules.txt", "write-json.txt", "write-xml.txt"),
)
"""What a prompt's rubric is asked for with (judge/rubrics/write.py)."""
EXTRACT = _load("extract.txt", "extract-json.txt", "extract-pair.txt")
"""What drafts of principles are asked for with (propose/extract.py); in SETS it is not, for no project has its own."""
IMPROVE = _load("improve.txt", "improve-pair.txt", "improve-json.txt")
"""What other wordings of a principle are asked for with (propose/wordings.py). No project has its own of these, so they
are not in SETS."""
VALUES = _load("values.txt")
"""What the values in a text are asked for with (propose/values.py); not in SETS either."""
INDUCE = _load("induce.txt", "induce-reasons.txt")
"""What rules are asked for with that may explain a preference (propose/candidates.py)."""
SETS = (
    *(REVISE, JUDGE, RATIONALE, SCORE, SCORE_FINE, RUBRIC, RUBRIC_NEGATED, VERDICT, PERTURB),
    *(REFERENCE, REFERENCE_SEEN, WRITE),
)

ENDING = JUDGE.ending


def fill(template: str, values: Mapping[str, str]) -> str:
    """`template` with every `{{name}}` replaced from `values`, in one pass. Raises KeyError for a name not in it."""
    return _PLACEHOLDER.sub(lambda match: values[match[1]], template)


def critique_messages(
    prompt: Messages,
    response: str,
    principle: Principle,
    exemplars: Sequence[Exemplar] = (),
    texts: TemplateSet = REVISE,
) -> Messages:
    """The chat that asks for a critique of `response` (Constitutional AI, arXiv 2212.08073, section 3.1)."""
    request = _request(texts.texts["critique.txt"], principle.critique_request, prompt, response)
    return (*_opening(prompt, principle, exemplars, texts), Message("assistant", response), Message("user", request))


def revision_messages(
    prompt: Messages,
    response: str,
    critique: str,
    principle: Principle,
    exemplars: Sequence[Exemplar] = (),
    texts: TemplateSet = REVISE,
) -> Messages:
    """The chat that asks for the revision: it begins with the critique's chat, so that a prefix cache serves it."""
    request = _request(texts.texts["revision.txt"], principle.revision_request, prompt, response)
    asked = critique_messages(prompt, response, principle, exemplars, texts)
    return (*asked, Message("assistant", critique), Message("user", request))


def perturb_messages(
    prompt: Messages, answer: str, perturbation: Perturbation, texts: TemplateSet = PERTURB
) -> Messages:
    """The chat that asks for `answer` with a perturbation put in."""
    return (*prompt, Message("assistant", answer), Message("user", texts.texts[f"{perturbation}.txt"]))


def reference_messages(
    prompt: Messages, answers: Sequence[str], nonce: str, texts: TemplateSet = REFERENCE
) -> Messages:
    """The chat that asks for one answer made from `answers` (Compute as Teacher, arXiv 2509.14234): without the
    conversation, or with the texts of `REFERENCE_SEEN` after it, which may have the writer answer for itself."""
    seen, each, frame = "reference-seen.txt" in texts.texts, texts.texts["reference-answer.txt"], texts.frame
    shown = [fill(each, {"nonce": nonce, "answer": _disarm(answer, nonce, frame)}) for answer in answers]
    values = {"nonce": nonce, "answers": "\n\n".join(shown)}
    values |= {"conversation": _conversation(prompt, nonce, frame)} if seen else {}
    return (Message("user", fill(texts.texts["reference-seen.txt" if seen else "reference.txt"], values)),)


def vote_messages(
    prompt: Messages, first: str, second: str, principle: Principle, nonce: str, texts: TemplateSet = JUDGE
) -> Messages:
    """The judge's chat; it ends with an assistant prefix, after which the model writes one of `LABELS`.

    What the votes on one pair share (conversation, answers) comes first and the principle's question last, so that a
    prefix cache serves them. `nonce` is in every mark and unknown to the texts' authors; the texts lose it, and
    anything that looks like a mark (`disarm`).
    """
    asked = _two_answers(texts, "vote.txt", prompt, (first, second), principle, nonce)
    return (Message("user", asked), Message("assistant", texts.ending))


def rationale_messages(
    prompt: Messages,
    first: str,
    second: str,
    principle: Principle,
    nonce: str,
    rationale: str | None = None,
    texts: TemplateSet = RATIONALE,
) -> Messages:
    """As `vote_messages`, but the judge is to reason first. With the `rationale` that it wrote, the chat continues
    after that and the standard ending (arXiv 2309.00267), with one of `LABELS`."""
    asked = Message("user", _two_answers(texts, "rationale.txt", prompt, (first, second), principle, nonce))
    if rationale is None:
        return (asked,)
    return (asked, Message("assistant", f"{rationale}\n\n{texts.ending}" if rationale else texts.ending))


def verdict_messages(
    prompt: Messages, first: str, second: str, principle: Principle, nonce: str, texts: TemplateSet = VERDICT
) -> Messages:
    """The chat that asks for a verdict in writing: one turn, which any server takes as it is."""
    return (Message("user", _two_answers(texts, "verdict.txt", prompt, (first, second), principle, nonce)),)


def score_messages(
    prompt: Messages, answer: str, principle: Principle, nonce: str, texts: TemplateSet = SCORE
) -> Messages:
    """The chat that asks for a grade of one answer; after its prefix the model writes one of the grades: `GRADES`, or
    with the texts of `SCORE_FINE` one of `LETTERS`.

    Conversation and answer come first, so that a prefix cache serves all principles.
    """
    template = "score.txt" if "score.txt" in texts.texts else "score-20.txt"
    asked = _one_answer(texts, template, prompt, answer, nonce, question=principle.comparison_question)
    return (Message("user", asked), Message("assistant", texts.texts["score-prefix.txt"]))


def rubric_messages(
    prompt: Messages, answer: str, criterion: Criterion, nonce: str, texts: TemplateSet = RUBRIC
) -> Messages:
    """The chat that asks one criterion of one answer, or with the texts of `RUBRIC_NEGATED` whether the right reply to
    it is no; after its prefix the model writes one of `REPLIES`."""
    template = "rubric.txt" if "rubric.txt" in texts.texts else "rubric-negated.txt"
    asked = _one_answer(texts, template, prompt, answer, nonce, criterion=criterion.question)
    return (Message("user", asked), Message("assistant", texts.ending))


def item_messages(prompt: Messages, answer: str, question: str, nonce: str, texts: TemplateSet = RUBRIC) -> Messages:
    """As `rubric_messages`, of an item that a model wrote or that came with the prompt: what it asks is shown as what
    others wrote is (`one_line`)."""
    return rubric_messages(prompt, answer, Criterion(one_line(question, nonce, texts)), nonce, texts)


def shown(text: str, nonce: str, texts: TemplateSet) -> str:
    """What of an answer, a reference or the like is shown between two marks of these templates: all of it, without what
    would pass for the marks (disarm.py). Every text in a request that no person of this project wrote goes through
    here, through `one_line` or through `conversation`."""
    return _disarm(text, nonce, texts.frame)


def one_line(question: str, nonce: str, texts: TemplateSet) -> str:
    """What of a question is shown where the template itself speaks: disarmed, and on one line, so that nothing of it
    begins like a part of the template."""
    while (stripped := " ".join(_disarm(" ".join(question.split()), nonce, texts.frame).split())) != question:
        question = stripped  # what is left of several blanks can be one more mark
    return question


def conversation(prompt: Messages, nonce: str, texts: TemplateSet) -> str:
    """What of the prompt's turns is shown between two marks of these templates."""
    return _conversation(prompt, nonce, texts.frame)


def transcript(messages: Messages, frame: Frame = JUDGE.frame) -> str:
    """The conversation as one text, every turn whole; lines that would pass for another turn are quoted."""
    from constitution.templates.disarm import quote_turns  # compiles patterns for 30 ms, which readers need not

    names = dict(zip(("system", "user", "assistant"), frame.speakers, strict=True))
    return "\n\n".join(f"{names[message.role]}: {quote_turns(message.content, frame.speakers)}" for message in messages)


# Kept: the votes on a pair are rendered one after the other and show the same texts. By the frame and not by its
# pattern, which is hashed by all of its code.
@lru_cache(maxsize=64)
def _disarm(text: str, nonce: str, frame: Frame) -> str:
    from constitution.templates.disarm import disarm

    return disarm(text, nonce, frame.marks)


@lru_cache(maxsize=64)
def _conversation(prompt: Messages, nonce: str, frame: Frame) -> str:
    # Turn by turn and before turns are quoted: what is behind a mark begins a line once the mark is gone.
    return transcript(tuple(Message(turn.role, _disarm(turn.content, nonce, frame)) for turn in prompt), frame)


def _two_answers(
    texts: TemplateSet, template: str, prompt: Messages, answers: tuple[str, str], principle: Principle, nonce: str
) -> str:
    values = {
        "nonce": nonce,
        "conversation": conversation(prompt, nonce, texts),
        "first": shown(answers[0], nonce, texts),
        "second": shown(answers[1], nonce, texts),
        "question": principle.comparison_question,
    }
    return fill(texts.texts[template], values)


def _one_answer(texts: TemplateSet, template: str, prompt: Messages, answer: str, nonce: str, **asked: str) -> str:
    values = {
        "nonce": nonce,
        "conversation": conversation(prompt, nonce, texts),
        "answer": shown(answer, nonce, texts),
        **asked,
    }
    return fill(texts.texts[template], values)


def _request(template: str, request: str, prompt: Messages, response: str) -> str:
    """A principle's request in its template; the request may name `{{prompt}}` (last human turn) and `{{response}}`."""
    last_turn = next((message.content for message in reversed(prompt) if message.role == "user"), "")
    request = fill(request, {"prompt": last_turn, "response": response})
    return fill(template, {"request": request})


def _opening(prompt: Messages, principle: Principle, exemplars: Sequence[Exemplar], texts: TemplateSet) -> Messages:
    """System messages, then the exemplars as turns of the same chat, then the conversation.

    An exemplar's own system message opens its first human turn: in mid-chat many models refuse one, and at the top it
    would speak for the conversation too.
    """
    system = tuple(message for message in prompt if message.role == "system")
    turns = tuple(message for message in prompt if message.role != "system")
    examples = _exemplars(tuple(exemplars), principle.critique_request, principle.revision_request, texts)
    return (*system, *examples, *turns)


@lru_cache(maxsize=1024)
def _exemplars(
    exemplars: tuple[Exemplar, ...], critique_request: str, revision_request: str, texts: TemplateSet
) -> Messages:
    """The exemplars as turns of a chat. Kept: they are the same in every chat by one principle."""
    turns: list[Message] = []
    for exemplar in exemplars:
        context, answer = exemplar.messages, exemplar.response
        critique = _request(texts.texts["critique.txt"], exemplar.critique_request or critique_request, context, answer)
        revision = _request(texts.texts["revision.txt"], exemplar.revision_request or revision_request, context, answer)
        turns += [
            *_without_system(context),
            Message("assistant", answer),
            Message("user", critique),
            Message("assistant", exemplar.critique),
            Message("user", revision),
            Message("assistant", exemplar.revision),
        ]
    return tuple(turns)


def _without_system(messages: Messages) -> Messages:
    """`messages` with the system's words put before those of the first human turn."""
    said = [message.content for message in messages if message.role == "system"]
    turns = [message for message in messages if message.role != "system"]
    if said and turns:
        turns[0] = Message(turns[0].role, "\n\n".join([*said, turns[0].content]))
    return tuple(turns)
