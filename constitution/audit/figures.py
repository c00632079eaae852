"""The figures of a run, measured section by section, and the tables that show them.

python -m constitution.audit.figures     every figure as a Markdown table, for the docs
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from importlib import import_module
from types import ModuleType

from constitution.audit import gold, style
from constitution.audit.evidence import Evidence
from constitution.audit.kinds import KINDS, SECTIONS, Exhibit, Section
from constitution.records import Figure


def measured(evidence: Evidence, sections: Collection[str] = ()) -> Iterator[Figure]:
    """The figures of the run, all or those of these sections."""
    style.fit_all(evidence)
    gold.create_stages(evidence)
    for section in SECTIONS:
        if sections and section.name not in sections:
            continue
        measure = getattr(_module(section), "figures", None)
        yield from measure(evidence) if measure else evidence.measured(section.name)


def tables(section: Section) -> Iterator[Exhibit]:
    """Those of its figures, then those that its module declares."""
    yield from section.tables(getattr(_module(section), "CHARTS", {}))
    yield from getattr(_module(section), "EXHIBITS", ())


def _module(section: Section) -> ModuleType | None:
    return import_module(f"{__package__}.{section.module}") if section.module else None


def markdown() -> str:
    lines = ["| figure | unit | is | n |", "|---|---|---|---|"]
    lines += [f"| `{kind.name}` | {kind.unit} | {kind.says} | {kind.n} |" for kind in KINDS.values()]
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown())
