"""A public document with a real small model: whatever it writes, a quote is verbatim and a row has its clause."""

from __future__ import annotations

from pathlib import Path

import pytest
from document_run import GPL, extracted, run_on, traced
from real_model import FOLDER

from constitution.propose.file import FILE, read

CLAUSES = 4


def test_a_public_document_from_extract_to_coverage(tmp_path: Path) -> None:
    """A model of this size seldom writes the form that is asked for. What it writes is read strictly: no draft of it is
    without a verbatim quote, and where there is none, the fake engine drafts and the model answers and judges."""
    if not GPL.exists():
        pytest.skip(f"{GPL} is not on this machine")
    done = extracted(tmp_path, GPL, "gpl", "--model", FOLDER, "--limit", str(CLAUSES))
    assert done.exit_code in (0, 1, 2), done.exception
    found = read(tmp_path / "proposals" / "gpl" / FILE)
    assert all(each.principle.quote for each in found.proposals)
    if not list((tmp_path / "principles").glob("gpl/*.toml")):
        done = extracted(tmp_path, GPL, "drafted", "--model", "fake", "--limit", "25")
    name = next((tmp_path / "principles").glob("*/*.toml")).parent.name
    model = '[model.policy]\nengine = "transformers"\nmodel = "x"\n'
    model += "".join(f"[revise.{step}]\nmax_tokens = 24\n" for step in ("initial", "critique", "revision"))
    run = run_on(tmp_path, name, model, 2, [f"model.policy.model={FOLDER}"])
    assert any(row["state"] == "covered" for row in traced(tmp_path, GPL, run))
