"""Controlled infractions: an answer spoiled on purpose, so that it is known what its judges should see (arXiv
2409.15268): polished (wrong, but well formed), terse (right, but curt), sarcastic.

    if drawn(infractor, prompt.id):
        variants = await infract(infractor, prompt, answer, have={}, emit=writer.put)
        probes = pairs_of(answer, variants.responses)

The policy that gave the answer spoils it. The pairs of answer and variant are voted on as any other and are never kept.
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
from constitution.recipe import InfractionsSection
from constitution.records import Failure, Infraction, Prompt, Response, Row

TEMPLATES = templates.VARIANTS.digest


@dataclass(frozen=True, slots=True)
class Infractor:
    """What the infractions of a run have in common."""

    run_id: str
    seed: int
    attempt: int
    """How often the run was started."""
    engine: Engine
    family: str | None
    """Of the engine's model; None: not known."""
    section: InfractionsSection


@dataclass(frozen=True, slots=True)
class Variants:
    """Of one answer."""

    responses: tuple[Response, ...]
    failures: tuple[Failure, ...] = ()
    """What an engine failed, and variants without text."""


def drawn(infractor: Infractor, prompt_id: str) -> bool:
    """Whether the prompt is of the share whose answer is spoiled. Those of a small share are of a greater one too."""
    return seed(infractor.seed, prompt_id, "infractions") < infractor.section.share * 2**31


async def infract(
    infractor: Infractor, prompt: Prompt, answer: Response, have: Mapping[str, Row], emit: Emit
) -> Variants:
    """The answer's variants, one for each of the section's kinds; those in `have` are not asked for again. An engine's
    error is a Failure of that variant."""

    async def spoil(kind: Infraction) -> tuple[Response | None, Failure | None]:
        variant, failure = await _variant(infractor, prompt, answer, kind, have)
        await emit([row for row in (variant, failure) if row is not None and row.id not in have])
        return variant, failure

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(spoil(kind)) for kind in infractor.section.kinds]
    rows = [task.result() for task in tasks]
    return Variants(
        tuple(variant for variant, _ in rows if variant is not None),
        tuple(failure for _, failure in rows if failure is not None),
    )


async def _variant(
    infractor: Infractor, prompt: Prompt, answer: Response, kind: Infraction, have: Mapping[str, Row]
) -> tuple[Response | None, Failure | None]:
    run_id, prompt_id, step = infractor.run_id, answer.prompt_id, f"variant-{kind}"
    id = row_id(run_id, prompt_id, "variant", kind, answer.id)
    known = have.get(id) or have.get(failure_id(run_id, prompt_id, step, id))
    if isinstance(known, Response):
        return known, unsaid(known)
    if isinstance(known, Failure):
        return None, known
    sampling = infractor.section.sampling.sampling
    chosen = seed(infractor.seed, prompt_id, "variant", kind, answer.kind, answer.round)
    messages = templates.variant_messages(prompt.messages, answer.text, kind)
    try:
        # Only its votes come after it.
        done = await infractor.engine.generate(
            Request(messages, sampling, chosen, priority=1, affinity=prompt_id, step=step)
        )
    except EngineError as error:
        return None, failed(run_id, prompt_id, step, id, error, infractor.attempt)
    text = clean(done.text)
    variant = Response(
        id=id,
        run_id=run_id,
        prompt_id=prompt_id,
        kind="variant",
        round=answer.round,
        text=text,
        outcome=outcome_of(text, done.finish_reason, answer.text),
        model=infractor.engine.model,
        parent_id=answer.id,
        template_digest=TEMPLATES,
        family=infractor.family,
        infraction=kind,
        **generation(done, sampling, chosen),
    )
    return variant, unsaid(variant)
