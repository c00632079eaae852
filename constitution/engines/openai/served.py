"""What a server says that it serves, and whether the servers of a fleet serve the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from constitution.engines.openai.http import HEALTH, MODELS, Transport
from constitution.errors import AccessDenied, MalformedReply, ModelLoadError, RecipeError, RequestRefused

CHECK_SECONDS = 10.0
"""A server that takes longer to list its models does not count as well."""
SELF_HOSTED = ("vllm", "sglang")
"""Owners of models whose servers continue a prefix, and serve what they list and nothing else."""

NAMES_KEPT = 50
"""Names of models that are counted apart."""
NAME_LENGTH = 200
UNNAMED = "(none)"
OTHERS = "(others)"


@dataclass(frozen=True, slots=True)
class Served:
    """A server's entry for the model; empty where it lists none, as some serve more than they list."""

    model: str = ""
    owner: str = ""
    root: str = ""
    """The weights' name or folder, where the server tells."""
    max_model_len: int | None = None
    others: tuple[str, ...] = ()
    """What it lists besides."""


class Census:
    """What the servers of a fleet serve, by address, as they were asked last."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._found: dict[str, Served] = {}

    @property
    def served(self) -> Served:
        """What all of them serve."""
        return next((served for served in self._found.values() if served.model), Served())

    @property
    def owner(self) -> str:
        """Who owns the model, where all servers say the same."""
        owners = {served.owner for served in self._found.values()}
        return owners.pop() if len(owners) == 1 else ""

    async def check(self, transport: Transport) -> None:
        """Ask one server. Raises EngineUnavailable where it is not well, ModelLoadError where it does not serve the
        model, RecipeError where it serves another one than a server that was asked before."""
        # Not every server has it, and a gateway may want another key there: what ours is good for, the models tell.
        with suppress(ModelLoadError, RequestRefused, MalformedReply, AccessDenied):
            await transport.get(HEALTH, CHECK_SECONDS)
        try:
            served = _entry(await transport.get(MODELS, CHECK_SECONDS), self._model)
        except (ModelLoadError, MalformedReply):
            served = Served()
        if served.others and not served.model and (served.owner in SELF_HOSTED or self.served.model):
            raise ModelLoadError(
                f"{transport.place}: does not serve {self._model!r}; it lists {', '.join(served.others[:5])}",
                hint="check `model` and `base_url`; GET /v1/models lists what is served",
            )
        for place, other in self._found.items():
            if place != transport.place:
                _agree(place, other, transport.place, served)
            elif other.root and served.root and other.root != served.root:
                raise ModelLoadError(
                    f"{place}: serves other weights than before, {served.root} and not {other.root}",
                    hint="start the server with the weights that the run was begun with",
                )
        self._found[transport.place] = served


def _entry(listed: Any, model: str) -> Served:
    entries = listed.get("data") if isinstance(listed, dict) else None
    found = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    others = tuple(str(entry.get("id")) for entry in found if entry.get("id") != model)
    entry: Mapping[str, Any] = next((entry for entry in found if entry.get("id") == model), {})
    owner = str((entry or (found[0] if found else {})).get("owned_by") or "")
    length = entry.get("max_model_len")
    return Served(
        model=str(entry.get("id") or ""),
        owner=owner,
        root=str(entry.get("root") or ""),
        max_model_len=length if isinstance(length, int) else None,
        others=others,
    )


def _agree(place: str, other: Served, newer: str, served: Served) -> None:
    """Raises RecipeError where two servers say different things of the model's weights or of its context."""
    for name, a, b in (
        ("root", other.root, served.root),
        ("max_model_len", other.max_model_len, served.max_model_len),
    ):
        if a and b and a != b:
            raise RecipeError(
                f"model.base_url: the servers do not serve the same: {name} is {a} at {place} and {b} at {newer}",
                hint="start all servers of a fleet with the same arguments; `constitution serve` prints them",
            )


class ServedNames:
    """The models that replies say they are of. A server may answer to an alias by the name of a release, so a name
    alone fails nothing; each is counted, and what is not an alias, or changes in mid-run, is an event."""

    def __init__(self, asked: str) -> None:
        self._asked = asked
        self._counts: Counter[str] = Counter()

    def saw(self, name: object) -> None:
        """name: the reply's `model`, whatever it is."""
        if isinstance(name, str) and name in self._counts:
            self._counts[name] += 1
            return
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
