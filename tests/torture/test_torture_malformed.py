"""Everything that a person may give and that cannot be used: one sentence, exit code 1 or 2, nothing half written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import malformed_recipes
import pytest
from malformed import Case, check, ids

CASES = [*malformed_recipes.CASES]


@pytest.mark.parametrize("case", CASES, ids=ids(CASES))
def test_malformed(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torture: Any) -> None:
    check(case, tmp_path, monkeypatch)
    torture.count("bad inputs")
