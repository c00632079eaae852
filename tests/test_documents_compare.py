"""Two editions of a document: what became of each clause, and which principles follow."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from constitution.documents import Clause, Document, compare, followers, read_document, similarity

LICENSES = Path("/usr/share/common-licenses")
OLD = """# Rules

## 1. Conduct

Employees must not:

(a) share passwords with visitors;
(b) lend their keys.

## 2. Reporting

A loss of keys is reported to the office within two days.

## 3. Gifts

Gifts worth more than twenty euros are refused.
"""
NEW = """# Rules

## 1. Scope

These rules hold for all who work here.

## 2. Conduct

Employees must not:

(a) share passwords with visitors;
(b) lend their keys.

## 3. Reporting

A loss of keys is reported to the office within one day.
"""


@dataclass(frozen=True)
class Draft:
    id: str
    quote: str
    clauses: tuple[str, ...]


def read(folder: Path, text: str, name: str) -> Document:
    (folder / name).write_text(text, encoding="utf-8")
    return read_document(folder / name)


def test_editions(tmp_path: Path) -> None:
    old, new = read(tmp_path, OLD, "rules.md"), read(tmp_path, NEW, "rules-2.md")
    changes = compare(old, new)
    assert [(c.kind, c.old and c.old.id, c.new and c.new.id) for c in changes] == [
        ("added", None, "1"),
        ("moved", "1", "2"),
        ("moved", "1.a", "2.a"),
        ("moved", "1.b", "2.b"),
        ("reworded", "2", "3"),
        ("removed", "3", None),
    ]
    assert changes[4].similarity == pytest.approx(similarity(old.clauses[3].text, new.clauses[4].text))
    assert 0.6 < changes[4].similarity < 1
    drafts = [
        Draft("keys", "lend their keys", ("rules#1.b",)),
        Draft("loss", "within two days", ("rules#2", "other#9")),
        Draft("gifts", "", ("rules#3",)),
        Draft("lost", "", ("rules#8",)),
    ]
    found = followers(changes, drafts, old, new)
    assert [(f.principle.id, f.clause, f.change and f.change.kind, f.quoted, f.follows) for f in found] == [
        ("keys", "rules#1.b", "moved", True, False),
        ("loss", "rules#2", "reworded", False, True),
        ("gifts", "rules#3", "removed", None, True),
        ("lost", "rules#8", None, None, True),
    ]


def test_an_item_under_another_lead_is_reworded(tmp_path: Path) -> None:
    old = read(tmp_path, "Employees must not:\n\n- lend their keys to any visitor\n", "a.md")
    new = read(tmp_path, "Employees may:\n\n- lend their keys to any visitor\n", "b.md")
    assert [change.kind for change in compare(old, new)] == ["reworded", "reworded"]


def test_pairs_are_chosen_together_and_not_one_by_one() -> None:
    """Alone, the first would take the partner of the second."""
    words = "alpha beta gamma delta epsilon zeta eta theta"
    old = documented(words, f"{words} iota")
    new = documented(f"{words} iota kappa", f"{words} lambda mu nu xi omicron", prefix="n")
    changes = compare(old, new)
    assert {(c.old.text, c.new.text) for c in changes if c.old and c.new} == {
        (words, f"{words} lambda mu nu xi omicron"),
        (f"{words} iota", f"{words} iota kappa"),
    }


def documented(*texts: str, prefix: str = "c") -> Document:
    clauses = tuple(Clause(f"{prefix}{at}", "", (), text, 0, 0) for at, text in enumerate(texts))
    return Document("d", "text", "", "", clauses)


WORD = st.sampled_from(["must", "not", "share", "keys", "data", "guests", "report", "第", "条"])
TEXTS = st.lists(st.lists(WORD, max_size=6).map(" ".join), max_size=8)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(TEXTS, TEXTS)
def test_each_clause_is_in_exactly_one_change(old: list[str], new: list[str]) -> None:
    one, other = documented(*old), documented(*new)
    changes = compare(one, other)
    assert Counter(id(change.old) for change in changes if change.old) == Counter(map(id, one.clauses))
    assert Counter(id(change.new) for change in changes if change.new) == Counter(map(id, other.clauses))
    assert [change.new for change in changes if change.new] == list(other.clauses)
    for change in changes:
        assert 0 <= change.similarity <= 1
        assert (change.kind == "added") == (change.old is None)
        assert (change.kind == "removed") == (change.new is None)
        if change.old and change.new:
            assert (change.kind in ("same", "moved")) == (change.old.text == change.new.text)


@pytest.mark.skipif(not (LICENSES / "GPL-3").exists(), reason="not on this machine")
def test_real_editions() -> None:
    old, new = read_document(LICENSES / "GPL-2"), read_document(LICENSES / "GPL-3")
    changes = compare(old, new)
    assert len([change for change in changes if change.old]) == len(old.clauses)
    assert len([change for change in changes if change.new]) == len(new.clauses)
    pairs = {change.old.id: change.new.id for change in changes if change.old and change.new}
    assert pairs["11"] == "15"  # no warranty
    assert pairs["12"] == "16"  # no liability
    assert {change.kind for change in compare(new, new)} == {"same"}
