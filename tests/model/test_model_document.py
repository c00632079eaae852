"""A public document with a real small model: whatever it writes, a quote is verbatim and a row has its clause."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from document_run import GPL, extracted, run_on, traced
from real_model import FOLDER

from constitution.propose import drafts, extract
from constitution.propose.file import FILE, read
from constitution.records import Sampling

CLAUSES = 2
TOKENS = 120


def test_a_public_document_from_extract_to_coverage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of this size seldom writes the form that is asked for: it is asked briefly and once. What it writes is
    read strictly: no draft of it is without a verbatim quote, and where there is none, the fake engine drafts, and the
    model answers and judges."""
    if not GPL.exists():
        pytest.skip(f"{GPL} is not on this machine")

    def brief(**given: Any) -> Sampling:
        return Sampling(**{**given, "max_tokens": TOKENS})

    with monkeypatch.context() as patched:
        patched.setattr(drafts, "Sampling", brief)
        patched.setattr(extract, "ATTEMPTS", 1)
        extracted(tmp_path, GPL, "gpl", "--model", FOLDER, "--limit", str(CLAUSES))
    found = read(tmp_path / "proposals" / "gpl" / FILE)
    assert len(found.proposals) + len(found.undrafted) >= CLAUSES
    assert all(each.principle.quote for each in found.proposals)
    if not list((tmp_path / "principles").glob("gpl/*.toml")):
        extracted(tmp_path, GPL, "drafted", "--model", "fake", "--limit", "25")
    name = next((tmp_path / "principles").glob("*/*.toml")).parent.name
    model = '[model.policy]\nengine = "transformers"\nmodel = "x"\n'
    model += "".join(f"[revise.{step}]\nmax_tokens = 24\n" for step in ("initial", "critique", "revision"))
    run = run_on(tmp_path, name, model, 2, [f"model.policy.model={FOLDER}"])
    assert any(row["state"] == "covered" for row in traced(tmp_path, GPL, run))
