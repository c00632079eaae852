"""The only module that touches stored data: the folder of Parquet tables and the DuckDB file of views over them.

schema (columns) → dictionary → convert (records ↔ Arrow) → checksums, files, compact (how files come to be) → views →
tally, damage, repair → store (a run's rows) → notes (Warehouse: what is said of a run, too) → writer (Writer). spool
keeps prompts until their run is known; query asks, read-only; lookup finds a row by its id; annotations reads the files
in which people say something.
"""

from typing import TYPE_CHECKING

from constitution.lazy import names_of

if TYPE_CHECKING:
    from constitution.warehouse.damage import Damage
    from constitution.warehouse.lookup import Found, find
    from constitution.warehouse.notes import Warehouse
    from constitution.warehouse.query import Answer, ask, connect
    from constitution.warehouse.remote import place
    from constitution.warehouse.spool import SkipSpool, Spool, skipping, spooled
    from constitution.warehouse.tally import Tally
    from constitution.warehouse.writer import Writer

__all__ = [
    "Answer",
    "Damage",
    "Found",
    "SkipSpool",
    "Spool",
    "Tally",
    "Warehouse",
    "Writer",
    "ask",
    "connect",
    "find",
    "place",
    "skipping",
    "spooled",
]

__getattr__ = names_of(
    __name__,
    {
        "Damage": "damage",
        **dict.fromkeys(("Found", "find"), "lookup"),
        **dict.fromkeys(("Answer", "ask", "connect"), "query"),
        **dict.fromkeys(("SkipSpool", "Spool", "skipping", "spooled"), "spool"),
        "Warehouse": "notes",
        "Tally": "tally",
        "place": "remote",
        "Writer": "writer",
    },
)
