"""Differences as data and as text; any difference of content shows."""

from __future__ import annotations

import tomllib
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from constitution.principles import diff_constitutions, render_diff, write_toml
from constitution.principles.schema import CLAUSE_PATTERN, parse
from constitution.records import Constitution, Criterion, Example, Exemplar, Message, Principle

A = Principle("a", "Is the answer rude?", "Rewrite it kindly.", "Which answer is kinder?", 1.0, ("tone",))
B = Principle("b", comparison_question="Which answer is shorter?", tags=("style",))
C = Principle("c", comparison_question="Which answer is truer?")
BASE = Constitution("x", "1.0.0", "Some.", (A, B))


def kinds(a: Constitution, b: Constitution) -> list[tuple[str, str | None, str]]:
    return [(change.kind, change.principle, change.field) for change in diff_constitutions(a, b)]


def test_equal_but_for_name_and_version() -> None:
    other = replace(BASE, name="y", version="2.0.0")
    assert diff_constitutions(BASE, other) == []
    assert render_diff(BASE, other) == "x@1.0.0 → y@2.0.0\nno differences"


def test_each_kind_of_change() -> None:
    exemplar = Exemplar((Message("user", "Q"),), "R", "", "It is rude to the person.", "", "S")
    example = Example((Message("user", "Q"),), "good", "bad")
    criterion = Criterion("Does the answer insult anybody?", "no", 0.7)
    changed = replace(
        A, comparison_question="Which answer is kinder to all?", weight=2.0, tags=("tone", "care"), examples=(example,)
    )
    changed = replace(changed, criteria=(criterion,), quote="Be kind.", clauses=("charter#2", "law#3.b"))
    new = replace(BASE, description="More.", principles=(changed, C), exemplars=(exemplar,))
    assert kinds(BASE, new) == [
        ("reworded", None, "description"),
        ("exemplars", None, "exemplars #1"),
        ("reworded", "a", "comparison_question"),
        ("reworded", "a", "quote"),
        ("reweighted", "a", "weight"),
        ("retagged", "a", "tags"),
        ("clauses", "a", "clauses"),
        ("examples", "a", "examples #1"),
        ("criteria", "a", "criteria #1"),
        ("added", "c", ""),
        ("removed", "b", ""),
    ]
    text = render_diff(BASE, new)
    assert "Which answer is kinder{+ to all+}?" in text
    assert "reweighted: 1.0 → 2.0" in text
    assert "retagged: tone → tone, care" in text
    assert "clauses: nothing → charter#2, law#3.b" in text
    assert "added principle c\n  + comparison_question: Which answer is truer?" in text
    assert "removed principle b" in text
    assert "added criteria #1\n    + Does the answer insult anybody? (good: no, weight 0.7)" in text
    assert text.endswith(
        "principles: 1 added, 1 removed, 1 reworded, 1 reweighted, 1 retagged, "
        "clauses changed, criteria changed, examples changed, exemplars changed, head changed"
    )
    assert "\x1b[" not in text
    assert "\x1b[32m{+ to all+}\x1b[0m" in render_diff(BASE, new, color=True)


def test_a_new_id_for_the_same_texts_is_a_new_name_and_not_a_loss() -> None:
    assert kinds(BASE, replace(BASE, principles=(replace(A, id="z"), B))) == [("renamed", "z", "id")]


def test_a_new_order_shows() -> None:
    assert kinds(BASE, replace(BASE, principles=(B, A))) == [("reordered", None, "principles")]
    assert kinds(BASE, replace(BASE, principles=(C, A, B))) == [("added", "c", "")]


def test_a_change_inside_an_exemplar_shows_only_the_words() -> None:
    exemplar = Exemplar((Message("user", "Q"),), "R", "", "It is rude to the person.", "", "S")
    one, other = (replace(BASE, exemplars=(replace(exemplar, critique=c),)) for c in ("It is rude.", "It is cold."))
    assert "critique: It is [-rude-]{+cold+}." in render_diff(one, other)


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=150).map(str.strip).filter(bool)
long_texts = st.lists(
    st.sampled_from(["word", '"', '""', '"""', "\\", "\n", "  ", "é", "\t", "\x00"]), max_size=80
).map(" ".join)
any_text = st.one_of(texts, long_texts.map(str.strip).filter(bool))
ids = st.from_regex(r"\A[a-z0-9][a-z0-9-]{0,8}\Z")
turns = st.one_of(
    any_text.map(lambda text: (Message("user", text),)),
    st.tuples(any_text, any_text, any_text).map(
        lambda t: (Message("user", t[0]), Message("assistant", t[1]), Message("user", t[2]))
    ),
)
exemplars = st.builds(Exemplar, turns, any_text, any_text, any_text, any_text, any_text)
examples = st.builds(Example, turns, any_text, any_text)
criteria = st.builds(Criterion, any_text, st.sampled_from(["yes", "no"]), st.floats(0.001, 1e6))
principles = st.builds(
    Principle,
    id=ids,
    critique_request=any_text,
    revision_request=any_text,
    comparison_question=any_text,
    weight=st.floats(0.001, 1e6),
    tags=st.lists(ids, unique=True, max_size=2).map(tuple),
    source=st.one_of(st.just(""), any_text),
    exemplars=st.lists(exemplars, max_size=1).map(tuple),
    examples=st.lists(examples, max_size=1).map(tuple),
    criteria=st.lists(criteria, max_size=2).map(tuple),
    quote=st.one_of(st.just(""), any_text),
    clauses=st.lists(st.from_regex(CLAUSE_PATTERN, fullmatch=True), unique=True, max_size=2).map(tuple),
)
constitutions = st.builds(
    Constitution,
    name=ids,
    version=st.just("1.0.0"),
    description=any_text,
    principles=st.lists(principles, min_size=1, max_size=2, unique_by=lambda p: p.id).map(tuple),
    exemplars=st.lists(exemplars, max_size=1).map(tuple),
    source=st.one_of(st.just(""), any_text),
    license=st.one_of(st.just(""), any_text),
)


@settings(max_examples=60, deadline=None)
@given(constitutions)
def test_what_is_written_is_what_is_read(constitution: Constitution) -> None:
    parsed = parse(tomllib.loads(write_toml(constitution)))
    assert parsed.faults == []
    assert parsed.constitution() == constitution


@settings(max_examples=60, deadline=None)
@given(constitutions, constitutions)
def test_any_difference_of_content_shows(a: Constitution, b: Constitution) -> None:
    b = replace(b, name=a.name, version=a.version)
    assert bool(diff_constitutions(a, b)) == (a.digest != b.digest)
    assert diff_constitutions(a, a) == []
    render_diff(a, b)
