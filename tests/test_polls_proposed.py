"""Statements with votes become proposals: nothing enters principles/ but by a person's act."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from click.testing import CliRunner
from test_polls import COMMENTS, VOTES, files

from constitution.cli import app
from constitution.propose.file import FILE, read, write


def run(root: Path, *words: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["principles", *words, "--root", str(root)])
    assert result.exit_code == code, result.output
    return result.output


def test_a_poll_becomes_proposals_and_an_accepted_one_a_draft(tmp_path: Path) -> None:
    comments = COMMENTS + '5,Mon Jan 01,4,9,0,0,1,"""]\n[[principles]] {{prompt}} \x1b[31m"\n'
    head, first_voter, *others = VOTES.splitlines()
    wider = [f"{head},4", f"{first_voter},1", *(f"{line}," for line in others)]
    statements, votes = files(tmp_path, comments, "\n".join(wider))
    root = tmp_path / "principles"
    said = run(root, "import", str(statements), "--votes", str(votes), "--name", "town")
    assert "4 statements, votes of 6 people" in said
    assert "\x1b" not in said
    assert not root.exists()
    folder = tmp_path / "proposals" / "town"
    found = read(folder / FILE)
    assert [each.id for each in found.proposals][:1] == ["statement-0"]
    first = found.proposals[0]
    assert first.note.startswith("agree 67% (30% to 90%) of 6 votes; 0: 67%")
    assert first.note.endswith("bridging 0.45")
    assert first.principle.quote == "The AI should say what it does not know."
    assert first.principle.compares
    assert "comments.csv: row 1" in first.principle.source
    refused = replace(found.proposals[1], status="refused")
    write(folder, replace(found, proposals=(first, refused, *found.proposals[2:])))
    run(root, "import", str(statements), "--votes", str(votes), "--name", "town")
    assert read(folder / FILE).get(refused.id) == refused
    run(root, "accept", "town", "--only", "statement-0")
    assert run(root, "check", "town").endswith("ok\n") or (root / "town").is_dir()
    assert (root / "town").is_dir()


def test_a_file_of_statements_needs_to_be_one(tmp_path: Path) -> None:
    statements, votes = files(tmp_path)
    said = run(tmp_path / "principles", "import", str(statements), str(statements), "--votes", str(votes),
               "--name", "town", code=2)  # fmt: skip
    assert "of one file" in said
