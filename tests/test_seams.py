"""The helper that counts what a stub touches (tests/seams.py) counts, and refuses what would hide a file from it."""

from __future__ import annotations

from pathlib import Path

import pytest
import seams


def test_a_stub_is_counted_and_runs(tmp_path: Path) -> None:
    new = {"constitution/_stub.py": "WORD = 'stub'\n"}
    changed = {"constitution/__init__.py": [("__version__", "from constitution._stub import WORD\n\n__version__")]}
    copy = seams.stub(tmp_path, new=new, changed=changed, limit=2)
    assert copy.python("print(constitution.WORD)") == "stub\n"
    assert "constitution, version" in copy.command("--version")
    with pytest.raises(AssertionError, match="exit code 2"):
        copy.command("no-such-command")
    with pytest.raises(AssertionError, match="where it counts"):
        copy.write("constitution/hidden.py", "")
    with pytest.raises(AssertionError, match="2 code files for one stub, and 1 are the limit"):
        seams.stub(tmp_path / "again", new=new, changed=changed, limit=1)
    with pytest.raises(AssertionError, match="0 times, not once"):
        seams.stub(tmp_path / "other", new={}, changed={"constitution/__init__.py": [("absent", "")]}, limit=1)
