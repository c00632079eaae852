"""Cleaning by what answers look like: length, language, refusals, boilerplate."""

from __future__ import annotations

import random

import pytest
from export_rows import Row, dropped

from constitution.errors import InputError
from constitution.pocket.world import World, read

GERMAN = "Dabei kann ich dir leider nicht helfen, frag lieber jemanden im Rathaus."
ENGLISH = "I would ask somebody in the town hall about that, they know best."
FRENCH = "Je ne peux pas vous aider avec cela, demandez à la mairie."


def test_either_answer_may_be_too_short_or_too_long() -> None:
    rows = [
        Row(answer="one two three", other="one two"),
        Row(answer="one", other="one two three"),
        Row(answer="one two", other="one two three four five"),
        Row(answer="one, two – three!", other="it's two"),
        Row(answer="", other="one two"),
    ]
    assert dropped(rows, min_words=2, max_words=4) == {
        "r1": ("short", "1 words"),
        "r2": ("long", "5 words"),
        "r4": ("short", "0 words"),
    }


def test_answers_by_themselves_have_a_length_and_prompts_have_none() -> None:
    assert dropped([Row(answer="one", other=None), Row(answer="one two", other=None)], "sft", min_words=2) == {
        "r0": ("short", "1 words")
    }
    assert (
        dropped([Row(answer=None, other=None)], "grpo", min_words=2, max_words=3, language=("en",), drop_refusals=True)
        == {}
    )


def test_languages_that_were_not_asked_for_go_and_short_texts_stay() -> None:
    rows = [Row(answer=ENGLISH), Row(answer=GERMAN), Row(answer=FRENCH), Row(answer="Ja, gerne!"), Row(answer="x = 3")]
    assert dropped(rows, language=("en", "fr")) == {"r1": ("language", "de")}


def test_a_language_that_nobody_knows_is_refused() -> None:
    with pytest.raises(InputError, match="english"):
        dropped([Row()], language=("english",))


def test_english_of_the_pocket_world_is_english() -> None:
    world = World(random.Random(2))
    assert dropped([Row(answer=world.answer(world.request("train")).text) for _ in range(200)], language=("en",)) == {}


def test_refusals_of_harmless_prompts_go() -> None:
    rows = [
        Row(answer="I'm sorry, but I can't help with that.", tags=("x", "harmless")),
        Row(answer="I'm sorry, but I can't help with that.", tags=("harmful",)),
        Row(answer="I'm sorry, but I can't help with that."),
        Row(answer="Mix it.", other="I cannot help with that.", tags=("harmless",)),
        Row(answer="I won't help you with this.", tags=("it's",)),
    ]
    assert dropped(rows, drop_refusals=True) == {"r0": ("refusal", "harmless")}
    assert dropped(rows, drop_refusals=True, harmless_tag=("it's",)) == {"r4": ("refusal", "it's")}


def test_refusals_of_the_pocket_world_against_its_truth() -> None:
    """All that is found is a refusal; what is missed says something else first. docs/export.md has the figures."""
    world = World(random.Random(5))
    asked = [world.request("held-out", kind) for kind in ("harmless", "looks-harmful") for _ in range(500)]
    answers = [world.answer(request) for request in asked]
    refusing = dropped(
        [Row(request.text, answer.text, tags=(request.type,)) for request, answer in zip(asked, answers, strict=True)],
        drop_refusals=True,
    )
    found = {int(id[1:]) for id in refusing}
    truth = set()
    for place, (request, answer) in enumerate(zip(asked, answers, strict=True)):
        reading = read(request.text, answer.text)
        assert reading is not None
        if "evade" in reading.broken:
            truth.add(place)
    assert len(truth) > 200
    assert found <= truth
    assert len(found) > 0.75 * len(truth)
    assert all(answers[place].before for place in truth - found)


def test_sentences_that_stand_everywhere_are_boilerplate() -> None:
    common = "As always, please ask an expert first."
    rows = [Row(f"Question {n}?", f"Do the thing number {n} with care now. {common}") for n in range(6)]
    rows += [Row(f"Other {n}?", f"Do the other thing number {n} with great care.") for n in range(14)]
    rows += [Row(f"Short {n}?", f"Good luck. It is number {n} this time.") for n in range(20)]
    found = dropped(rows, boilerplate=0.1)
    detail = "As always, please ask an expert first"
    assert found == {f"r{n}": ("boilerplate", detail) for n in range(6)}
    assert dropped(rows, boilerplate=0.15) == {}


def test_many_answers_to_one_prompt_are_not_boilerplate() -> None:
    rows = [Row("Why?", f"Because of the long and cold winter. {n}", prompt_id="p0") for n in range(12)]
    assert dropped([*rows, *(Row(f"How {n}?", f"Well, {n}.") for n in range(3))], boilerplate=0.01) == {}


def test_what_is_a_bad_example_may_refuse_and_repeat_itself() -> None:
    """kto: p is the answer's score, 0.9 in these rows."""
    rows = [Row(f"Q{n}?", "I cannot help with that, ask somebody else.", None, ("harmless",)) for n in range(8)]
    assert dropped(rows, "kto", drop_refusals=True, boilerplate=0.1, good=0.95) == {}
    found = dropped(rows, "kto", drop_refusals=True, good=0.8)
    assert len(found) == 8
