"""Statements with votes by group, in the shapes that Polis exports: support, bridging, what divides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from constitution.errors import PrincipleError
from constitution.measures.consensus import support
from constitution.measures.estimate import wilson
from constitution.principles.polls import read_poll

COMMENTS = """timestamp,datetime,comment-id,author-id,agrees,disagrees,moderated,comment-body
1,Mon Jan 01,0,9,4,1,1,"The AI should say what it does not know.
"
2,Mon Jan 01,1,9,3,3,1,The AI should take sides in elections.
3,Mon Jan 01,2,9,1,0,-1,buy my shoes
4,Mon Jan 01,3,9,4,2,0,The AI should be brief.
"""
VOTES = """participant,group-id,n-comments,n-votes,n-agree,n-disagree,0,1,2,3
0,0,0,3,2,1,1,1,,-1
1,0,0,3,2,1,1,1,,1
2,0,0,3,2,1,0,1,1,1
3,1,0,3,2,1,1,-1,,1
4,1,0,3,1,2,1,-1,,1
5,,0,3,0,3,-1,-1,,-1
"""


def files(folder: Path, comments: str = COMMENTS, votes: str = VOTES) -> tuple[Path, Path]:
    paths = folder / "comments.csv", folder / "participants-votes.csv"
    for path, text in zip(paths, (comments, votes), strict=True):
        path.write_text(text, encoding="utf-8")
    return paths


def test_bridging_statements_come_first_and_divisive_ones_are_marked(tmp_path: Path) -> None:
    poll = read_poll(*files(tmp_path))
    assert (poll.groups, poll.people) == (("0", "1"), 6)
    assert [each.id for each in poll.statements] == ["0", "3", "1"]
    first, brief, sides = poll.statements
    assert first.text == "The AI should say what it does not know."
    assert first.place == "comments.csv: row 1"
    assert first.support.bridging == pytest.approx((3 / 5) * (3 / 4))  # (2 + 1) / (3 + 2) · (2 + 1) / (2 + 2)
    assert sides.support.bridging == pytest.approx((4 / 5) * (1 / 4))
    assert first.support.overall.value == pytest.approx(4 / 6)  # a pass is a vote
    assert (first.support.overall.low, first.support.overall.high) == wilson(4, 6)
    assert brief.support.by_group[1].value == 1
    assert not sides.support.divides  # on three and two votes nothing is clear
    assert any("taken out by moderators, 1: 2 ('buy my shoes')" in note for note in poll.notes)
    assert any("votes on 1 statements that were taken out" in note for note in poll.notes)
    assert any("1 of 6 people are of no group" in note for note in poll.notes)


def test_votes_that_mean_the_opposite_are_refused(tmp_path: Path) -> None:
    turn = {"1": "-1", "-1": "1"}
    head, *rows = [line.split(",") for line in VOTES.splitlines()]
    rows = [[*row[:6], *(turn.get(vote, vote) for vote in row[6:])] for row in rows]
    turned = "\n".join(",".join(row) for row in (head, *rows))
    with pytest.raises(PrincipleError, match="counts disagreement") as told:
        read_poll(*files(tmp_path, votes=turned))
    assert "turn the signs" in (told.value.hint or "")


def test_a_row_a_vote_with_words_and_groups(tmp_path: Path) -> None:
    statements = "id,statement\nx,Be kind.\ny,Be blunt.\n"
    votes = "user,id,vote,group\n" + "".join(
        f"{who},{id},{vote},{group}\n"
        for group, likes in (("north", "x"), ("south", "xy"))
        for who in (f"{group}{n}" for n in range(30))
        for id in "xy"
        for vote in [("agree" if id in likes else "disagree") if who[-1] != "0" else "pass"]
    )
    poll = read_poll(*files(tmp_path, statements, votes))
    assert [(each.id, each.support.divides) for each in poll.statements] == [("x", False), ("y", True)]
    assert poll.groups == ("north", "south")


@pytest.mark.parametrize(
    ("comments", "votes", "fault"),
    [
        (COMMENTS, VOTES.replace("0,0,0,3,2,1,1,", "0,0,0,3,2,1,yes,"), "'yes' is no vote"),
        (COMMENTS, VOTES + "0,1,0,1,1,0,1,,,\n", "0 is of the group '1', and of '0' before"),
        (COMMENTS, VOTES + "0,0,0,1,1,0,-1,,,\n", "0 says two things of 0"),
        (COMMENTS.replace("2,Mon Jan 01,1,", "2,Mon Jan 01,0,"), VOTES, "has the id 0 again"),
        ("a,b\n1,2\n", VOTES, "has the columns a, b"),
        (COMMENTS, "a,b\n1,2\n", "has the columns a, b"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path: Path, comments: str, votes: str, fault: str) -> None:
    with pytest.raises(PrincipleError, match=fault.replace("(", "[(]")):
        read_poll(*files(tmp_path, comments, votes))


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20), st.integers(0, 20)), min_size=2, max_size=5))
def test_one_group_that_does_not_agree_makes_bridging_small(rows: list[tuple[int, int, int]]) -> None:
    yes, no, passed = np.array(rows).T[:, :, None]
    [found] = support(yes, no, passed, len(rows))
    worst = min((a + 1) / (a + d + p + 2) for a, d, p in rows)
    assert 0 < found.bridging <= worst
    again = support(yes[::-1], no[::-1], passed[::-1], len(rows))[0]
    assert again.bridging == pytest.approx(found.bridging)
