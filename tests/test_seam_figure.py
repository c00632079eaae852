"""A further figure of the audit touches two files at most, and is in the page and the summary."""

from __future__ import annotations

from pathlib import Path

import seams

DECLARED = """
[brevity]
title = "Brevity"
module = "brevity"

[brevity.figures.brevity]
title = "Shorter answer preferred"
unit = "share"
says = "Share of pairs whose label prefers the shorter answer"
n = "pairs"
by = [""]
takes = "no pair has a label"
null = 0.5
summary."" = { null = 0.5, above = "prefers brevity" }
{sql}
[examples]"""

SQL = 'sql = "SELECT ((length < 0) = (p_b > 0.5))::INTEGER AS value, cluster FROM audit.pairs WHERE p_b IS NOT NULL"\n'

MEASURED = '''
"""The stub."""

from collections.abc import Iterator

from constitution.audit.evidence import Evidence
from constitution.records import Figure


def figures(evidence: Evidence) -> Iterator[Figure]:
    shorter = "((length < 0) = (p_b > 0.5))::INTEGER"
    yield from evidence.means("brevity", f"SELECT {shorter} AS value, cluster FROM audit.pairs WHERE p_b IS NOT NULL")
'''

CHECK = f"""
import sys
from pathlib import Path

sys.path.append({str(Path(__file__).parent)!r})
from audit_rows import RUN, Pair, store

from constitution.audit import audit
from constitution.audit.kinds import KINDS
from constitution.audit.report import report
from constitution.audit.summary import summary

root = Path("warehouse")
store(root, [Pair(n, {{("one", "kind"): (0.9, 0.9)}}, texts=("one two three", "one")) for n in range(40)])
[figure] = [figure for figure in audit(root, RUN, replicates=100) if figure.figure == "brevity"]
assert (figure.value, figure.n) == (1.0, 40), figure
page = report(root, RUN)
assert "Shorter answer preferred" in page and "<td>" in page
assert "prefers brevity" in page.partition("<nav")[0] and "prefers brevity" in summary(root, RUN)
assert KINDS["brevity"].n == "pairs"
"""


def test_a_further_figure_touches_two_files_and_one_where_it_is_a_query(tmp_path: Path) -> None:
    table = "constitution/audit/figures.toml"
    own = {"constitution/audit/brevity.py": MEASURED}
    for name, new, sql in (("measured", own, ""), ("query", {}, SQL)):
        declared = DECLARED.replace("{sql}", sql)
        if sql:
            declared = declared.replace('module = "brevity"\n', "")
        copy = seams.stub(
            tmp_path / name, new=new, changed={table: [("\n[examples]", declared)]}, limit=2 if new else 1
        )
        copy.python(CHECK)
