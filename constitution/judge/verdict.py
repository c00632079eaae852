"""Method verdict: the judge writes its choice, at a temperature, as often as the recipe says. It takes no
log-probabilities, which the strongest hosted models do not give.

One vote is one written verdict: 1, 0, or of a tie one half, as MT-bench's pairwise prompt has three verdicts
(arXiv 2306.05685, appendix A). The probability is the share over a judge's verdicts in one order, with Wilson's
interval (labels/votes.py); what cannot be read counts for neither answer.
"""

from __future__ import annotations

import re

from constitution import templates
from constitution.engines.base import Completion
from constitution.errors import MalformedReply
from constitution.generate.outcomes import clean, thought_of
from constitution.judge.question import Question, Verdict, final, generate

P_FIRST = {"A": 1.0, "B": 0.0, "tie": 0.5}
"""What each verdict says."""
QUOTED = 200
"""Characters of a last line that are repeated, from its end."""

_MARKUP = r"[\s.*_`#\"'“”()\[\]]*"
"""But no >, with which a judge quotes an answer, which may hold a verdict too."""
_LINE = re.compile(rf"{_MARKUP}(?a:Verdict){_MARKUP}:{_MARKUP}((?a:A|B|tie)){_MARKUP}", re.IGNORECASE)
"""A line that is a verdict and nothing else; markup and quotes around it change nothing that it says. In letters of
ASCII: beyond them İ and ı are an i too where case is ignored."""


async def verdict(q: Question) -> Verdict:
    asked = templates.verdict_messages(q.prompt, q.first, q.second, q.principle, q.nonce, q.texts)
    done = await generate("verdict", q.engine, q.request(asked, q.section.verdict.sampling))
    text = clean(done.text)
    return Verdict(
        p_first=P_FIRST[said(text, done)],
        label_mass=1.0,
        prompt_tokens=done.prompt_tokens,
        cached_tokens=done.cached_tokens,
        completion_tokens=done.completion_tokens,
        rationale=text,
        rationale_reasoning=thought_of(done),
        reasoning_tokens=done.reasoning_tokens,
        seeded="seed" not in done.unsent,
    )


def said(text: str, done: Completion) -> str:
    """A key of P_FIRST: the last line, if it is a verdict and no other line is another one. Raises PartFailed for
    anything else, and for what max_tokens cut: it might have gone on."""
    if done.finish_reason == "length":
        raise _unread(f"max_tokens were used up, {'before any text' if not text else 'so it may not be whole'}")
    if not text:
        raise _unread("there is no text")
    lines = [line for line in text.splitlines() if line.strip()]
    found = [match[1] for match in map(_LINE.fullmatch, lines) if match]
    verdicts = {name for name in P_FIRST for each in found if each.casefold() == name.casefold()}
    if not _LINE.fullmatch(lines[-1]):
        raise _unread(f"the last line is no verdict: …{lines[-1].strip()[-QUOTED:]}")
    if len(verdicts) > 1:
        raise _unread(f"the text has several: {', '.join(sorted(verdicts))}")
    return verdicts.pop()


def _unread(why: str) -> Exception:
    return final("verdict", MalformedReply(why))
