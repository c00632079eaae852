"""What docs/warehouse.md says to type."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent

PAGE = Path(__file__).parents[1] / "docs" / "warehouse.md"


def blocks(begin: str, end: str) -> list[str]:
    """The indented blocks between two headings of the page."""
    text = PAGE.read_text(encoding="utf-8").partition(f"\n{begin}\n")[2].partition(f"\n{end}\n")[0]
    return [dedent(block) for block in re.findall(r"(?:^    .*\n)+", text, re.MULTILINE)]


def queries() -> list[str]:
    """Those on labels and judges."""
    found = blocks("## Annotations", "## Guarantees")
    return [block for block in found if re.search(r"^(SELECT|FROM)\b", block, re.MULTILINE)]


def lines_for(tool: str) -> str:
    """The two lines that open a table with this tool of Python."""
    found = blocks("### With pandas, polars, Arrow, datasets, DuckDB", "### For programs and shells")
    [lines] = [block for block in found if re.match(rf"(import|from) {tool}\b", block)]
    assert len(lines.splitlines()) == 2, lines
    return lines
