"""Answers whose reasoning gives their system prompt away: an export with reasoning does without them."""

from __future__ import annotations

from collections.abc import Iterator

from constitution.export.reasons import Dropped
from constitution.export.work import Work
from constitution.measures.copies import recites
from constitution.principles.system import fillers, system_prompt_of
from constitution.records import Constitution, Principle
from constitution.templates.system import filled

# A skipped or unchanged revision has the text of an answer before it, and so what was thought before that one.
_THOUGHTS = """
SELECT c.id, made.sampler, made.system_prompt, made.principle_id, made.reasoning, q.messages
FROM (SELECT id, prompt_id, unnest([answer_id, other_id]) AS side FROM export.alive) AS c
JOIN written AS w ON w.id = c.side
JOIN responses AS made ON made.id = w.written_id
JOIN prompts AS q ON q.id = c.prompt_id
WHERE made.system_prompt IS NOT NULL AND made.reasoning <> ''
"""


def drop_recited(work: Work, constitution: Constitution) -> None:
    """Drops the rows of which a thought recites the system prompt, or the thought, that was put before the answer."""
    work.drop_found(Dropped.COPIED, list(_recited(work, constitution)))


def _recited(work: Work, constitution: Constitution) -> Iterator[tuple[str, str]]:
    samplers = work.run.recipe.get("sample") or {}
    principles = {principle.id: principle for principle in constitution.principles}
    for batch in work.batches(_THOUGHTS):
        for row in batch.to_pylist():
            names = samplers[row["sampler"]].get("principles", ())
            hidden = _hidden(constitution, row["system_prompt"], names, principles.get(row["principle_id"]))
            if recites(row["reasoning"], hidden, [turn["content"] for turn in row["messages"]]):
                yield row["id"], "reasoning"


def _hidden(constitution: Constitution, id: str, names: tuple[str, ...], drawn: Principle | None) -> tuple[str, str]:
    """System prompt and thought as the model had them, but for the answers that they showed."""
    prompt = system_prompt_of(constitution, id, id)
    words = filled(prompt, fillers(constitution, prompt, names, id), drawn)
    return words.text, words.thought
