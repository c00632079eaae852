"""Models and servers that say anything, or nothing, in any step, and engines that fail: every chain ends with rows that
say so, nothing that was cut or held back is trained on, and Python and SQL agree on all of it."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

from chains import CONSTITUTION, Reply, Rows, Scripted, labeller, prompt, said, setup, step
from conftest import Torture
from export_runs import make_export
from small_project import table
from test_refusals import REFUSALS
from warehouse_rows import run

from constitution.engines.base import FINISH_REASONS, Request
from constitution.errors import ContextTooLong, EngineUnavailable
from constitution.generate import Answers
from constitution.generate.revise import Revise
from constitution.judge.pairs import pairs
from constitution.recipe import JudgeSection
from constitution.records import Failure, Preference
from constitution.warehouse import Warehouse
from constitution.warehouse.convert import ROW_TABLES

RUN = "demo-0123456789ab"
SECTION = JudgeSection(pairs=("first-last", "parent"))


def anything(draw: random.Random, request: Request) -> Reply:
    """A reply of any kind. Its text says who wrote it, so that it is known where a text comes from."""
    if request.choices:
        return said("", logprobs={"A": -draw.random() * 5, "B": -draw.random() * 5})
    kind = draw.random()
    if kind < 0.06:
        return draw.choice((ContextTooLong("too long"), EngineUnavailable("away")))
    if kind < 0.16 and step(request) == "revision":
        return said(next(turn.content for turn in reversed(request.messages[:-2]) if turn.role == "assistant"))
    text = draw.choice(("", f"Text {draw.getrandbits(64):x}.", f"{draw.choice(REFUSALS)} {draw.getrandbits(64):x}"))
    return said(text, draw.choices(FINISH_REASONS, (6, 2, 1, 1, 1))[0])


async def test_every_chain_says_what_became_of_its_texts(tmp_path: Path, torture: Torture) -> None:
    draw, rows = random.Random(f"{torture.seed}/outcomes"), Rows()
    prompts, chains = [prompt(f"Question {n}?") for n in range(600 if torture.full else 150)], {}
    engine = Scripted(lambda request: anything(draw, request))
    chain_of = Revise.of(replace(setup(engine, revise={"rounds": 4}), run_id=RUN))
    assert chain_of is not None
    voting_on = labeller(SECTION, Scripted(engine._reply, "judge"), run_id=RUN)
    for asked in prompts:
        chains[asked.id] = chain = await chain_of.answers(asked, {}, rows.put)
        await voting_on.label(asked, chain.responses if chain.complete else (), {}, rows.put)
        torture.count("replies of any outcome", len(chain.responses))
    warehouse = Warehouse(tmp_path / "w")
    warehouse.write_principles(RUN, CONSTITUTION)
    warehouse.write_prompts(RUN, 0, prompts)
    for name, kind in ROW_TABLES.items():
        if own := [row for row in rows.all if isinstance(row, kind)]:
            warehouse.write_part(name, RUN, own)
    warehouse.write_run(run(RUN, rounds=4))
    warehouse.rebuild_views()
    whole = written(chains, warehouse.root)
    _, found = make_export(warehouse.root, run(RUN), tmp_path / "sft", "sft", rounds="all", test=0.0)
    assert {row["response_id"] for row in found} == whole
    labels = {row.id: row for row in rows.all if isinstance(row, Preference)}
    _, found = make_export(warehouse.root, run(RUN), tmp_path / "dpo", "dpo", test=0.0)
    for row in found:
        assert {labels[row["pair_id"]].a_id, labels[row["pair_id"]].b_id} <= whole
    # What can have a pair has one, whatever came after it.
    for asked in prompts:
        chain = chains[asked.id]
        expected = {pair.id for pair in pairs(RUN, asked, chain.responses if chain.complete else (), SECTION.pairs)}
        assert {label.id for label in labels.values() if label.prompt_id == asked.id} == expected
    states = dict(table(warehouse.root, "SELECT state, count(*) FROM chains GROUP BY ALL"))
    assert set(states) == {"complete", "stopped", "failed", "open"}
    stops = [row for row in rows.all if isinstance(row, Failure) and row.error == "ContextTooLong"]
    assert states["stopped"] + states["failed"] == len(stops)


def written(chains: dict[str, Answers], root: Path) -> set[str]:
    """The answers whose texts are whole, by the texts alone; the view must say the same."""
    told = {
        id: (origin, outcome) for id, origin, outcome in table(root, "SELECT id, written_id, text_outcome FROM written")
    }
    whole = set()
    for chain in chains.values():
        by_id = {each.id: each for each in chain.responses}
        for each in chain.responses:
            origin = each
            while origin.outcome in ("unchanged", "skipped") and origin.parent_id:
                assert by_id[origin.parent_id].text == each.text
                origin = by_id[origin.parent_id]
            assert told[each.id] == (origin.id, origin.outcome)
            if origin.outcome == "ok":
                whole.add(each.id)
    return whole
