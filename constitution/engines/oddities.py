"""What was odd in what engines said and did not fail them: counted by kind, and reported as one sentence a kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

NAMES_KEPT = 50
"""Names of models that are counted apart."""
NAME_LENGTH = 200
UNNAMED = "(none)"
OTHERS = "(others)"


class Oddities:
    """Sentences with {n}, each the kind that it speaks of."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, kind: str) -> None:
        self._counts[kind] += 1

    def events(self) -> list[str]:
        return [kind.format(n=f"{count:,}") for kind, count in self._counts.items()]


class ServedNames:
    """The models that replies say they are of. A server may answer to an alias by the name of a release, so a name
    alone fails nothing; each is counted, and what is not an alias, or changes in mid-run, is an event."""

    def __init__(self, asked: str) -> None:
        self._asked = asked
        self._counts: Counter[str] = Counter()

    def saw(self, name: object) -> None:
        """name: the reply's `model`, whatever it is."""
        told = " ".join(name.split())[:NAME_LENGTH] if isinstance(name, str) else ""
        told = told.encode("utf-8", "backslashreplace").decode()  # half of a surrogate pair fits no record
        told = told or UNNAMED
        if told not in self._counts and len(self._counts) >= NAMES_KEPT:
            told = OTHERS
        self._counts[told] += 1

    def counts(self) -> Mapping[str, int]:
        """Replies by name, in the order in which the names came."""
        return dict(self._counts)

    def events(self) -> list[str]:
        named = [name for name in self._counts if name != UNNAMED]
        events = []
        if others := [name for name in named if name != OTHERS and not _alias(self._asked, name)]:
            times = sum(self._counts[name] for name in others)
            events.append(f"{times:,} replies are by another model's name than {self._asked!r}: {_listed(others)}")
        if len(named) > 1:
            events.append(f"the replies' model changed in mid-run: {_listed(named)}")
        return events


def _alias(asked: str, name: str) -> bool:
    """`gpt-4o` and `gpt-4o-2024-08-06`, `org/model` and `model`, `m` and `m.gguf`: one begins with the other."""
    a, b = sorted((one.rstrip("/").rpartition("/")[2].casefold() for one in (asked, name)), key=len)
    return bool(a) and b.startswith(a) and not b[len(a) : len(a) + 1].isalnum()


def _listed(names: list[str]) -> str:
    shown = ", ".join(map(repr, names[:5]))
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown
