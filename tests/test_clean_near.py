"""Near duplicates, against comparing every prompt with every other."""

from __future__ import annotations

import random
import re

import pytest
from export_rows import Row, dropped

from constitution.export.clean import near as near_module

LONG = "Please tell me how I can mend the old wooden clock in the hall before my aunt comes to visit us on Sunday"


def grams(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i : i + 3]) for i in range(len(words) - 2)}


def places(found: dict[str, tuple[str, str | None]]) -> dict[int, int]:
    """Of each dropped row the one that it is near to."""
    return {int(id[1:]): int(str(detail)[1:]) for id, (_, detail) in found.items()}


def by_comparing_all(texts: list[str], near: float) -> dict[int, int]:
    sets = [grams(text) for text in texts]
    kept: list[int] = []
    gone: dict[int, int] = {}
    for place, mine in enumerate(sets):
        alike = [k for k in kept if len(mine & sets[k]) >= near * len(mine | sets[k])]
        if alike:
            gone[place] = alike[0]
        else:
            kept.append(place)
    return gone


@pytest.mark.parametrize("near", [0.5, 0.8])
def test_finds_what_comparing_all_finds(near: float) -> None:
    rng = random.Random(7)
    words = [f"word{n}" for n in range(400)]
    texts: list[str] = []
    for _ in range(300):
        if texts and rng.random() < 0.4:
            copy = rng.choice(texts).split()
            for _ in range(rng.choice((1, 1, 2, 4, 6))):
                copy[rng.randrange(len(copy))] = rng.choice(words)
            texts.append(" ".join(copy))
        else:
            texts.append(" ".join(rng.choices(words, k=rng.randrange(25, 60))))
    found = places(dropped([Row(text) for text in texts], dedupe="near", near=near))
    wanted = by_comparing_all(texts, near)
    assert len(wanted) > 40
    assert found == wanted


def test_all_rows_of_a_conversation_stay_or_go_together() -> None:
    rows = [
        Row(LONG, "One.", prompt_id="p0"),
        Row(LONG, "Two.", prompt_id="p0"),
        Row(LONG + " evening", "Three.", prompt_id="p2"),
        Row(LONG + " evening", "Four.", prompt_id="p2"),
        Row("Something else is asked here, about the weather of today.", "Five."),
    ]
    assert dropped(rows, dedupe="near") == {"r2": ("near-duplicate", "p0"), "r3": ("near-duplicate", "p0")}


def test_case_and_punctuation_do_not_matter_and_only_user_turns_count() -> None:
    rows = [
        Row([("user", LONG), ("assistant", "Which one?"), ("user", "The big one, please.")]),
        Row(
            [("system", "Be kind."), ("user", LONG.upper()), ("assistant", "What?"), ("user", "The big one - please!")]
        ),
        Row([("user", LONG), ("assistant", "Which one?"), ("user", "None; I would rather buy a new one in the shop.")]),
    ]
    assert dropped(rows, dedupe="near") == {"r1": ("near-duplicate", "p0")}


def test_short_prompts_are_near_when_equal_alone() -> None:
    texts = [
        "Hello",
        "hello!",
        "Hello there",
        "Hi there",
        "👍",
        "👍👍",
        " 👍",
        "?",
        "你好吗朋友",
        "你好吗朋友。",
        "你好吗",
    ]
    found = dropped([Row(text, f"Answer {n}.") for n, text in enumerate(texts)], dedupe="near")
    assert {id: detail for id, (_, detail) in found.items()} == {"r1": "p0", "r6": "p4", "r9": "p8"}


def test_what_is_dropped_drops_nothing_else() -> None:
    """A chain in which neighbours are near and the ends are not: the second goes, the third stays."""
    words = [f"w{n}" for n in range(30)]
    one, two, three = words, [*words[3:], "x", "y", "z"], [*words[6:], "x", "y", "z", "k", "l", "m"]
    assert dropped([Row(" ".join(text)) for text in (one, two, three)], dedupe="near", near=0.75) == {
        "r1": ("near-duplicate", "p0")
    }


def test_many_prompts_of_one_template_all_go_but_the_first() -> None:
    """More than are compared with each other by one 3-gram."""
    assert dropped([Row(f"{LONG} {n}") for n in range(200)], dedupe="near") == {
        f"r{n}": ("near-duplicate", "p0") for n in range(1, 200)
    }


@pytest.mark.parametrize("compared", [near_module.COMPARED, 0])
def test_what_goes_is_near_to_what_stays_however_few_are_compared(
    monkeypatch: pytest.MonkeyPatch, compared: int
) -> None:
    """Prompts of a few templates, many just near and many just not, so that many share a 3-gram and there are chains.
    The least of comparisons finds most too."""
    monkeypatch.setattr(near_module, "COMPARED", compared)
    rng = random.Random(3)
    templates = [[f"t{n}w{place}" for place in range(40)] for n in range(3)]
    texts = []
    for _ in range(500):
        text = list(rng.choice(templates))
        for _ in range(rng.choice((0, 1, 1, 2, 3))):
            text[rng.randrange(40)] = f"x{rng.randrange(30)}"
        texts.append(" ".join(text))
    found = places(dropped([Row(text, f"Answer {n}.") for n, text in enumerate(texts)], dedupe="near", near=0.7))
    sets = [grams(text) for text in texts]
    for place, kept in found.items():
        assert kept < place
        assert kept not in found
        assert len(sets[place] & sets[kept]) >= 0.7 * len(sets[place] | sets[kept])
    wanted = by_comparing_all(texts, 0.7)
    assert 300 < len(wanted) < 490
    assert len(found) >= (0.95 if compared else 0.9) * len(wanted)


def test_an_earlier_steps_rows_are_not_what_others_are_near_to() -> None:
    assert dropped([Row(LONG, "same", "same"), Row(LONG + " x", "Yes."), Row(LONG + " y", "Yes.")], dedupe="near") == {
        "r0": ("identical", None),
        "r2": ("near-duplicate", "p1"),
    }
