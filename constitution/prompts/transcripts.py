"""Transcripts, as HH-RLHF has them, and answers that are whole conversations."""

from __future__ import annotations

import re
from collections.abc import Sequence

from constitution.records import Message, Messages, Role

_SPEAKERS: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}
_END = r"(?:\r\n|\n|\r)"
_TURN = re.compile(rf"{_END}[ \t]*{_END}(Human|Assistant):")
_BEGINS = re.compile(r"\s*(?:Human|Assistant):")
_LINE = re.compile(rf"{_END}Assistant:")

_SAYS = r"\s*(?:system|developer|user|human|prompter|assistant|model)\b"
_MARKED = re.compile(
    rf"""(?:(?:<s>|<bos>|<\|begin_of_text\|>|<\|startoftext\|>|<｜begin▁of▁sentence｜>|\[gMASK\])\s*(?:<sop>)?\s*)?(?:
        <\|(?:im_start|start_header_id|start|turn)\|?>{_SAYS} | <start_of_turn>{_SAYS} | <\|START_OF_TURN_TOKEN\|>
        | <\|(?:system|user|human|prompter|assistant)\|> | <｜(?:User|Assistant)｜> | (?P<mistral>\[INST\])
        | <extra_id_[01]>(?:System|User|Assistant)
    )""",
    re.VERBOSE | re.IGNORECASE,
)
"""Marks of chat templates at the start: ChatML, Llama, Harmony, Gemma, Zephyr, OpenAssistant, Cohere, DeepSeek,
Nemotron, Mistral."""
_HELPSTEER = re.compile(r"\n<extra_id_1>(?:User|Assistant)\n")
_ALPACA = re.compile(r"^#{1,4} ?Instruction:", re.MULTILINE), re.compile(r"^#{1,4} ?Response:", re.MULTILINE)
_ASKER = re.compile(r"^[^\w\n]{0,8}(?:system|user|human|prompter)\W{0,3}:", re.MULTILINE | re.IGNORECASE)
_ANSWERER = re.compile(
    r"(?:^[^\w\n]{0,8}(?:ai|bot|gpt|chatgpt|assistant)|\Wassistant)\W{0,3}:", re.MULTILINE | re.IGNORECASE
)
_END_CHARACTERS = 40


def is_templated(text: str) -> bool:
    """Whether `text` is a whole conversation, written out as a chat template writes it: by its marks, or by the names
    of speakers, either from the start on or before an answer that is to come."""
    body = text.strip()
    if marked := _MARKED.match(body):
        return not marked["mistral"] or "[/INST]" in body
    if (asked := _ALPACA[0].search(body)) and _ALPACA[1].search(body, asked.end()):
        return True
    if (asker := _ASKER.match(body)) and _ANSWERER.search(body, asker.end()):
        return True
    if body.endswith(":") and _ANSWERER.search(body, max(0, len(body) - _END_CHARACTERS)) and _ASKER.search(body):
        return True
    return _HELPSTEER.search(body) is not None


def is_transcript(text: str) -> bool:
    """Whether `text` begins as a transcript does."""
    return _BEGINS.match(text) is not None


def parse_transcript(text: str) -> Messages:
    """Turns of a `\\n\\nHuman: …\\n\\nAssistant: …` transcript, each whole, without the white space around it; where a
    turn begins on a line after the name's, that line's indentation is kept.

    Only a blank line before the speaker's name starts a turn, whatever ends its lines: `Human:` inside a line is text,
    and so is every paragraph until the next turn. Two turns of one speaker in a row stay two. Raises ValueError
    for text before the first turn, and where the blank lines are missing.
    """
    lead, *pieces = _TURN.split("\n\n" + text.lstrip())
    if lead.strip() or not pieces:
        raise ValueError("a transcript starts with `Human:` or `Assistant:`")
    if len(pieces) == 2 and _LINE.search(pieces[1]):
        raise ValueError("a line begins with `Assistant:` and no blank line is before it")
    return tuple(
        Message(_SPEAKERS[speaker], _said(turn)) for speaker, turn in zip(pieces[::2], pieces[1::2], strict=True)
    )


def _said(turn: str) -> str:
    text = turn.lstrip()
    before = turn[: len(turn) - len(text)]
    line = max(before.rfind("\n"), before.rfind("\r"))
    return (before[line + 1 :] * (line >= 0) + text).rstrip()


def split_answers(conversations: Sequence[Messages]) -> tuple[Messages, tuple[str, ...]]:
    """The turns that the conversations share up to a human turn, and what the assistant says after it in each.

    Raises ValueError when they share no human turn, or when an answer would hold a human turn.
    """
    shared = 0
    for turns in zip(*conversations, strict=False):
        if any(turn != turns[0] for turn in turns):
            break
        shared += 1
    prompt = conversations[0][:shared]
    while prompt and prompt[-1].role != "user":
        prompt = prompt[:-1]
    if not prompt:
        raise ValueError("the answers' conversations have no human turn in common")
    tails = [conversation[len(prompt) :] for conversation in conversations]
    if any(message.role != "assistant" for tail in tails for message in tail):
        raise ValueError("the answers' conversations part before their last human turn")
    return prompt, tuple("\n\n".join(message.content for message in tail) for tail in tails)
