"""The room for an answer: a context holds prompt and answer together, and `max_tokens` may be more than is left."""

from __future__ import annotations

import re

_NUMBER = r"(\d[\d,]*)"
_LIMITS = (
    re.compile(rf"\d \+ \d[\d,]* > {_NUMBER}"),
    re.compile(rf"must be <= {_NUMBER}"),
    re.compile(rf"(?:context (?:length|size|window|limit)|max_model_len|n_ctx)\D{{0,24}}?{_NUMBER}", re.IGNORECASE),
)
"""Where servers say how long the context is: Anthropic; TGI and Together; vLLM, OpenAI, SGLang, DeepSeek, llama.cpp."""
_PROMPTS = (
    re.compile(rf"{_NUMBER} \+ \d[\d,]* > \d"),
    re.compile(
        rf"{_NUMBER} (?:tokens )?"
        r"(?:of text input|(?:in|from) (?:the|your) (?:input|messages|prompt)|input tokens|`inputs`)"
    ),
    re.compile(rf"(?:prompt|input|request) (?:contains|has)(?: at least)? {_NUMBER}", re.IGNORECASE),
    re.compile(rf"request \({_NUMBER} tokens\)"),
    re.compile(rf"n_prompt_tokens\D{{0,3}}{_NUMBER}"),
)
"""Where they say how long the prompt is."""
_TOTAL = re.compile(rf"requested (?:a total of |about |tokens \()?{_NUMBER}", re.IGNORECASE)
"""Prompt and `max_tokens` together, where only that is said."""
_MOST = (
    re.compile(
        rf"at most {_NUMBER}|less than or equal to [`'\"]?{_NUMBER}|\[\d+, ?{_NUMBER}\]|between \d+ and {_NUMBER}"
    ),
    re.compile(
        rf"max(?:imum)? (?:allowed|value)?\D{{0,24}}?{_NUMBER}|\d > {_NUMBER}|must be <=? ?{_NUMBER}", re.IGNORECASE
    ),
)
"""Where they say the greatest value of a field."""


def room(words: str, max_tokens: int) -> int | None:
    """The tokens that are left for the answer, where a server that refused a request with `max_tokens` says both the
    length of its context and of the prompt; None where it does not, or where they are not fewer."""
    limit = _first(_LIMITS, words)
    prompt = _first(_PROMPTS, words)
    if prompt is None and (total := _first((_TOTAL,), words)) is not None and total > max_tokens:
        prompt = total - max_tokens
    if limit is None or prompt is None:
        return None
    left = limit - prompt
    return left if 1 <= left < max_tokens else None


def most(words: str, sent: int) -> int | None:
    """The greatest value of a field that a server takes, by its refusal of `sent`; None where it does not say."""
    found = _first(_MOST, words)
    return found if found is not None and 1 <= found < sent else None


def _first(patterns: tuple[re.Pattern[str], ...], words: str) -> int | None:
    for pattern in patterns:
        if match := pattern.search(words):
            return int(next(group for group in match.groups() if group).replace(",", ""))
    return None


class Shortened:
    """Counts the requests whose `max_tokens` was cut to the room that there was, for the run's record."""

    def __init__(self) -> None:
        self._count = 0

    def add(self) -> None:
        self._count += 1

    def events(self) -> list[str]:
        """One sentence, once there is something to tell."""
        if not self._count:
            return []
        return [
            f"{self._count:,} requests had fewer tokens left in the context than max_tokens, and got what there was: "
            "what then ends by length is marked cut"
        ]
