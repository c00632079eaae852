"""What a fake server does wrong, and when: one fault, and a plan of many that is drawn by chance."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from constitution.identity import digest


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to one request instead of, or on the way to, its reply."""

    status: int = 200
    """Other than 200: this status with `body`, and no completion."""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = '{"error": {"message": "made to fail"}}'
    delay_s: float = 0.0
    """Seconds before anything is sent."""
    reset: bool = False
    """Break the connection off."""
    truncate: bool = False
    """Send only the first half of the reply's JSON."""
    cut: bool = False
    """Send only the first half of the reply, though its length was promised, and break the connection off."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Fields put over those of the reply's choice, e.g. {"logprobs": None}."""
    reply: Mapping[str, Any] = field(default_factory=dict)
    """Fields put over those of the reply, e.g. {"choices": []}."""

    @property
    def sound(self) -> bool:
        """Whether the reply is whole and right, late as it may be."""
        return self.status == 200 and not (self.reset or self.truncate or self.cut or self.changes or self.reply)


Plan = Callable[[Mapping[str, Any]], Fault | None]
"""The fault that a chat request meets, told by its body; None: it is answered soundly."""

PASSING = (
    Fault(status=429, headers={"Retry-After": "0.2"}),
    Fault(status=429),
    Fault(status=500),
    Fault(status=502, body="<html>Bad Gateway</html>"),
    Fault(status=503),
    Fault(reset=True),
    Fault(cut=True),
    Fault(truncate=True),
    Fault(reply={"choices": []}),
    Fault(delay_s=0.2),
)
"""What any server may do to a request now and then; asked again, it answers."""
WORDLESS = Fault(changes={"logprobs": None, "message": {"role": "assistant", "content": None}, "finish_reason": None})
"""A completion without a text, without log-probabilities, and without a reason for its end."""


class Chance:
    """A `Plan`: a share of the requests meets a passing fault. Which ones, and which fault, follows from the seed, the
    request's body and how often this plan saw it, so that the order of requests does not matter and asking again may
    succeed."""

    def __init__(self, share: float, seed: int = 1, faults: Sequence[Fault] = (*PASSING, WORDLESS)) -> None:
        self._share = share
        self._seed = seed
        self._faults = tuple(faults)
        self._seen: Counter[str] = Counter()

    def __call__(self, body: Mapping[str, Any]) -> Fault | None:
        key = json.dumps(body, sort_keys=True)  # also what canonical JSON refuses: half surrogates
        drawn = digest(["fault", self._seed, key, self._seen[key]])
        self._seen[key] += 1
        if int(drawn[:13], 16) / 16**13 >= self._share:
            return None
        return self._faults[int(drawn[13:26], 16) % len(self._faults)]


def in_turn(faults: Sequence[Fault | None]) -> Plan:
    """One fault for each request to come, None for a sound one; after the last all are sound."""
    waiting = list(reversed(faults))
    return lambda body: waiting.pop() if waiting else None
