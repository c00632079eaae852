"""Rewards by sentence: every sentence so far is asked for faults, and what is missing stays missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_once import run_once, stop_midway
from small_project import table
from test_rewards import Judge, judged, project

from constitution.ask.replay import replayed
from constitution.ask.stored import Stored
from constitution.errors import EngineUnavailable, RecipeError, RequestRefused
from constitution.judge.sources import Item
from constitution.judge.steps import by_step, least_of
from constitution.measures.sentences import sentence_ends
from constitution.pipeline import prepare
from constitution.recipe import load_recipe
from constitution.records import Score
from constitution.warehouse import Warehouse

__all__ = ["project"]

SPLIT = {
    'Hello. This is it! "Is it?" he asked. Yes...  No.': [
        "Hello.", "This is it!", '"Is it?" he asked.', "Yes...", "No.",
    ],
    "No. Dr. Smith paid J. R. Hartley 3.50, e.g. on Monday. Then he left": [
        "No.", "Dr. Smith paid J. R. Hartley 3.50, e.g. on Monday.", "Then he left",
    ],
    "1. Boil water.\r\n2. Add tea.\n\n- one\n- two\n": ["1. Boil water.", "2. Add tea.", "- one", "- two"],
    "你好。这是“什么”？好！": ["你好。", "这是“什么”？", "好！"],
    "Great! 😀": ["Great! 😀"],
    " Hi ": ["Hi"],
    "See:\n```\nx = 1\n```\n**Bold.** Next.": ["See:", "```\nx = 1", "```\n**Bold.**", "Next."],
}  # fmt: skip


def sentences(text: str) -> list[str]:
    ends = sentence_ends(text)
    return [text[start:end].strip() for start, end in zip((0, *ends), ends, strict=False)]


@pytest.mark.parametrize("text", SPLIT)
def test_sentences(text: str) -> None:
    assert sentences(text) == SPLIT[text]


@given(st.text(alphabet=st.sampled_from(list("aB1 .!?\n\r\t\"'*)。」é\u0301😀")), max_size=60))
def test_sentences_have_all_of_a_text(text: str) -> None:
    ends = sentence_ends(text)
    assert bool(ends) is bool(text)
    assert list(ends) == sorted(set(ends))
    assert not text[ends[-1] if ends else 0 :].strip()
    assert text.strip() == "" or all(sentences(text))


def test_sentences_of_a_hostile_text_take_no_time() -> None:
    """Some milliseconds each; a pattern that goes back and forth would take hours."""
    for text in ("." * 10**5 + "x", "a" + " " * 10**5, ".*" * 10**5, "。" * 10**5, ". " * 10**5):
        assert sentence_ends(text)[-1] == len(text.rstrip())


readings = st.lists(st.lists(st.none() | st.floats(0, 1), min_size=1, max_size=3), min_size=1, max_size=4)
"""By sentence what was read of each criterion."""


@given(readings, st.integers(1, 2))
def test_a_missing_reading_is_no_number(read: list[list[float | None]], judges: int) -> None:
    """One judge may be missing, where another read the same; a criterion that none has read leaves its sentence, and
    the answer, without a value."""
    asked, found, wanted = [], [], []
    for end, values in enumerate(read, 1):
        for number, p in enumerate(values):
            item = Item("kind", "", number, "?", "no", 1.0, False, ("Y", "N"), lambda *_: (), end)
            asked += [item] * judges
            found += [] if p is None else [(item, score(1 - p))]
        known = [p for p in values if p is not None]
        wanted.append(min(known) if len(known) == len(values) else None)
    steps = by_step(asked, found)
    assert [step.value for step in steps] == pytest.approx(wanted)
    assert [step.upto for step in steps] == list(range(1, len(read) + 1))
    whole = [value for value in wanted if value is not None]
    assert least_of(steps).value == (pytest.approx(min(whole)) if len(whole) == len(wanted) else None)


def score(p_yes: float) -> Score:
    return Score("", "", "", "", "j", "", "kind", "", "sentence", "", 0, "?", "no", 1.0, p_yes, 1.0, "")


BY = 'reward.by=["sentence","rubric"]'
RULES = "reward.rules={}"


async def test_each_sentence_is_read_with_what_is_before_it(project: Path) -> None:
    run = await run_once(project / "recipe.toml", project / "w", [BY, RULES, "prompts.limit=4"])
    assert run.finished_at
    rows = table(
        project / "w",
        "SELECT text, value, raw, readings, missing, steps FROM rewards JOIN responses AS r ON r.id = response_id "
        "WHERE source = 'sentence'",
    )
    assert len(rows) == 4 * 7
    assert max(len(steps) for *_, steps in rows) > 2
    for text, value, raw, readings, missing, steps in rows:
        assert [step["upto"] for step in steps] == list(sentence_ends(text))
        assert value == raw == min(step["value"] for step in steps)
        assert (readings, missing) == (len(steps), 0)  # one criterion asks for a fault
    asked = "SELECT DISTINCT question, good, criterion FROM scores WHERE metric = 'sentence'"
    assert table(project / "w", asked) == [("Is it rude?", "no", 1)]
    # What is shown is the answer up to there, and `show` renders it again.
    [[prompt_id]] = table(project / "w", "SELECT prompt_id FROM scores WHERE metric = 'sentence' AND upto < 40 LIMIT 1")
    stored = Stored.load(Warehouse(project / "w"), run.run_id, prompt_id)
    texts = {answer.id: answer.text for answer in stored.responses}
    scores = [row for row in stored.rows.values() if isinstance(row, Score) and row.metric == "sentence"]
    assert min(row.upto or 0 for row in scores) < 40
    for row in scores:
        [exchange] = (await replayed(stored, row)).exchanges
        assert texts[row.response_id][: row.upto] + "\n[end" in exchange.request.messages[0].content
        assert exchange.request.seed == row.seed
    again = await run_once(project / "recipe.toml", project / "w", [BY, RULES, "prompts.limit=4"])
    assert again.run_id == run.run_id
    assert again.counts["scores"] == run.counts["scores"]


async def test_cut_short_it_comes_to_the_same(project: Path) -> None:
    own = [BY, RULES, "prompts.limit=5"]
    rows = "SELECT id, value, upto::VARCHAR AS more FROM (SELECT *, p_yes AS value FROM scores) UNION ALL " \
           "SELECT id, value, steps::VARCHAR FROM rewards ORDER BY ALL"  # fmt: skip
    await run_once(project / "recipe.toml", project / "whole", own)
    await stop_midway(project / "recipe.toml", project / "cut", own, prompts=2)
    whole = table(project / "whole", rows)
    assert 0 < len(table(project / "cut", rows)) < len(whole)
    run = await run_once(project / "recipe.toml", project / "cut", own)
    assert table(project / "cut", rows) == whole
    warehouse = Warehouse(project / "cut")
    [part] = warehouse.parts("scores", run.run_id)
    part.write_bytes(part.read_bytes()[:-9] + b"otherwise")
    with warehouse.lock(run.run_id):
        assert warehouse.repair(run.run_id)
    await run_once(project / "recipe.toml", project / "cut", own)
    assert table(project / "cut", rows) == whole


async def test_a_sentence_that_cannot_be_read_leaves_no_value(project: Path) -> None:
    rows = [{"prompt": "How?", "good": "Like this. Or BAD. So.", "bad": "Fine. Good."}]
    (project / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    own = [BY, RULES, "reward.quorum=0.5", "sample={}"]
    kinds = "SELECT text, source, value IS NULL, reason, readings, missing, length(steps) FROM rewards " \
            "JOIN responses AS r ON r.id = response_id WHERE text LIKE '%BAD%' ORDER BY source"  # fmt: skip
    run = await judged(project, Judge({"BAD": RequestRefused("no")}), *own)
    assert run.finished_at
    assert table(project / "w", kinds) == [
        ("Like this. Or BAD. So.", "rubric", True, "readings-missing", 0, 3, None),
        ("Like this. Or BAD. So.", "sentence", True, "readings-missing", 1, 2, 3),
    ]
    steps = "SELECT list_transform(steps, lambda s: s.value IS NULL) FROM rewards WHERE readings = 1 AND missing = 2"
    assert table(project / "w", steps) == [([False, True, True],)]
    run = await judged(project, Judge(), *own, retry=True)
    assert run.finished_at
    assert [row[2:] for row in table(project / "w", kinds)] == [(False, None, 3, 0, None), (False, None, 3, 0, 3)]


async def test_one_that_may_still_come_is_waited_for(project: Path) -> None:
    own = [BY, RULES, "reward.quorum=0.5", "sample={}", 'prompts.answers=["good"]']
    run = await judged(project, Judge({"Is it rude?": EngineUnavailable("away")}), *own)
    assert not run.finished_at
    assert table(project / "w", "SELECT source FROM rewards") == [("rubric",)]
    run = await judged(project, Judge(), *own)
    assert run.finished_at
    assert table(project / "w", "SELECT count(value) FROM rewards WHERE source = 'sentence'") == [(1,)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            'good = "no"\nweight = 0.5\nkind = "pitfall"\n',
            'no principle of rewards@1.0.0 has a criterion with good = "no"',
        ),
        ("", "combine: veto is for rubric and rule"),
    ],
)
def test_what_cannot_be(project: Path, change: str, said: str) -> None:
    path = project / "principles" / "rewards" / "1.0.0.toml"
    path.write_text(path.read_text(encoding="utf-8").replace(change, ""), encoding="utf-8")
    own = ['reward.by=["sentence"]', RULES, *([] if change else ['reward.combine="veto"'])]
    with pytest.raises(RecipeError, match=said):
        prepare(load_recipe(project / "recipe.toml", own), project / "recipe.toml", project / "w")
