"""What a run is begun with: its prompts, the rows of their source that were skipped, and its principles."""

from __future__ import annotations

from dataclasses import dataclass, replace

from constitution.identity import digest
from constitution.records import Constitution, Run
from constitution.warehouse import SkipSpool, Spool, Warehouse

COUNTS = ("cut_answers", "skipped")
"""Those of `Run.counts` that are of what came with the prompts; absent: 0."""


@dataclass(frozen=True, slots=True)
class Input:
    prompts: Spool
    skipped: SkipSpool
    constitution: Constitution
    slice: int
    """Prompts to a slice."""

    @property
    def beside(self) -> str:
        """`Run.beside`."""
        parts = [self.prompts.beside, self.skipped.digest]
        return digest(parts) if any(parts) else ""

    @property
    def counts(self) -> dict[str, int]:
        """Those that a run begins with."""
        found = dict(zip(COUNTS, (self.prompts.cut, self.skipped.count), strict=True))
        return {"prompts": self.prompts.count, **{name: count for name, count in found.items() if count}}

    def write(self, warehouse: Warehouse, run_id: str) -> None:
        """In place of what the run has, whose lock is held; killed, it can be done again."""
        warehouse.recover(run_id)
        warehouse.replace_input("prompts", run_id, self.prompts.slices(run_id, self.slice))
        if self.skipped.count or warehouse.parts("skipped", run_id):
            warehouse.replace_input("skipped", run_id, self.skipped.parts(run_id))
        warehouse.write_principles(run_id, self.constitution)

    def write_again(self, warehouse: Warehouse, run: Run) -> Run:
        """The same for a run that was prepared before, and its record then: what models are asked is the same, so it is
        the same run."""
        self.write(warehouse, run.run_id)
        run = warehouse.read_run(run.run_id) or run
        others = {name: count for name, count in run.counts.items() if name not in COUNTS}
        run = replace(run, counts=others | self.counts, beside=self.beside)
        warehouse.write_run(run)
        return run
