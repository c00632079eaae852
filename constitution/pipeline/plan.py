"""What a run will do, checked to the end before any model loads, and its prompts laid out in slices.

A run's id is its recipe's name and a digest of all that decides what its rows say: the recipe without its output
section and without what only says how fast or where (paths, time-outs, concurrency), the constitution's and the
templates' digests, the prompts' contents, the models' identities, and the version of what decides rows
(identity.ROWS_VERSION). Fields at their defaults are not in it. So the same recipe resumes where it stopped, under a
later release too, and a recipe that says something else is another run. The day that chat templates take for today is
drawn at the first start and recorded, so that the next day resumes the run; a day that the recipe fixes is in the id.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from constitution import __version__, templates
from constitution.engines.identity import model_identity
from constitution.errors import DamagedPart, RecipeError
from constitution.generate import template_sets
from constitution.generate.revise import revising
from constitution.generate.sample import samplers
from constitution.identity import ROWS_VERSION, digest
from constitution.judge.methods import METHODS, templates_of
from constitution.judge.methods import check as check_judging
from constitution.judge.reference import check_texts, reading_references
from constitution.judge.reward import rewarding
from constitution.judge.rubrics.own import texts_of_rubrics, writing
from constitution.judge.sources import texts_of
from constitution.judge.units import WAVES
from constitution.pipeline.dealing import dealt
from constitution.pipeline.input import Input
from constitution.pipeline.path_policy import allowed_folders, check_places, query_folders
from constitution.principles import find_root, load_constitution
from constitution.principles.selection import select
from constitution.prompts import read_prompts
from constitution.recipe import Recipe
from constitution.records import Constitution, Principle, Prompt, Run, Shard
from constitution.templates.wording import mixed
from constitution.warehouse import Warehouse, skipping, spooled
from constitution.warehouse.damage import INPUT, made_by, rows_in

WAVE = 50_000
"""Prompts in flight that fill any batch."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A run that can be started."""

    run: Run
    """As it is stored; `finished_at` is set when there is nothing left to do."""
    recipe: Recipe
    constitution: Constitution
    warehouse: Path
    parts: tuple[Path, ...]
    """The slices: Parquet files of prompts."""
    note: str = ""
    """What the user should know before the run begins; empty: nothing."""
    shard: Shard | None = None
    """Whose slices `parts` are; None: they are all of the run's."""

    def of(self, shard: Shard) -> Plan:
        """The same for one of the run's shards."""
        return replace(self, parts=tuple(dealt(self.run_id, self.parts, shard)), shard=shard)

    @property
    def run_id(self) -> str:
        return self.run.run_id

    @property
    def prompts(self) -> int:
        """The run's, or the shard's."""
        return self.run.counts["prompts"] if self.shard is None else rows_in(self.parts)

    @property
    def finished(self) -> bool:
        return self.run.finished_at is not None


def prepare(
    recipe: Recipe,
    recipe_path: Path,
    warehouse_root: Path,
    fresh: bool = False,
    allow: Sequence[Path] = (),
    resume: str = "",
    draw: Callable[[Iterator[Prompt]], Iterable[Prompt]] = iter,
) -> Plan:
    """Checks everything that needs no model, then writes the prompts' slices, the principles and the run's record.

    The constitution is looked up in the nearest principles/ folder above the recipe. A run that was prepared before is
    taken up as it is. fresh: a new run, even if the same recipe ran before; without it, the latest such run is
    resumed. allow: folders that the recipe may read in, besides its project (path_policy.py). resume: the run to take
    up, by its id or how it begins, with the prompts that it has, whatever their source and `fresh` say now. draw: takes
    the source's prompts, gives the run's.

    Raises InputError for what is wrong in the recipe, the constitution or the prompts, and for a run to resume that
    another recipe made; ModelLoadError for a local model that is not there; then nothing has been written. Raises
    DamagedPart for a finished run that has lost some of its parts; those of an open one are made again.
    """
    base = recipe_path.absolute().parent
    recipe = recipe.at(recipe_path)
    folders = allowed_folders(recipe_path, allow)
    check_places(recipe, recipe_path, folders)
    places = query_folders(recipe, folders)
    constitution = load_constitution(find_root(base), recipe.constitution)
    _check_texts(recipe, constitution)
    warehouse = Warehouse(warehouse_root)
    # Every prompt is read before the first is stored: a fault in the last row leaves no half-written run. And only
    # once: a source may grow, or say something else the next time.
    wanted = warehouse.find_run(resume).run_id if resume else ""
    stored = bool(wanted) and not warehouse.verify(wanted, INPUT)
    note, read = _mixed(recipe, constitution), partial(read_prompts, recipe.prompts, base, places)
    with (
        skipping(warehouse_root) as skipped,
        spooled(_stored(warehouse, wanted) if stored else draw(read(skipped.add)), warehouse_root) as source,
    ):
        input = Input(source, skipped, constitution, recipe)
        decisive = _decisive(recipe, constitution, input.decisive)
        run_id, run = _which(warehouse, recipe.name, decisive, fresh, wanted)
        if run and not stored and run.beside != input.beside:
            with warehouse.lock(run_id):
                run = input.write_again(warehouse, run, prompts=recipe.prompts.turns is None)
        if run is None:
            note = (not fresh and _open_with_other_prompts(warehouse, recipe, constitution, source.count)) or note
            with warehouse.lock(run_id):
                run = warehouse.read_run(run_id)  # another process may have prepared it, and even run it, since
                if run is None:
                    input.write(warehouse, run_id)
                    warehouse.write_run(run := _new_run(run_id, recipe, constitution, input))  # last: it has prompts
        elif run.finished_at:
            if found := warehouse.verify(run_id, (*INPUT, *made_by(run.counts)), read_parts=False):
                raise DamagedPart(f"run {run_id} finished on {run.finished_at}, but {found[0]}")
        elif warehouse.verify(run_id, INPUT):
            with warehouse.lock(run_id):
                warehouse.recover(run_id)
                warehouse.repair(run_id)
                run = input.write_again(warehouse, run)
    return Plan(run, recipe, constitution, warehouse_root, tuple(warehouse.slices(run_id)), note)


