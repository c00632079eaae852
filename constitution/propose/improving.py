"""`improve` with models of a recipe, its replies kept, and what becomes of what is kept: tests, impact, a report.

done = await improving(constitution, gold, Roles(panel, writer_section), folder, Settings(), Extras())
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from constitution.ask.examples import Trial as Example
from constitution.ask.examples import try_examples
from constitution.ask.impact import Impact, impact
from constitution.ask.panel import Panel
from constitution.ask.questions import opened
from constitution.engines import Engine
from constitution.engines.identity import model_identity
from constitution.errors import InputError
from constitution.principles.files import replace_file
from constitution.principles.languages import known
from constitution.propose.file import FILE, Proposal, Proposals, merge, read, write
from constitution.propose.gold import Gold
from constitution.propose.improve import Improved, Proposer, Settings, Trial, Tried, improve
from constitution.propose.judging import Judging
from constitution.propose.replies import Replies
from constitution.propose.wordings import Writer
from constitution.recipe import ModelSection
from constitution.records import Constitution

REPORT = "improve.json"
WHOLE = (
    "people said which answer is better on the whole, not by this principle: a wording that asks for the whole gains "
    "by that; look whether it still says what the principle is about"
)


@dataclass(frozen=True, slots=True)
class Roles:
    judges: Panel
    writer: ModelSection


@dataclass(frozen=True, slots=True)
class Extras:
    more: tuple[str, ...] = ()
    """What the writer is asked for beside the question: of wordings.FIELDS."""
    impact: int = 50
    """Pairs on which the whole constitution is judged before and after; 0: none."""


@dataclass(frozen=True, slots=True)
class Done:
    improved: Improved
    gold: Gold
    examples: tuple[tuple[Example, Example], ...]
    """The kept principles' own examples, before and after."""
    impact: Impact | None
    """None: nothing is kept, or it was not asked for."""
    asked: int
    """Requests that went to models; `kept`: that were answered before."""
    kept: int
    torn: str
    """What the last line of the replies was, if it was not whole."""
    said: str = ""
    """What became of a file of proposals that a person has edited; empty: there was none."""

    def broken(self, id: str) -> int:
        """Examples of a principle that were judged rightly before and are not after."""
        return sum(old.right and not new.right for old, new in self.examples if old.principle_id == id)


async def improving(
    constitution: Constitution, gold: Gold, roles: Roles, folder: Path, settings: Settings, extras: Extras
) -> Done:
    """folder: proposals/<name>, which is there. Writes replies.jsonl, spent.jsonl and the report.

    Raises InputError while another process works there, and where judges would not read what is reworded,
    PrincipleError for an unknown principle, and what the engines raise that do not open."""
    if not roles.judges.reads_questions and "criteria" not in extras.more:
        raise InputError("these judges read criteria and no question", hint="have those reworded: --also criteria")
    with Replies.open(folder / "replies.jsonl") as replies:

        def through(engine: Engine, section: ModelSection) -> Engine:
            return replies.of(engine, model_identity(section))

        @asynccontextmanager
        async def writer() -> AsyncIterator[Proposer]:
            async with opened(roles.writer) as engine:
                kept = through(engine, roles.writer)
                yield Writer(kept, settings.seed, known(constitution.language), extras.more)

        panel = replace(roles.judges, through=through)
        improved = await improve(constitution, gold, Judging(panel), writer, folder, settings)
        ids = {trial.principle.id for trial in improved.trials if trial.kept}
        old, new = (_only(each, ids) for each in (constitution, improved.revised))
        examples = zip(*[await try_examples(each, panel) for each in (old, new)], strict=True) if ids else ()
        effect = None
        if ids and extras.impact:
            stored = {each.key: (each.prompt, each.pair) for each in gold.pairs}
            effect = await impact(constitution, improved.revised, list(stored.values())[: extras.impact], panel)
        done = Done(improved, gold, tuple(examples), effect, replies.asked, replies.kept, replies.torn)
        said = keep(folder, Proposals("improve", constitution.label, proposals=tuple(proposals_of(done))))
    replace_file(folder / REPORT, (json.dumps(as_json(done), ensure_ascii=False, indent=1) + "\n").encode())
    return replace(done, said=said)


