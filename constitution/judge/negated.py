"""Criteria asked a second time, whether the reply to them is no: a judge that says yes to both is seen.

What is read so is no part of a reward; the audit holds it against the first reading (audit/criteria.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from constitution.judge.sources import Item
from constitution.records import NEGATED, RewardSource


def negated(items: Mapping[RewardSource, Sequence[Item]]) -> dict[str, Sequence[Item]]:
    """What is asked a second time of what each source reads, by the metric of its readings: whether the reply is no.
    The reply that speaks for the answer is the other one."""
    return {
        NEGATED[source]: [item._replace(good="no" if item.good == "yes" else "yes") for item in own]
        for source, own in items.items()
        if source in NEGATED
    }
