"""The budget of a run that several shards spend: a pot that they draw from, and give back to what they do not spend.

shards/<run_id>/budget.json says what was spent before the shards that are at work began (`before`), and of each of them
what it has drawn and spent, both with the prompts that it was spent by. It is changed by one process at a time, and
made again by the first shard of a start, so that what a killed one had drawn is there again.
"""

from __future__ import annotations

from typing import Any

from constitution.pipeline.cost import Cost
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

    def enter(self, account: dict[str, float]) -> None:
        """Takes the shard's own account out of what was spent before, and draws for the first time."""
        self._change(account, need=account["spent"])

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
                before = pot.get("before", {})
                pot["before"] = {key: max(0.0, value - account[key]) for key, value in before.items()}
                own = {"drawn": account["spent"]}
            own = {**own, **account}
            if need is not None:
                others = sum(max(each["drawn"], each["spent"]) for name, each in shards.items() if name != self._name)
                left = self._limit - pot.get("before", {}).get("spent", 0.0) - others - own["drawn"]
                wanted = max(left / (2 * self.of), need - own["drawn"] + 1e-9)
                own["drawn"] += max(0.0, min(wanted, left))
            if end:
                own["drawn"] = own["spent"]
            shards[self._name] = own
            return pot

        pot = self._warehouse.change_shared(self._run_id, NAME, change)
        shards: dict[str, dict[str, float]] = pot["shards"]
        self.drawn = shards[self._name]["drawn"]
        before = pot.get("before", {})
        self.spent = before.get("spent", 0.0) + sum(each["spent"] for each in shards.values())
        apart = [before, *(each for name, each in shards.items() if name != self._name)]
        self.others = {key: sum(each.get(key, 0) for each in apart) for key in self.others}


def account(cost: Cost, done: int) -> dict[str, float]:
    """What was spent so far, and by how many prompts, none being in flight."""
    return {"spent": cost.total or 0.0, "tokens": cost.token_cost(cost.ledger), "done": done, "seen": done}


def refill(warehouse: Warehouse, run_id: str, account: dict[str, float]) -> None:
    """Makes the pot again, holding the run's lock alone. account: of the whole run so far."""
    warehouse.write_shared(run_id, NAME, {"before": account, "shards": {}})
