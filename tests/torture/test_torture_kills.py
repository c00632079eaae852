"""SIGKILL, SIGTERM and SIGINT at random moments of real runs: nothing is lost, nothing doubled, little done twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Torture
from kill_recipes import KINDS
from kills import Torment

FULL = {name: 4 if kind.prefect else 18 for name, kind in KINDS.items()}
"""Kills per recipe in the long version: 166."""
SHORT = {"jury": 2}
"""Of a run of 24 prompts."""


@pytest.mark.parametrize("name", KINDS)
async def test_killed_at_any_moment_a_run_comes_to_the_same_end(name: str, tmp_path: Path, torture: Torture) -> None:
    kills = (FULL if torture.full else SHORT).get(name)
    if kills is None:
        pytest.skip("part of `make torture`")
    kind = KINDS[name] if torture.full else replace(KINDS[name], prompts=24)
    torment = Torment(kind, tmp_path, torture, name)
    await torment.run(kills)
    assert torment.kills.total() >= kills
