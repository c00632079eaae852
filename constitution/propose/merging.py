"""Values that are the same in other words, counted together; what was merged is shown."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from constitution.propose.values import Kind, Value

_SMALL = frozenset(
    word
    for line in (
        "a an the to of for in on at by and or one's ones their his her your our own someone others other",
        "people being be right rights duty duties obligation value values respect",
    )
    for word in line.split()
)
"""Words that a name may have or lack and mean the same."""
_ENDINGS = (("ies", "y"), ("sses", "ss"), ("s", ""))


@dataclass(slots=True)
class Merged:
    """One value, right or duty, over all texts."""

    kind: Kind
    name: str
    """The commonest of its names; of equals, the first by the alphabet."""
    names: Counter[str] = field(default_factory=Counter)
    """How often it is called so, but for capitals."""
    values: list[Value] = field(default_factory=list)

    @property
    def texts(self) -> int:
        return len({value.prompt_id for value in self.values})

    @property
    def slug(self) -> str:
        """Its name as ids and tags have it, with its kind where the name does not say it."""
        name = self.name if self.kind == "value" or self.kind in self.name.split() else f"{self.kind} {self.name}"
        return re.sub(r"[^a-z0-9]+", "-", _ascii(name)).strip("-")[:64].strip("-")

    def called(self) -> str:
        """Its names and how often each was used, where there are several; empty where there is one."""
        told = sorted(self.names.items(), key=lambda item: (-item[1], item[0]))
        return ", ".join(f"{name} ({count})" for name, count in told) if len(told) > 1 else ""

    def valences(self) -> Counter[str]:
        return Counter(value.valence for value in self.values)

    def best(self) -> Value:
        """The most relevant; of equals, the one with the longest quote, which says more."""
        return max(self.values, key=lambda value: (value.relevance, len(value.quote), value.quote))


def merge(values: Sequence[Value]) -> list[Merged]:
    """The commonest first, counted by texts. Of one kind, and of the same words but for small ones, plurals, order and
    capitals: words that mean the same are not known here, so `honesty` and `truthfulness` stay two."""
    by_key: dict[tuple[Kind, frozenset[str]], list[Value]] = defaultdict(list)
    for value in values:
        by_key[value.kind, words_of(value.name)].append(value)
    found = []
    for (kind, _), each in by_key.items():
        names = Counter(value.name.casefold() for value in each)
        name = min(names, key=lambda name: (-names[name], name))
        found.append(Merged(kind, name, names, each))
    return sorted(found, key=lambda merged: (-merged.texts, -len(merged.values), merged.kind, merged.name))


def words_of(name: str) -> frozenset[str]:
    """What a name is about."""
    words = re.findall(r"[^\W_]+(?:'s)?", name.casefold())
    return frozenset(_stem(word) for word in words if word not in _SMALL) or frozenset(words)


def _stem(word: str) -> str:
    for ending, instead in _ENDINGS:
        if word.endswith(ending) and len(word) > len(ending) + 2 and not word.endswith(("ss", "us", "is")):
            return word[: -len(ending)] + instead
    return word


def _ascii(text: str) -> str:
    return unicodedata.normalize("NFKD", text.casefold()).encode("ascii", "ignore").decode()
