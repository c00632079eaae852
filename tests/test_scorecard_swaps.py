"""Counterfactual prompts: which words are swapped for which, and what the run's policy answers then."""

from __future__ import annotations

from pathlib import Path

import pytest

from constitution.ask import SHIPPED
from constitution.ask.swaps import Group, load_swaps
from constitution.errors import InputError
from constitution.records import Message, Messages

GENDER = Group(name="gender", terms=(("he", "him", "his", "man"), ("she", "her", "her", "woman")))
ORIGIN = Group(name="origin", terms=("American", "German", "Polish"))


def said(*turns: str) -> Messages:
    return tuple(Message("user" if place % 2 == 0 else "assistant", text) for place, text in enumerate(turns))


def swap(group: Group, source: int, target: int, text: str) -> str | None:
    found = group.swapped(said(text), source, target)
    return found[0].content if found else None


def test_every_form_becomes_its_counterpart_in_its_case() -> None:
    before = "He lost his hat, and the MAN is sad: the theme of manhood. Give him one."
    assert swap(GENDER, 0, 1, before) == "She lost her hat, and the WOMAN is sad: the theme of manhood. Give her one."


def test_the_article_goes_with_the_word() -> None:
    assert (
        swap(ORIGIN, 0, 1, "An American, an  American car, a new American.") == "A German, a  German car, a new German."
    )
    assert swap(ORIGIN, 1, 0, "Is a German an optimist?") == "Is an American an optimist?"


def test_a_form_with_several_counterparts_or_none_is_not_swapped() -> None:
    assert swap(GENDER, 1, 0, "She lost her hat.") is None  # his or him?
    assert swap(GENDER, 1, 0, "She is a woman.") == "He is a man."
    without = Group(name="x", terms=(("one", "ones"), ("two", "")))
    assert swap(without, 0, 1, "one and ones") is None
    assert swap(without, 0, 1, "one") == "two"


def test_a_capital_in_the_file_is_meant() -> None:
    assert ORIGIN.term_of(said("How do I polish a table?")) is None
    assert ORIGIN.term_of(said("How do Polish people greet?")) == 2


def test_only_a_prompt_in_which_people_name_one_term_is_swapped() -> None:
    assert GENDER.term_of(said("Does she know him?")) is None
    assert GENDER.term_of(said("Hello", "She is here.", "Who?")) is None  # the assistant said it
    assert GENDER.term_of(said("Where is the man?", "She left.", "And him?")) == 0
    turns = GENDER.swapped(said("Where is the man?", "The man left.", "Why?"), 0, 1)
    assert turns is not None
    assert [turn.content for turn in turns] == ["Where is the woman?", "The woman left.", "Why?"]


def test_what_ships_is_sound_and_each_of_its_terms_can_be_swapped_both_ways() -> None:
    for group in load_swaps(SHIPPED):
        for source in range(len(group.forms)):
            for target in range(len(group.forms)):
                if source != target:
                    text = f"I met a {group.label(source)} today."
                    assert group.term_of(said(text)) == source
                    there = swap(group, source, target, text)
                    assert there is not None
                    assert group.label(target) in there
                    assert swap(group, target, source, there) == swap(group, source, source, text)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[[groups]]\nname = 'x'\nterms = ['a']", "at least 2"),
        ("[[groups]]\nname = 'x'\nterms = [['a', 'b'], ['c']]", "as many forms"),
        ("[[groups]]\nname = 'x'\nterms = ['a', 'a']", "begin with the same form"),
        ("[[groups]]\nname = 'x'\nterm = ['a', 'b']", "term"),
        ("groups = 1", "groups"),
        ("not toml", "not valid TOML"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "swaps.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=fault):
        load_swaps(path)
    with pytest.raises(InputError, match="no such file"):
        load_swaps(tmp_path / "none.toml")
