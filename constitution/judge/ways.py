"""How each method takes one vote.

label       one call: P(A) / (P(A) + P(B)) after "The answer is: (" (arXiv 2212.08073, 2309.00267)
rationale   two calls: the judge reasons, then the same reading after what it wrote
score       two calls: a grade for each answer by itself, read as a distribution
rubric      a call for each criterion and answer: P(yes) / (P(yes) + P(no))
verdict     one call, of which no probability is read (verdict.py)

The calls of one vote that do not build on each other go out together. One that fails fails the vote.
"""

from __future__ import annotations

from dataclasses import replace

from constitution import templates
from constitution.errors import MalformedReply
from constitution.generate.outcomes import clean, thought_of
from constitution.judge.question import (
    Question,
    Verdict,
    both_answers,
    final,
    generate,
    read,
    share,
    together,
    verdict,
)
from constitution.judge.read import checklist_sum, outgrade

AFTER = "label after the rationale"
"""The part of a vote that builds on what the judge wrote, as failures name it."""


def stop_of(texts: templates.TemplateSet) -> str:
    """Ends a rationale where the judge writes the standard ending itself: the label is then read after our own."""
    return texts.ending.removesuffix("(").rstrip()


async def label(q: Question) -> Verdict:
    reading = await read(q, "", templates.vote_messages(q.prompt, q.first, q.second, q.principle, q.nonce, q.texts))
    return verdict(share(reading), [reading])


async def rationale(q: Question) -> Verdict:
    written = q.section.rationale.sampling
    asked = templates.rationale_messages(q.prompt, q.first, q.second, q.principle, q.nonce, texts=q.texts)
    sampling = replace(written, stop=(*written.stop, stop_of(q.texts)))
    # Priority: the second call, which finds all but its last words in the cache, goes before other votes' first.
    reasoning = await generate("rationale", q.engine, q.request(asked, sampling, priority=1))
    text = clean(reasoning.text)
    if not text and reasoning.finish_reason == "length":
        raise final("rationale", MalformedReply("max_tokens were used up before any text"))
    ended = templates.rationale_messages(q.prompt, q.first, q.second, q.principle, q.nonce, text, q.texts)
    reading = await read(q, AFTER, ended)
    found = verdict(share(reading), [reading], reasoning)
    seeded = "seed" not in reasoning.unsent
    return found._replace(rationale=text, rationale_reasoning=thought_of(reasoning), seeded=seeded)


async def score(q: Question) -> Verdict:
    labels = templates.GRADES if q.section.score.steps == len(templates.GRADES) else templates.LETTERS
    first, second = await together(
        read(
            q,
            f"grade of the {place} answer",
            templates.score_messages(q.prompt, text, q.principle, q.nonce, q.texts),
            labels,
        )
        for place, text in both_answers(q)
    )
    grades = first.read.found, second.read.found
    return verdict(outgrade(*grades), [first, second])._replace(read_first=grades[0], read_second=grades[1])


async def rubric(q: Question) -> Verdict:
    criteria = q.principle.criteria
    readings = await together(
        read(
            q,
            f"criterion {number} of the {place} answer",
            templates.rubric_messages(q.prompt, text, criterion, q.nonce, q.texts),
            templates.REPLIES,
        )
        for place, text in both_answers(q)
        for number, criterion in enumerate(criteria, 1)
    )
    p_yes = tuple(share(reading) for reading in readings)
    first, second = p_yes[: len(criteria)], p_yes[len(criteria) :]
    p_first = 0.5 + (checklist_sum(criteria, first) - checklist_sum(criteria, second)) / 2
    return verdict(p_first, readings)._replace(read_first=first, read_second=second)
