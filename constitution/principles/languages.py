"""The languages whose words are known: `languages.toml`, a section for each.

    language = known("de-AT")
    language.order.findall("Ist die zweite Antwort besser?")

A language is what a constitution declares (`language`, a BCP 47 tag, of which the first part counts); none is English.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

TAG_PATTERN = r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*$"
"""BCP 47 (RFC 5646) as far as it is needed: language, then script, region and variants."""

LEAST_WORDS = 5
"""Frequent words of another language before a text is said to look like it."""


@dataclass(frozen=True, eq=False)
class Language:
    tag: str
    name: str
    data: Mapping[str, str]
    """Its section of languages.toml."""

    def pattern(self, rule: str) -> re.Pattern[str]:
        """One of the section's patterns. Raises KeyError for another name."""
        return _compiled(self.tag, rule)

    @cached_property
    def common(self) -> frozenset[str]:
        return frozenset(self.data["common"].split())


@lru_cache(maxsize=1)
def languages() -> Mapping[str, Language]:
    """All that are known, by their tags."""
    raw = tomllib.loads((Path(__file__).parent / "languages.toml").read_text(encoding="utf-8"))
    return {tag: Language(tag, data["name"], data) for tag, data in raw.items()}


@lru_cache(maxsize=64)
def _compiled(tag: str, rule: str) -> re.Pattern[str]:
    data = languages()[tag].data
    text = data[rule].replace("ANSWER", data.get("answer", "")).replace("ENDS", data.get("ends", ""))
    return re.compile(text, re.VERBOSE)


def known(tag: str) -> Language | None:
    """The language that a constitution declares; English where it declares none. None: its words are not known."""
    return languages().get(tag.partition("-")[0].casefold() or "en")


def named() -> str:
    """`English (en), German (de), …`."""
    return ", ".join(f"{language.name} ({tag})" for tag, language in languages().items())


def looks_like(texts: Iterable[str]) -> Language | None:
    """The language whose frequent words the texts have most of; None where that is not plain."""
    words = re.findall(r"[^\W\d_]+", " ".join(texts).casefold())
    # Chinese has no blanks between words: its frequent ones are single characters.
    words = [piece for word in words for piece in ((word,) if word < "\u3400" else word)]
    counts = {tag: sum(word in each.common for word in words) for tag, each in languages().items()}
    first, second, *_ = sorted(counts, key=lambda tag: -counts[tag])
    plain = counts[first] >= LEAST_WORDS and counts[first] >= 2 * counts[second]
    return languages()[first] if plain else None
