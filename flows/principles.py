"""A document → principles that people accepted → preference data by them.

    prefect deployment run principles/rules        a deployment of prefect.yaml: drafts, then pauses for a decision

Between what a model drafts and what a run judges by stands a person. With a Prefect server the flow run pauses until
its input says which proposals are accepted. Without one, proposals.toml says it: edit the `status` of proposals and
start the flow again. Nothing is asked twice, and a proposal is written into one draft only.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from constitution.documents import read_document
from constitution.errors import InputError, PrincipleError
from constitution.pipeline import Plan, open_run, prepare
from constitution.pipeline.path_policy import allowed_folders, check_models
from constitution.pipeline.report import report
from constitution.principles import find_root, lock
from constitution.propose.accept import accept
from constitution.propose.extracting import Extracted, extracting, settings_of
from constitution.propose.file import folder_of
from constitution.recipe import load_recipe
from constitution.scheduling import Decision, flow, scheduled, task
from constitution.shown import brief, printable
from constitution.warehouse import place

WEEK = 7 * 24 * 3600


@task()
async def draft_principles(document: Path, folder: Path, root: Path, writer: Path) -> Extracted:
    recipe = load_recipe(writer)
    check_models(recipe, allowed_folders(writer))
    found = await asyncio.to_thread(read_document, document)
    settings = settings_of(root, folder.name, recipe=recipe)
    return await extracting(found, folder, recipe.model.policy, settings)


@task()
async def lock_accepted(folder: Path, root: Path, decision: Decision) -> str:
    """name@version of the locked constitution that has what was accepted, now or by an earlier start."""
    done = await asyncio.to_thread(accept, root, folder, decision.ids, every=decision.everything)
    label = done.label or next((label for _, label in reversed(done.before)), "")
    if not label:
        raise InputError(
            f"{folder.name}: no proposal is accepted yet",
            hint=f"set the status of those you accept in {folder.parent.name}/{folder.name}/proposals.toml to "
            '"accepted", and start the flow again',
        )
    findings = [*done.findings] or (await asyncio.to_thread(lock, root, (label,)))[1]
    if findings:
        raise PrincipleError(
            f"{label}: {findings[0]}" + (f" (and {len(findings) - 1} more)" if findings[1:] else ""),
            hint="edit the draft, and start the flow again",
        )
    return label


@task()
async def prepare_run(recipe: Path, warehouse: Path, overrides: list[str], allow: list[Path]) -> Plan:
    return await asyncio.to_thread(prepare, load_recipe(recipe, overrides), recipe, warehouse, False, allow)


@flow(name="principles", named="name")
async def principles(
    document: str,
    name: str,
    recipe: str,
    warehouse: str = "warehouse",
    writer: str = "",
    overrides: list[str] | None = None,
    allow: list[str] | None = None,
    wait: int = WEEK,
) -> Any:
    """Drafts principles from a document, waits for a decision, locks what was accepted, and runs a recipe by it.

    Args:
        document: The document's file, from the project's folder.
        name: Of the proposals, and of the constitution that they begin or change.
        recipe: The recipe that runs by the constitution, whatever its own says.
        warehouse: The warehouse's folder or address.
        writer: A recipe whose policy drafts, within its budget; empty: that of `recipe`.
        overrides: Settings in place of the recipe's, each `a.b=value`, as for --set.
        allow: Folders that the recipe may read in, besides its project.
        wait: Seconds that a paused flow run waits for the decision.
    """
    folders = [Path(folder) for folder in allow or ()]
    root = find_root(Path(recipe).parent)
    folder = folder_of(root, name)
    async with scheduled() as schedule:
        drafted = await draft_principles(Path(document), folder, root, Path(writer or recipe))
        decision = await schedule.decide(name, _listed(drafted, folder), wait)
        label = await lock_accepted(folder, root, decision)
        settings = [*(overrides or []), f'constitution="{label}"']
        plan = await prepare_run(Path(recipe), place(warehouse), settings, folders)
        run = plan.run
        if plan.finished:
            await schedule.mark(run.run_id, plan.warehouse)
        else:
            async with open_run(plan) as session:
                async with schedule.watch(session):
                    await session.walk()
                run = await session.finish()
        await schedule.end(run, warehouse, "finished", report(run))
    return schedule.result


def _listed(drafted: Extracted, folder: Path) -> str:
    """The proposals in Markdown, for who decides. A document's and a model's words are shown as code."""
    found = drafted.proposals
    lines = [f"# {len(found.proposals)} proposals from {drafted.document.name}", ""]
    lines += [f"{folder.parent.name}/{folder.name}/proposals.toml has all of each, and may be edited first.", ""]
    for each in found.proposals:
        fault = f" — cannot be accepted: {brief(printable(each.fault), 200)}" if each.fault else ""
        quote = brief(printable(each.principle.quote), 300).replace("`", "'")
        lines.append(f"- **{each.id}** ({each.status}){fault}: `{quote}`")
    lines += ["", f"{len(found.undrafted)} clauses have no draft; {len(drafted.failed)} of them failed."]
    return "\n".join(lines)
