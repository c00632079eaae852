"""Constitutions, TOML, canonical JSON, ids and seeds: exactly what they were."""

from __future__ import annotations

import itertools
import json
import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import Torture
from hypothesis import strategies as st
from properties import COUNT, JSON, SAID, TEXT, holds
from warehouse_rows import CONSTITUTION, prompt

from constitution.identity import canonical_json, row_id, seed
from constitution.principles import Lock, bump, load_constitution
from constitution.principles.files import path_of
from constitution.principles.toml_writer import write_toml
from constitution.records import (
    Constitution,
    Criterion,
    Example,
    Exemplar,
    Message,
    Principle,
)
from constitution.warehouse import Warehouse

COUNTED = "round trips"


# --- constitutions

PLAIN = SAID.map(str.strip).filter(lambda text: bool(text) and "{{" not in text)
"""As a constitution's file holds it: without space around it, or placeholders."""
NONE = st.just("")
SLUG = st.from_regex(r"[a-z0-9][a-z0-9-]{0,8}", fullmatch=True)
WEIGHT = st.floats(0, 1e300, exclude_min=True)
TURNS = st.builds(
    lambda system, said: tuple([Message("system", text) for text in system]
                               + [Message("assistant" if n % 2 else "user", text) for n, text in enumerate(said)]),
    st.lists(PLAIN, max_size=1), st.lists(PLAIN, min_size=1, max_size=3).map(lambda said: said[len(said) % 2 == 0 :]),
)  # fmt: skip
EXEMPLARS: st.SearchStrategy[Exemplar] = st.one_of(
    [st.builds(Exemplar, TURNS, PLAIN, requests, PLAIN, requests, PLAIN) for requests in (NONE, PLAIN)]
)  # a request for each, or for neither
CRITERIA = st.builds(Criterion, PLAIN, st.sampled_from(["yes", "no"]), WEIGHT)
COMMON: dict[str, st.SearchStrategy[Any]] = {
    "weight": WEIGHT,
    "tags": st.lists(SLUG, max_size=2, unique=True).map(tuple),
    "source": PLAIN | NONE,
}
COMPARED: dict[str, st.SearchStrategy[Any]] = {
    "comparison_question": PLAIN,
    "examples": st.lists(st.builds(Example, TURNS, PLAIN, PLAIN), max_size=1).map(tuple),
    "criteria": st.lists(CRITERIA, max_size=2).map(tuple),
}
REVISED: dict[str, st.SearchStrategy[Any]] = {
    "critique_request": PLAIN,
    "revision_request": PLAIN,
    "exemplars": st.lists(EXEMPLARS, max_size=1).map(tuple),
}
PRINCIPLES: st.SearchStrategy[Principle] = st.one_of(
    [st.builds(Principle, SLUG, **COMMON, **use) for use in (COMPARED, REVISED, {**COMPARED, **REVISED})]
)
CONSTITUTIONS = st.builds(
    Constitution,
    SLUG,
    st.just("1.0.0"),
    PLAIN,
    st.lists(PRINCIPLES, min_size=1, max_size=2, unique_by=lambda principle: principle.id).map(tuple),
    st.lists(EXEMPLARS, max_size=1).map(tuple),
    PLAIN | NONE,
    PLAIN | NONE,
)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    return Warehouse(tmp_path_factory.mktemp("shared") / "warehouse")


def test_constitutions_come_back_from_their_files(empty: Warehouse, tmp_path: Path, torture: Torture) -> None:
    """Written, read, locked, and bumped, whose file is the old one's text with another version; and stored in a run."""
    numbers = itertools.count()

    def comes_back(drawn: Constitution) -> None:
        number = next(numbers)
        root = tmp_path / f"{number}" / "principles"
        path = path_of(root, drawn.name, "1.0.0")
        path.parent.mkdir(parents=True)
        path.write_bytes(write_toml(drawn).encode())
        read = load_constitution(root, drawn.name)
        assert read == drawn
        assert read.digest == drawn.digest
        lock = Lock({drawn.name: {"1.0.0": drawn.digest}})
        lock.write(root)
        assert Lock.read(root) == lock
        assert load_constitution(root, drawn.label) == drawn
        next_one = load_constitution(root, f"{drawn.name}@{bump(root, drawn.name).version}")
        assert next_one == replace(drawn, version="1.1.0")
        run_id = f"constitution-{number}"
        empty.write_principles(run_id, drawn)
        stored = empty.read_principles(run_id)
        assert stored == drawn
        assert stored.digest == drawn.digest

    torture.count(COUNTED, holds(torture, comes_back, CONSTITUTIONS, short=10, full=400))


