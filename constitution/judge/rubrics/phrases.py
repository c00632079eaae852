"""The words of an item as `lint.toml`, which has the patterns, wants them.

text = bare(item.question)
found = pattern("compound").search(required(text))
"""

from __future__ import annotations

import re
import tomllib
from functools import lru_cache
from pathlib import Path
from typing import Any

_QUOTED = re.compile("\"[^\"\n]*\"|“[^”\n]*”|‘[^’\n]*’|«[^»\n]*»|`[^`\n]*`|(?<!\\w)'[^'\n]*'(?!\\w)")
_ASIDE = re.compile(r"\([^()]*\)|\[[^\[\]]*\]")
YES_OR_NO = re.compile(
    r"[\s(]{0,3}\b(?:please )?(?:answer|reply|respond)?(?: with| only| just|:){0,3}\s{0,3}"
    r"(?:yes ?(?:or|/) ?no|y/n|true ?(?:or|/) ?false)[.)]{0,3}\s{0,3}\Z",
    re.IGNORECASE,
)
"""What some writers put behind each item; it asks for both, and steers to neither."""
_TITLE = re.compile(r"\b(Dr|Mr|Mrs|Ms|Prof|St|vs|No|Fig)\.(?=\s)")
"""A point that ends no sentence."""
LABELLED = re.compile(
    r"\b(?:[Aa]nswer|[Rr]esponse) [AB] (?:\w+ ){0,3}(?:more|less|better|worse)\b|\bthan (?:answer|response) [AB]\b"
)
"""Another answer, by its letter. "Answer B" alone is a choice that the prompt gives; held against the item as it is."""


@lru_cache
def pattern(name: str) -> re.Pattern[str]:
    """One of lint.toml's. Raises KeyError for another name."""
    data, parts = _data()
    return re.compile("|".join(_filled(each, parts) for each in data["patterns"][name]))


@lru_cache(maxsize=1)
def _data() -> tuple[dict[str, Any], dict[str, str]]:
    """The file, and what its patterns name."""
    data = tomllib.loads((Path(__file__).parent / "lint.toml").read_text(encoding="utf-8"))
    clear, doubtful = (data["verbs"][name].split() for name in ("clear", "doubtful"))
    parts = {
        "clear": _forms(clear),
        "doubtful": _forms(doubtful),
        "verbs": _forms([*clear, *doubtful]),
        "clear-base": "|".join(clear),
        "finite": _forms([*clear, *doubtful], ing=False),
    }
    for name, text in data["parts"].items():  # in their order: one may name those before it
        parts[name] = _filled(text, parts)
    return data, parts


def _filled(text: str, parts: dict[str, str]) -> str:
    lines = "".join(line.lstrip() for line in text.split("\n"))
    return re.sub("<([a-z-]+)>", lambda named: parts[named[1]], lines)


def _forms(verbs: list[str], ing: bool = True) -> str:
    third = [
        verb[:-1] + "ies" if re.search("[^aeo]y$", verb) else verb + ("es" if verb[-1] in "sh" else "s")
        for verb in verbs
    ]
    rest = [verb[:-1] if verb.endswith("e") else verb for verb in verbs]
    return "|".join([*verbs, *third, *(stem + "ing" for stem in rest if ing)])


def undotted(text: str) -> str:
    """`text` in which no point stands behind a title."""
    return _TITLE.sub(r"\1", text)


def quoted(question: str) -> list[str]:
    """What the item quotes, without the marks around it."""
    return [found.group()[1:-1] for found in _QUOTED.finditer(question)]


def bare(question: str) -> str:
    """The item on one line, in lower case, without what it quotes, what is in brackets, and "Answer yes or no"."""
    text = _QUOTED.sub(" “…” ", YES_OR_NO.sub("", undotted(question)).replace("*", ""))
    text = " ".join(_ASIDE.sub(" ", text).casefold().replace("’", "'").split())
    return re.sub(r"\s([?.,;:])", r"\1", text)


def required(text: str) -> str:
    """What a bare item demands: without examples, conditions and reasons, in which "and" demands nothing."""
    return pattern("condition").sub("", pattern("examples").sub("", text))
