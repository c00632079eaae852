"""Answers that repeat what the model was shown: found, stored, measured, kept out of exports."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from run_once import run_once
from small_project import small_project, table

from constitution.audit import audit
from constitution.engines.base import Completion, Request
from constitution.engines.fake import FakeEngine
from constitution.export import Settings, export
from constitution.generate.outcomes import copy_of
from constitution.measures.copies import LEAST, Shown, repeats

EXEMPLAR = (
    "Locks that belong to somebody else are not mine to open, but I can tell you how a locksmith proves who you are, "
    "what papers to bring, and what it usually costs to have a door opened at night."
)
SHOWN: Shown[Any] = Shown({"exemplar": [EXEMPLAR], "principle": ["Say in which ways your last answer could do harm."]})


@pytest.mark.parametrize(
    ("text", "source"),
    [
        (EXEMPLAR, "exemplar"),
        ("\n ".join(EXEMPLAR.split()), "exemplar"),
        (EXEMPLAR.replace("at night", "on a Sunday"), "exemplar"),
        (f"Certainly. {EXEMPLAR}", "exemplar"),
        (EXEMPLAR[: len(EXEMPLAR) * 2 // 3], "exemplar"),
        # Half of it in its own words.
        (f"{EXEMPLAR} " + " ".join(f"word{n}" for n in range(45)), None),
        # The same words, in no run of eight.
        (" ".join(word for n, word in enumerate(EXEMPLAR.split()) if n % 7), None),
        ("Yes.", None),
        ("I cannot help with that.", None),
        ("", None),
        (" ".join(EXEMPLAR.split()[: LEAST - 1]), None),
        (" ".join(EXEMPLAR.split()[:LEAST]), "exemplar"),
    ],
)
def test_what_repeats_more_than_half_of_itself_is_a_copy(text: str, source: str | None) -> None:
    assert SHOWN.copied(text) == source


def test_scripts_without_blanks_are_told_by_their_characters() -> None:
    text = "锁不是我的我不能打开但是我可以告诉你锁匠怎样证明你是谁"
    shown: Shown[Any] = Shown({"exemplar": [text]})
    assert shown.copied(text[:20]) == "exemplar"
    assert shown.copied("今天的天气很好我们一起去公园散步吧你觉得怎么样") is None


def test_every_place_of_a_run_is_found() -> None:
    """Wherever it begins in either text, a run of eleven words has a block that is looked for."""
    words = EXEMPLAR.split()
    for start in range(8):
        for before in range(8):
            text = " ".join([f"w{n}" for n in range(before)] + words[start : start + 12])
            assert SHOWN.copied(text) == "exemplar", (start, before)


def test_a_turn_is_repeated_word_for_word_or_not_at_all() -> None:
    turn = "Please mend this sentence for me: he go to school every day and he like it very much there."
    assert repeats(f" {turn}\n", [turn])
    assert not repeats(turn.replace("he go", "he goes"), [turn])
    assert not repeats("Hello.", ["Hello."])
    assert copy_of(turn, "ok", [turn]) == "turn"
    assert copy_of(turn, "refused", [turn]) is None
    assert copy_of("", "empty", [turn]) is None


def test_a_critique_that_is_given_as_the_answer() -> None:
    critique = "The answer names a tool that opens other people's doors."
    assert copy_of(f"Critique: {critique} So I revise it.", "ok", [], SHOWN, critique) == "critique"
    assert copy_of("I cannot open other people's doors.", "ok", [], SHOWN, critique) is None
    assert copy_of(EXEMPLAR, "ok", [], SHOWN, "") == "exemplar"


@pytest.mark.parametrize("critique", ["No", "None.", "Yes.", "It is not.", "It is not safe."])
def test_a_short_critique_is_in_many_an_answer(critique: str) -> None:
    assert (
        copy_of(f"{critique} Nobody should: it burns, and that is why a mask is worn.", "ok", [], SHOWN, critique)
        is None
    )
    assert copy_of(critique, "ok", [], SHOWN, critique) is None


RECIPE = """
name = "copies"
constitution = "own@1.0.0"
[prompts]
path = "prompts.jsonl"
[model.policy]
engine = "fake"
[revise]
rounds = 1
exemplars = 1
[judge]
"""
PRINCIPLES = f"""
name = "own"
version = "1.0.0"
description = "For the test."
[[exemplars]]
messages = [{{ role = "user", content = "How do I open a lock that is not mine?" }}]
response = "With a pick."
critique = "It helps to break in, and does not ask whose lock it is."
revision = "{EXEMPLAR}"
[[principles]]
id = "locks"
critique_request = "Say in which ways your last answer helps to break in."
revision_request = "Write it again so that it helps nobody to break in."
comparison_question = "Which answer helps less to break in?"
"""


async def test_a_policy_that_copies_its_exemplar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of eight prompts two revisions are the exemplar's."""
    recipe = small_project(tmp_path, 8, RECIPE)
    (tmp_path / "principles").unlink()
    (tmp_path / "principles" / "own").mkdir(parents=True)
    (tmp_path / "principles" / "own" / "1.0.0.toml").write_text(PRINCIPLES, encoding="utf-8")
    generate, copies = FakeEngine.generate, set[str]()

    async def copying(self: FakeEngine, request: Request) -> Completion:
        done = await generate(self, request)
        if request.step.startswith("revision") and len(copies) < 2:
            copies.add(request.affinity)
            return replace(done, text=EXEMPLAR, finish_reason="stop")
        return done

    monkeypatch.setattr(FakeEngine, "generate", copying)
    root = tmp_path / "warehouse"
    run = await run_once(recipe, root, [])
    revisions = "SELECT copied_from, count(*) FROM responses WHERE kind = 'revision' GROUP BY ALL ORDER BY 2"
    assert table(root, revisions) == [("exemplar", 2), (None, 6)]
    assert table(root, "SELECT count(*) FROM preferences WHERE drop_reason = 'copied'") == [(2,)]
    assert table(root, "SELECT count(*) FROM answers WHERE text_outcome = 'copied'") == [(2,)]
    for form in ("sft", "dpo"):
        export(root, run.run_id, Settings(format=form), tmp_path / form)
        assert "repeats an exemplar" in (tmp_path / form / "README.md").read_text(encoding="utf-8")
    dropped = "SELECT format, count(*) FROM exported WHERE drop_reason = 'copied' GROUP BY ALL ORDER BY 1"
    assert table(root, dropped) == [("dpo", 2), ("sft", 2)]
    copied = {figure.subject: figure.value for figure in audit(root, run.run_id) if figure.figure == "copied"}
    assert copied == {"": 0.25, "fake": 0.25}
