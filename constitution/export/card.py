"""The README.md of an exported data set: what it is, what made it, what was left out, and how far to trust it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from constitution.audit.words import Headline
from constitution.export.settings import Settings
from constitution.records import Constitution, Figure, Run
from constitution.warehouse.columns import Column


@dataclass(frozen=True)
class CardOptions:
    """What only the person who exports can say."""

    license: str = ""
    """Of the data set: an identifier of the hub's, e.g. apache-2.0. Empty: unknown, and the card says so."""
    title: str = ""
    """Empty: made of the run's recipe and the format."""


@dataclass(frozen=True)
class DataFile:
    path: str
    """Beneath the export's folder, with `/`."""
    split: Literal["train", "test"]
    rows: int
    config: str = "default"
    """Of robust: the folder's name, e.g. eps-0.07."""
    epsilon: float | None = None
    """Of robust: the mean of 1 − p_chosen over the config's rows; None: another format."""


@dataclass(frozen=True)
class CardFacts:
    """What the export knows of itself. Nothing here is of another moment or machine than run and settings are."""

    settings: Settings
    run: Run
    constitution: Constitution
    """As the run used it (Warehouse.read_principles)."""
    columns: tuple[Column, ...]
    """Of the files, in their order, with what each means."""
    files: tuple[DataFile, ...]
    candidates: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Drop reason → candidates."""
    figures: tuple[Figure, ...] = ()
    """Of the run's last audit (Warehouse.read_figures); empty: it was never audited."""
    headlines: tuple[Headline, ...] = ()
    """The same's chief numbers (audit.report.headlines)."""
    languages: tuple[str, ...] = ()
    """ISO 639-1 codes of the texts where they are known; empty: the card names none."""
