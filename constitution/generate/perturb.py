"""Controlled perturbations: an answer spoiled on purpose, so that it is known what its judges should see (arXiv
2409.15268): polished (wrong, but well formed), terse (right, but curt), sarcastic.

    if drawn(perturber, prompt.id):
        perturbations = await perturb(perturber, prompt, answer, have={}, emit=writer.put)
        probes = pairs_of(answer, perturbations.responses)

The policy that gave the answer spoils it. The pairs of the two are voted on as any other and are never kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from constitution import templates
from constitution.engines.base import Engine, Request
from constitution.errors import EngineError
from constitution.generate.base import Emit
from constitution.generate.failures import failed, failure_id, unsaid
from constitution.generate.outcomes import clean, generation, outcome_of
from constitution.identity import row_id, seed
from constitution.recipe import PerturbSection
from constitution.records import Failure, Perturbation, Prompt, Response, Row

TEMPLATES = templates.PERTURB.digest


@dataclass(frozen=True, slots=True)
class Perturber:
    """What the perturbations of a run have in common."""

    run_id: str
    seed: int
    attempt: int
    """How often the run was started."""
    engine: Engine
    family: str | None
    """Digest of the engine's model; None: not known."""
    section: PerturbSection


@dataclass(frozen=True, slots=True)
class Perturbations:
    """Perturbations of one answer."""

    responses: tuple[Response, ...]
    failures: tuple[Failure, ...] = ()
    """What an engine failed, and perturbations without text."""


def drawn(perturber: Perturber, prompt_id: str) -> bool:
    """Whether the prompt is of the share whose answer is spoiled. Those of a small share are of a greater one too."""
    return seed(perturber.seed, prompt_id, "perturbations") < perturber.section.share * 2**31


async def perturb(
    perturber: Perturber, prompt: Prompt, answer: Response, have: Mapping[str, Row], emit: Emit
) -> Perturbations:
    """The answer's perturbations, one for each of the section's kinds; those in `have` are not asked for again.

    An engine's error is a Failure of that perturbation."""

    async def spoil(kind: Perturbation) -> tuple[Response | None, Failure | None]:
        perturbation, failure = await _perturbation(perturber, prompt, answer, kind, have)
        await emit([row for row in (perturbation, failure) if row is not None and row.id not in have])
        return perturbation, failure

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(spoil(kind)) for kind in perturber.section.kinds]
    rows = [task.result() for task in tasks]
    return Perturbations(
        tuple(perturbation for perturbation, _ in rows if perturbation is not None),
        tuple(failure for _, failure in rows if failure is not None),
    )


async def _perturbation(
    perturber: Perturber, prompt: Prompt, answer: Response, kind: Perturbation, have: Mapping[str, Row]
) -> tuple[Response | None, Failure | None]:
    run_id, prompt_id, step = perturber.run_id, answer.prompt_id, f"perturbation-{kind}"
    id = row_id(run_id, prompt_id, "perturbation", kind, answer.id)
    known = have.get(id) or have.get(failure_id(run_id, prompt_id, step, id))
    if isinstance(known, Response):
        return known, unsaid(known)
    if isinstance(known, Failure):
        return None, known
    sampling = perturber.section.sampling.sampling
    chosen = seed(perturber.seed, prompt_id, "perturbation", kind, answer.kind, answer.round)
    messages = templates.perturb_messages(prompt.messages, answer.text, kind)
    try:
        # Only its votes come after it.
        done = await perturber.engine.generate(
            Request(messages, sampling, chosen, priority=1, affinity=prompt_id, step=step)
        )
    except EngineError as error:
        return None, failed(run_id, prompt_id, step, id, error, perturber.attempt)
    text = clean(done.text)
    perturbation = Response(
        id=id,
        run_id=run_id,
        prompt_id=prompt_id,
        kind="perturbation",
        round=answer.round,
        text=text,
        outcome=outcome_of(text, done.finish_reason, answer.text),
        model=perturber.engine.model,
        parent_id=answer.id,
        template_digest=TEMPLATES,
        family=perturber.family,
        perturbation=kind,
        **generation(done, sampling, chosen),
    )
    return perturbation, unsaid(perturbation)