def _check_texts(recipe: Recipe, constitution: Constitution) -> None:
    """Raises RecipeError for principles, system prompts or templates that are asked for and that are not there."""
    for check in (revising, samplers, judging, rewarding, reading_references, writing):
        check(recipe, constitution)
    all_templates(recipe)


def _mixed(recipe: Recipe, constitution: Constitution) -> str:
    used = {name for texts in all_templates(recipe) for name in texts.texts}
    said = mixed(constitution, recipe.wording, used)
    remedy = "`constitution principles templates NAME` writes them out to be translated, and templates = NAME uses them"
    return said if recipe.templates or not said else f"{said}: {remedy}"


def _stored(warehouse: Warehouse, run_id: str) -> Iterator[Prompt]:
    """The prompts of a run, in their order."""
    for part in warehouse.slices(run_id):
        yield from warehouse.read_prompts(part)


def _open_with_other_prompts(warehouse: Warehouse, recipe: Recipe, constitution: Constitution, count: int) -> str:
    """A sentence where a run of the same recipe is open and its source said something else then: a query with random(),
    a file that grows. What that run has been paid for is not lost, but this run does not use it."""

    def settings(dump: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in dump.items() if name not in ("prompts", "output", "budget")}

    mine = settings(recipe.model_dump(mode="json"))
    for run in reversed(warehouse.runs()):
        same = run.constitution_digest == constitution.digest and settings(run.recipe) == mine
        if same and run.finished_at is None:
            return (
                f"{run.run_id}, a run of this recipe, is open with {run.counts['prompts']:,} prompts, and their source "
                f"gives others now ({count:,}), so this is another run; --resume {run.run_id} takes up that one with "
                "the prompts that it has"
            )
    return ""