def keep(folder: Path, new: Proposals) -> str:
    """Writes the proposals; those that people have edited or decided stay. A sentence, if the file looked otherwise."""
    path = folder / FILE
    fresh = replace(new, proposals=tuple(each.sealed() for each in new.proposals))
    return write(folder, merge(read(path), fresh) if path.exists() else fresh)


def proposals_of(done: Done) -> list[Proposal]:
    """Those of what is kept: the old principle with the new words, what was measured, and what forbids to accept it."""
    drafts = []
    for trial in done.improved.trials:
        if (new := trial.kept) is None:
            continue
        assert trial.rise is not None
        broken = done.broken(new.id)
        said = [
            f"was: {trial.principle.comparison_question}",
            f"agreement with gold on {trial.rise.n} held-out pairs {100 * (trial.rise.value or 0):+.0f} points "
            f"({100 * (trial.rise.low or 0):+.0f} to {100 * (trial.rise.high or 0):+.0f}), p {trial.p_holm:.3g}",
            f"its own votes flip on {100 * (trial.flips.value or 0) if trial.flips else 0:.0f} % of the pairs",
            *([f"the writer: {trial.best.reason}"] if trial.best and trial.best.reason else []),
            *notes_of(trial, done),
        ]
        fault = f"{broken} examples of the principle, judged rightly before, are judged wrongly now" if broken else ""
        drafts.append(Proposal(new, action="replace", note="; ".join(said), fault=fault))
    return drafts


def _only(constitution: Constitution, ids: set[str]) -> Constitution:
    return replace(constitution, principles=tuple(p for p in constitution.principles if p.id in ids))


def as_json(done: Done) -> dict[str, Any]:
    """Everything, without the pairs' texts."""
    gold = done.gold
    return {
        "constitution": done.improved.constitution.label,
        "gold": {"source": gold.source, "pairs": len(gold.pairs), "ties": gold.ties, "unvotable": gold.unvotable,
                 "contrary": gold.contrary},
        "principles": [_trial(trial, done) for trial in done.improved.trials],
        "impact": done.impact and {"labels_that_flip": asdict(done.impact.flips), "votes": done.impact.votes},
    }  # fmt: skip


def _trial(trial: Trial, done: Done) -> dict[str, Any]:
    examples = [pair for pair in done.examples if pair[0].principle_id == trial.principle.id]
    return {
        "id": trial.principle.id,
        "decision": trial.decision,
        "note": trial.note,
        "gold": trial.about,
        "selection": len(trial.selection),
        "held_out": len(trial.held_out),
        "spent": trial.spent,
        "missing": trial.missing,
        "agreement": trial.agreement and asdict(trial.agreement),
        "wordings": [_tried(each) for each in trial.tried],
        "writer_failures": trial.failed,
        "rise": trial.rise and asdict(trial.rise),
        "gains": trial.gains,
        "losses": trial.losses,
        "p": trial.p,
        "p_holm": trial.p_holm,
        "repeats_test_of": trial.repeated,
        "own_votes_that_flip": trial.flips and asdict(trial.flips),
        "examples_right": {"before": sum(a.right for a, _ in examples), "after": sum(b.right for _, b in examples)},
    }


def _tried(tried: Tried) -> dict[str, Any]:
    principle = tried.wording.principle
    return {
        "comparison_question": principle.comparison_question,
        "reason": tried.wording.reason,
        "fault": tried.wording.fault,
        "agreement": tried.agreement and asdict(tried.agreement),
        "gains": tried.gains,
        "losses": tried.losses,
        "p": tried.p,
        "missing": tried.missing,
    }


def notes_of(trial: Trial, done: Done) -> Sequence[str]:
    """What a person should know before accepting the wording."""
    found = [WHOLE] if trial.about == "whole" else []
    sides = {pair.p_b > 0.5 for pair in (*trial.selection, *trial.held_out)}
    if len(sides) == 1 and done.gold.run_id:  # a file of preferences has the better one in one column
        found.append(
            f"people always prefer the {'later' if True in sides else 'earlier'} answer of a pair: a wording may have "
            "found what tells the two apart, and not what makes one better"
        )
    old, new = trial.principle, trial.kept or trial.principle
    if (old.critique_request, old.revision_request) != (new.critique_request, new.revision_request):
        found.append("votes do not read critique_request and revision_request, so these were not measured")
    return found
