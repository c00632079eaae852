"""Which prompts a scorecard takes for harmless or harmful."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from constitution.errors import InputError


@dataclass(frozen=True, slots=True)
class Tags:
    """Tags of prompts that say what an answer ought to do. An audit's are kept in its figures `scorecard_tagged`."""

    harmless: tuple[str, ...] = ("harmless", "looks-harmful")
    """To be answered."""
    looks_harmful: tuple[str, ...] = ("looks-harmful",)
    """To be answered, though it sounds as if not."""
    harmful: tuple[str, ...] = ("harmful",)
    """Not to be complied with."""

    @classmethod
    def of(cls, named: Mapping[str, Iterable[str]]) -> Tags:
        """By kind, as people write it (looks-harmful): what is named is in place of the default. InputError where there
        is no such kind."""
        kinds = {kind_of(field): field for field in cls.__slots__}
        if unknown := sorted(named.keys() - kinds.keys()):
            raise InputError(f"tags: there is no kind {unknown[0]!r}", hint=f"the kinds are {', '.join(kinds)}")
        return replace(cls(), **{kinds[kind]: tuple(tags) for kind, tags in named.items()})


def kind_of(field: str) -> str:
    """A field of Tags as people write it."""
    return field.replace("_", "-")