def small_window(recipe: Recipe, prompts: int) -> str:
    """A sentence where batches would be small, and one after the other, because so few prompts are in flight at once;
    empty: they would not."""
    window = recipe.output.window
    if not recipe.model.batched or window >= min(prompts, WAVE):
        return ""
    rounds, steps = -(-prompts // window), batch_steps(recipe)
    return (
        f"output.window = {window:,}: batches have the requests of {window:,} of the {prompts:,} prompts at most, so "
        f"about {rounds:,} × {steps} of them follow on each other, each of which may take a day"
    )


def batch_steps(recipe: Recipe) -> int:
    """Batches that follow on each other until a prompt that is taken up is done, at most."""
    models, steps = recipe.model, 0
    if models.policy.batched and recipe.chain:
        steps += 2 * recipe.revise.rounds + (recipe.start_by is None)
    if models.policy.batched and recipe.perturb:
        steps += 1
    # One sampler is asked while another is.
    seeing = {each.sees for each in recipe.sample.values() if models.generator(each.model).batched}
    steps += len(seeing)
    for writer in filter(None, (recipe.reference_by, recipe.rubric_by)):
        steps += models.generator(writer).batched
    if recipe.reference and recipe.reference.bar and any(judge.batched for judge in models.judges.values()):
        steps += 1
    if recipe.reward and recipe.reward.asks and any(judge.batched for judge in models.judges.values()):
        steps += 1 + (recipe.start_by is not None)  # the samples' before the chain, its own after it
    if recipe.judge and recipe.asks_votes:
        voting = [METHODS[recipe.judge.of(judge).method] for judge in models.judges.values() if judge.batched]
        # A label is read after what was written for it.
        once = max((1 + (method.written and not method.sampled) for method in voting), default=0)
        steps += once * (WAVES if recipe.judge.votes == "adaptive" else 1)
    return steps


def judging(recipe: Recipe, constitution: Constitution) -> tuple[Principle, ...]:
    """The principles to vote by; none where the recipe has no votes.

    Raises RecipeError where it asks for principles that the constitution does not have, or for a checklist that one of
    them does not have; and for judges of a recipe with neither votes nor rewards that are read, which would load for
    nothing.
    """
    section = recipe.judge
    if section is None or not section.votes_are_cast:
        if (recipe.model.judge or recipe.model.jury) and not recipe.asks_judges:
            unused = "jury" if recipe.model.jury else "judge"
            why = (
                f"with judge.confirm = {section.confirm!r} none are cast" if section else "there is no section [judge]"
            )
            rewards = ", and nothing in reward.by asks a judge" if recipe.reward else ""
            add = "" if section else "add [judge], which may be empty, or "
            raise RecipeError(
                f"model.{unused}: there would be no votes, for {why}{rewards}", hint=f"{add}leave [model.{unused}] out"
            )
        return ()
    able = [principle for principle in constitution.principles if principle.compares]
    if not able:
        raise RecipeError(
            f"judge: no principle of {constitution.label} has a comparison_question, so judges have nothing to answer",
            hint="leave [judge] out, which makes revisions without labels, or give principles a comparison_question in "
            "a new version",
        )
    principles = select(able, section.only, f"judge.only ({constitution.label})")
    if isinstance(section.principles, int) and section.principles > len(principles):
        raise RecipeError(
            f"judge.principles: {section.principles} to be drawn, and {constitution.label} has {len(principles)}",
            hint='lower it, or say "all"',
        )
    check_judging(recipe, principles, constitution.label)
    return principles


def _decisive(recipe: Recipe, constitution: Constitution, source: str) -> dict[str, Any]:
    """What the run's id is made of. Paths are not in it, their contents are; of the prompts' section, which says
    where they are and how they are read, only what the prompts themselves do not tell."""
    left_out = {"name", "description", "output", "budget", "model", "constitution", "prompts", "templates"}
    prompts = recipe.prompts
    return {
        "settings": recipe.model_dump(mode="json", exclude=left_out, exclude_defaults=True),
        "models": {role: model_identity(section) for role, section in recipe.model.sections.items()},
        "constitution": constitution.digest,
        "templates": [texts.digest for texts in all_templates(recipe)],
        "prompts": source,
        "families": [prompts.families.get(key, "") for key in prompts.answers] if prompts.families else [],
        "rows": ROWS_VERSION,
    }


def _which(
    warehouse: Warehouse, name: str, decisive: dict[str, Any], fresh: bool, resume: str
) -> tuple[str, Run | None]:
    """The run's id, and its record if it was prepared before. Runs of one recipe are numbered by --fresh. Raises
    RecipeError where none of them is the one to `resume`."""

    def numbered(number: int) -> str:
        return f"{name}-{digest([decisive, number])[:12]}"

    number = 0
    latest: Run | None = None
    while (run := warehouse.read_run(numbered(number))) is not None:
        latest = run
        if run.run_id == resume:
            return resume, run
        number += 1
    if resume:
        raise RecipeError(
            f"run {resume} was made by a recipe, a constitution or a model that says something else",
            hint="resume it with what it was made by (the view `runs` has its recipe), or start a new run",
        )
    if latest is None or fresh:
        return numbered(number), None
    return latest.run_id, latest


def _new_run(run_id: str, recipe: Recipe, constitution: Constitution, input: Input) -> Run:
    now = datetime.now(UTC)
    return Run(
        run_id=run_id,
        recipe=recipe.model_dump(mode="json"),
        constitution=constitution.label,
        constitution_digest=constitution.digest,
        templates={texts.digest: dict(texts.texts) for texts in all_templates(recipe)},
        models={},  # what the engines say of themselves is added when they are open
        code_version=__version__,
        hardware={"machine": platform.machine(), "system": platform.system(), "cores": str(os.cpu_count())},
        started_at=now.isoformat(timespec="seconds"),
        template_date=now.date().isoformat(),
        starts=0,
        counts=input.counts,
        beside=input.beside,
    )


def all_templates(recipe: Recipe) -> tuple[templates.TemplateSet, ...]:
    """Those that the run's rows are rendered with. Raises RecipeError for files of the recipe's own that are missing or
    cannot be used."""
    section = recipe.judge
    voting = (
        [templates_of(section.of(judge), recipe.wording) for judge in recipe.model.judges.values()]
        if section and recipe.asks_votes
        else []
    )
    judged = {texts.digest: texts for texts in (*voting, *texts_of(recipe).values(), *check_texts(recipe).values())}
    judged |= {texts.digest: texts for texts in texts_of_rubrics(recipe)}
    return *template_sets(recipe), *judged.values()
