"""Two public documents of 5,000 words from extract to coverage with the fake engine: every quote is verbatim, every row
traces to a clause in one query, another edition is handled. In part here, whole with --torture."""

from __future__ import annotations

from pathlib import Path

import pytest
from document_run import GPL, LEAST_WORDS, POLICY, command, extracted, run_on, traced
from judging_rows import answer

from constitution.documents import read_document

FAKE = '[model.policy]\nengine = "fake"'
NAMES = {GPL: "gpl", POLICY: "policy"}


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.torture)], ids=["part", "whole"])
@pytest.mark.parametrize("document", NAMES, ids=NAMES.values())
def test_a_public_document_from_extract_to_coverage(document: Path, whole: bool, tmp_path: Path) -> None:
    if not document.exists():
        pytest.skip(f"{document} is not on this machine")
    name, found = NAMES[document], read_document(document)
    assert len(found.text.split()) >= LEAST_WORDS
    done = extracted(tmp_path, document, name, "--model", "fake", *(() if whole else ("--limit", "25")))
    assert list((tmp_path / "principles" / name).glob("*.toml")), (done.output, done.exception)
    run = run_on(tmp_path, name, FAKE, 60 if whole else 12, [])
    covered = traced(tmp_path, document, run)
    assert len(covered) == len(found.clauses)
    states = [row["state"] for row in covered]
    assert states.count("covered") >= 5
    assert "misquoted" not in states


def test_a_changed_edition_is_another(tmp_path: Path) -> None:
    """One clause reworded, one gone: the run's rows lead to the clauses of both."""
    if not GPL.exists():
        pytest.skip(f"{GPL} is not on this machine")
    extracted(tmp_path, GPL, "gpl", "--model", "fake", "--limit", "25")
    run = run_on(tmp_path, "gpl", FAKE, 12, [])
    covered = traced(tmp_path, GPL, run)
    words, gone = [row for row in covered if row["state"] == "covered" and row["kind"] == "paragraph"][:2]
    text = GPL.read_text(encoding="utf-8").splitlines()
    text[words["line"] - 1] = "  Whereas all of this is now said otherwise, and at some length,"
    for at in range(gone["line"] - 1, len(text)):
        if not text[at].strip():
            break
        text[at] = ""
    later = tmp_path / "GPL-3"
    later.write_text("\n".join(text), encoding="utf-8")
    done = command("coverage", later, run.run_id, "--warehouse", tmp_path / "warehouse")
    assert "1 reworded" in done.stderr
    assert "1 removed" in done.stderr
    for row in (words, gone):
        assert f"principle {row['principle_ids'][0]} follows from {row['clause']}" in done.stderr
    counts = answer(tmp_path / "warehouse", "SELECT edition, count(*) AS n FROM coverage GROUP BY ALL ORDER BY n")
    assert [row["n"] for row in counts] == [len(covered) - 1, len(covered)]
