"""What a run is begun with: its prompts, the rows of their source that were skipped, and its principles."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from constitution.identity import digest
from constitution.records import Constitution, Run
from constitution.warehouse import SkipSpool, Spool, Warehouse

if TYPE_CHECKING:  # `constitution runs` sums records without pydantic
    from constitution.recipe import Recipe

COUNTS = ("cut_answers", "skipped")
"""Those of `Run.counts` that are of what came with the prompts; absent: 0."""

LARGEST = 5_000
"""Prompts to a slice where the recipe does not say: of a million prompts there are 200."""


@dataclass(frozen=True, slots=True)
class Input:
    prompts: Spool
    skipped: SkipSpool
    constitution: Constitution
    recipe: Recipe

    @property
    def slice(self) -> int:
        """Prompts to a slice. Where the recipe does not say, few enough slices for Prefect's server, which takes about
        12 task runs a second and is slow over long lists of them; and for memory, which holds two of a slice."""
        return self.recipe.output.slice or min(max(500, -(-self.prompts.count // 200)), LARGEST)

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

    @property
    def decisive(self) -> str:
        """What of the prompts is in the run's id. Later turns have what is kept with their first one: with another name
        or other metadata they are others."""
        beside = self.prompts.beside if self.recipe.prompts.turns is not None else ""
        return digest([self.prompts.digest, beside]) if beside else self.prompts.digest

    def write(self, warehouse: Warehouse, run_id: str, *, prompts: bool = True) -> None:
        """In place of what the run has, whose lock is held; killed, it can be done again. prompts: False leaves those,
        which are as they were."""
        warehouse.recover(run_id)
        if prompts:
            warehouse.replace_input("prompts", run_id, self.prompts.slices(run_id, self.slice))
        if self.skipped.count or warehouse.parts("skipped", run_id):
            warehouse.replace_input("skipped", run_id, self.skipped.parts(run_id))
        warehouse.write_principles(run_id, self.constitution)

    def write_again(self, warehouse: Warehouse, run: Run, *, prompts: bool = True) -> Run:
        """The same for a run that was prepared before, and its record then: what models are asked is the same, so it is
        the same run."""
        self.write(warehouse, run.run_id, prompts=prompts)
        run = warehouse.read_run(run.run_id) or run
        others = {name: count for name, count in run.counts.items() if name not in COUNTS}
        recipe = {**run.recipe, "prompts": self.recipe.prompts.model_dump(mode="json")}
        run = replace(run, recipe=recipe, counts=others | self.counts, beside=self.beside)
        warehouse.write_run(run)
        return run
