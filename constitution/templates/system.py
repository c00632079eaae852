"""System prompts, filled: the words before a conversation while an answer is sampled."""

from __future__ import annotations

from collections.abc import Sequence

from constitution.records import Message, Messages, Principle, SystemPrompt
from constitution.templates import RUBRIC, fill
from constitution.templates.disarm import disarm

ANSWER = "[answer {nonce}]\n{text}\n[end {nonce}]"
"""Another's answer, as judges are shown one: text to be read, whose marks its author does not know."""


def filled(
    prompt: SystemPrompt,
    principles: Sequence[Principle],
    drawn: Principle | None = None,
    answers: Sequence[str] = (),
    nonce: str = "",
) -> SystemPrompt:
    """The prompt with its placeholders replaced. drawn: the principle of this answer. answers: the others that it
    shows, each between marks with `nonce`, of which the texts lose whatever looks like one."""
    values = {
        "principles": "\n".join(f"- {principle.aim}" for principle in principles),
        "reasons": "\n".join(f"- {_reasoned(principle)}" for principle in principles),
        "principle": _reasoned(drawn) if drawn else "",
        "aim": drawn.aim if drawn else "",
        "against": drawn.against if drawn else "",
        "answers": "\n\n".join(
            ANSWER.format(nonce=nonce, text=disarm(answer, nonce, RUBRIC.frame.marks)) for answer in answers
        ),
    }
    return SystemPrompt(prompt.id, fill(prompt.text, values), fill(prompt.thought, values))


def _reasoned(principle: Principle) -> str:
    return " ".join(filter(None, (principle.aim, principle.why)))


def sample_messages(prompt: Messages, system: str) -> Messages:
    """The conversation with `system` before it, in one system turn with the conversation's own."""
    if not system:
        return prompt
    if prompt[0].role == "system":
        return (Message("system", f"{system}\n\n{prompt[0].content}"), *prompt[1:])
    return (Message("system", system), *prompt)
