"""The figures of a run, measured section by section, and the tables that show them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from importlib import import_module
from types import ModuleType

from constitution.audit import gold, style
from constitution.audit.evidence import Evidence
from constitution.audit.kinds import SECTIONS, Exhibit, Section
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