def test_toml_of_any_text_is_that_text(torture: Torture) -> None:
    def comes_back(text: str) -> None:
        said = replace(CONSTITUTION, description=text, source=text)
        raw = tomllib.loads(write_toml(said))
        assert raw.get("description", "") == text
        assert raw.get("source", "") == text

    torture.count(COUNTED, holds(torture, comes_back, TEXT))


# --- identity


def same(one: Any, other: Any) -> bool:
    """Whether JSON has the two as one value: what a list or tuple holds, in order; 1, 1.0 and true are three."""
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return repr(one) == repr(other) if isinstance(one, float) else bool(one == other)


def _turned(value: Any) -> Any:
    """The same value, with keys in another order and tuples for lists."""
    if isinstance(value, dict):
        return {key: _turned(value[key]) for key in reversed(value)}
    return tuple(map(_turned, value)) if isinstance(value, list) else value


NEAR: list[list[Any]] = [
    [1, 1.0, True, "1", "true", [1]],
    [0, 0.0, -0.0, False, None, "", "null", [], {}],
    ["\xe9", "e\u0301"],
    ["K", "\u212a"],
    ["\ufb01", "fi"],
    ["\u0130", "i\u0307"],
    ['"', '\\"', "\\"],
    ["a\nb", "a\\nb", "a\r\nb", "a b"],
    ["\x00", "\\u0000", "", "\ufeff"],
    [["a", "b"], ["ab"], ["a,b"], [["a"], "b"], {"a": "b"}],
    [{"a": {"b": 1}}, {"a.b": 1}, {"a": 1, "b": 1}],
    [2**53, 2**53 + 1, float(2**53)],
    [0.1, 0.1 + 1e-17, 0.30000000000000004, 0.3],
]
"""Values that are easily taken for each other; 0.1 + 1e-17 is 0.1."""


def test_canonical_json_tells_values_apart_and_nothing_else(torture: Torture) -> None:
    def injective(drawn: tuple[Any, Any]) -> None:
        one, other = drawn
        assert (canonical_json(one) == canonical_json(other)) == same(one, other)
        assert canonical_json(_turned(one)) == canonical_json(one)
        assert same(json.loads(canonical_json(one)), one)

    near = st.sampled_from(NEAR).flatmap(lambda values: st.tuples(st.sampled_from(values), st.sampled_from(values)))
    nested = st.tuples(JSON, near).map(lambda drawn: ([drawn[0], {"k": drawn[1][0]}], [drawn[0], {"k": drawn[1][1]}]))
    torture.count(COUNTED, holds(torture, injective, st.tuples(JSON, JSON) | nested | near, short=60, full=2000))


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), [-float("inf")], "\ud800", {"\udfff": 1}, {"a": "\ud83d"}]
)
def test_what_has_no_canonical_json_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"Out of range|surrogates"):
        canonical_json(value)


def test_ids_and_seeds_are_what_they_were_and_in_range(torture: Torture) -> None:
    """Golden values: were one of them another tomorrow, no run of today could go on."""
    assert row_id("run", "é", 0) == "83d26f7471485ae4c06220e564ee2b66"
    assert seed(1, "p", "critique", 0) == 1786388827
    assert prompt(1).id == "090836df1112fb3f20dc4f775fa65bb1"
    assert CONSTITUTION.digest == "95f5803f94ce7f4aa7ec7d78fad1f0b35d33d4d5c283cdada7de844994aefd7d"
    unquoted = tuple(replace(each, quote="", clauses=()) for each in CONSTITUTION.principles)
    before = "c947c0789c81e9b14c0098bdcc7caada2e63f912f6cff2eeb352d6b0166732bc"
    assert replace(CONSTITUTION, principles=unquoted).digest == before, "a field that is empty changed the digest"

    def in_range(drawn: tuple[int, list[Any]]) -> None:
        number, parts = drawn
        assert re.fullmatch("[0-9a-f]{32}", row_id(*parts))
        assert 0 <= seed(number, *parts) < 2**31
        assert seed(number, *parts) == seed(number, *_turned(parts))
        assert row_id(*parts) != row_id(*parts, None)
        assert row_id(parts) != row_id(*parts)

    torture.count(COUNTED, holds(torture, in_range, st.tuples(COUNT, st.lists(JSON, max_size=3))))
