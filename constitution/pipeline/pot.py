"""The budget of a run that several shards spend: a pot that they draw from, and give back to what they do not spend.

shards/<run_id>/budget.json says what was spent before the shards that are at work began (`before`) and of each of them
what it has drawn and spent, and by how many prompts. It is changed by one process at a time, and made anew by the first
shard of a start, so that what a killed one had drawn is there again.
"""

from __future__ import annotations

from typing import Any

from constitution.records import Shard
from constitution.warehouse import Warehouse

NAME = "budget"


class Pot:
    """A shard's part in it."""

    def __init__(self, warehouse: Warehouse, run_id: str, shard: Shard, limit: float) -> None:
        """limit: of the whole run."""
        self.of = shard.of
        self.drawn = 0.0
        """What this shard may spend over all its starts."""
        self.spent = 0.0
        """By the whole run, as the pot was seen last."""
        self.others: dict[str, float] = {"tokens": 0.0, "done": 0, "seen": 0}
        """The other shards': cost of the tokens of their prompts, prompts done, and prompts that ended."""
        self._warehouse, self._run_id, self._name, self._limit = warehouse, run_id, shard.name, limit

    def enter(self, spent: float) -> None:
        """Takes the shard's own account out of what was spent before, and draws for the first time. spent: by it, over
        all its starts."""
        self._change({"spent": spent}, need=spent)

    def draw(self, need: float, account: dict[str, float]) -> bool:
        """Whether the shard may spend more than `need` over all its starts. account: its own, as `others` and `spent`
        have it."""
        self._change(account, need)
        return self.drawn > need

    def tell(self, account: dict[str, float]) -> None:
        """What the shard has spent by now; what it has drawn stays its own."""
        self._change(account)

    def give_back(self, account: dict[str, float]) -> None:
        """What was drawn and is not spent."""
        self._change(account, end=True)

    def _change(self, account: dict[str, float], need: float | None = None, end: bool = False) -> None:
        def change(pot: dict[str, Any]) -> dict[str, Any]:
            shards = pot.setdefault("shards", {})
            own = shards.get(self._name)
            if own is None:
                pot["before"] = max(0.0, pot.get("before", 0.0) - account["spent"])
                own = {"drawn": account["spent"]}
            own = {**own, **account}
            if need is not None:
                others = sum(max(each["drawn"], each["spent"]) for name, each in shards.items() if name != self._name)
                left = self._limit - pot.get("before", 0.0) - others - own["drawn"]
                wanted = max(left / (2 * self.of), need - own["drawn"] + 1e-9)
                own["drawn"] += max(0.0, min(wanted, left))
            if end:
                own["drawn"] = own["spent"]
            shards[self._name] = own
            return pot

        pot = self._warehouse.change_shared(self._run_id, NAME, change)
        shards: dict[str, dict[str, float]] = pot["shards"]
        self.drawn = shards[self._name]["drawn"]
        self.spent = pot.get("before", 0.0) + sum(each["spent"] for each in shards.values())
        apart = [each for name, each in shards.items() if name != self._name]
        self.others = {key: sum(each.get(key, 0) for each in apart) for key in self.others}


def refill(warehouse: Warehouse, run_id: str, spent: float) -> None:
    """Makes the pot anew, holding the run's lock alone. spent: by the whole run so far."""
    warehouse.write_shared(run_id, NAME, {"before": spent, "shards": {}})
