"""Ids that are remembered in few bytes."""

from __future__ import annotations

import random
import sys

import pytest

from constitution.identity import Ids, row_id


def test_ids_remember_what_was_added_as_a_set_does() -> None:
    chance = random.Random(1)
    drawn = [row_id(chance.randrange(4000)) for _ in range(10_000)]  # each some two or three times, and the table grows
    ids, known = Ids(), set[str]()
    for id in drawn:
        assert ids.add(id) is (id not in known)
        known.add(id)
    assert len(ids) == len(known) > 3000


def test_ids_whose_places_collide_are_told_apart() -> None:
    ids = Ids()
    same_place = [
        f"{1023:016x}{second:016x}" for second in range(300)
    ]  # the last slot: the search goes on at the first
    assert all(ids.add(id) for id in same_place)
    assert not any(ids.add(id) for id in same_place)
    assert len(ids) == 300


def test_an_id_takes_at_most_48_bytes() -> None:
    ids = Ids()
    for number in range(20_000):
        ids.add(row_id(number))
    assert sys.getsizeof(ids._slots) <= 48 * len(ids)


def test_what_is_no_id_is_refused() -> None:
    with pytest.raises(ValueError, match="non-hexadecimal"):
        Ids().add("z" * 32)
    for wrong in ("", "ab", "0" * 64):
        with pytest.raises(ValueError, match="32 hex digits"):
            Ids().add(wrong)
