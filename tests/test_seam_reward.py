"""A further source of rewards is its own module, a row of the table of sources and its name, and runs go by it."""

from __future__ import annotations

from pathlib import Path

import seams

POLITE = '''"""Rewards by whether an answer says please."""

from __future__ import annotations

from collections.abc import Sequence

from constitution.judge.sources import Part, Reads
from constitution.recipe import RewardSection
from constitution.records import Constitution


def reads(section: RewardSection, constitution: Constitution) -> Reads:
    return Reads(rules=polite)


def polite(text: str) -> Sequence[Part]:
    return [Part(float("please" in text.casefold()))]
'''
ROW = """    "polite": Source("constitution.judge.by_polite:reads", lambda section: None),
    "rubric": Source("""
CHECK = """
from pathlib import Path
from constitution.warehouse import ask, connect
with connect(Path("w")) as connection:
    def rows(sql):
        return list(ask(connection, sql).rows)
    assert rows("SELECT DISTINCT source, readings FROM rewards") == [("polite", 0)]
    assert rows("SELECT count(*) > 0, bool_and(value = (text ILIKE '%please%')::INT) FROM rewards "
                "JOIN responses AS r ON r.id = response_id") == [(True, True)]
    assert rows("SELECT DISTINCT state FROM chains") == [("complete",)]
"""


def test_a_further_source_touches_three_files(tmp_path: Path) -> None:
    copy = seams.stub(
        tmp_path,
        new={"constitution/judge/by_polite.py": POLITE},
        changed={
            "constitution/judge/sources.py": [('    "rubric": Source(', ROW)],
            "constitution/records/kinds.py": [('"sentence"]', '"sentence", "polite"]')],
        },
        limit=3,
    )
    copy.command("run", "recipes/fake.toml", "--warehouse", "w", "--set", 'reward.by=["polite"]')
    copy.python(CHECK)
