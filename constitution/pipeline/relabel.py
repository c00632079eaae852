"""The labels of a stored run made again from its votes, and stored in place of those that it has."""

from __future__ import annotations

import duckdb

from constitution.errors import WarehouseError
from constitution.labels import Rules
from constitution.labels.relabel import Relabelled, relabel
from constitution.labels.standings import standings_again
from constitution.warehouse import Warehouse, connect


def relabel_run(warehouse: Warehouse, run_id: str, rules: Rules) -> Relabelled:
    """Rewrites the run's preferences in one step, and then the rewards that are made of them in another, holding its
    lock and with no Writer open. Raises WarehouseError for what cannot be read or written."""
    constitution = warehouse.read_principles(run_id)
    if constitution is None:
        raise WarehouseError(
            f"{warehouse.root}: run {run_id} has no principles", hint="`constitution verify` says more"
        )
    weights = {principle.id: principle.weight for principle in constitution.principles}
    try:
        with connect(warehouse.root) as connection:
            relabelled, preferences = relabel(connection, run_id, rules, weights)
            rewards = standings_again(connection, run_id, preferences)
    except duckdb.Error as error:
        raise WarehouseError(f"{warehouse.root}: cannot be read: {str(error).splitlines()[0]}") from error
    warehouse.replace_rows("preferences", run_id, preferences)
    if rewards is not None:
        warehouse.replace_rows("rewards", run_id, rewards)
    return relabelled
