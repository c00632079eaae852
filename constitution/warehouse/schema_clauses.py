"""The columns of the clauses of documents."""

from __future__ import annotations

from constitution.warehouse.columns import AUTHOR, CREATED_AT, IDS, RUN_ID, Column, Table, few, integer, text

CLAUSES = Table(
    "clauses",
    "One row per clause of a document that a run was held against (`constitution coverage`), each edition apart.",
    (
        RUN_ID,
        text("id", "Digest of run, document, edition and clause."),
        few("document", "What principles call the document."),
        few("edition", "SHA-256 of the document's file."),
        few("format", "markdown · text · html · pdf."),
        text("clause", "<document>#<clause id>, as `principles.clauses` has it."),
        integer("position", "Place in the document, from 0."),
        text("number", "As it is written; empty: none."),
        Column("heading", IDS, "The headings above it, the outermost first.", few=("heading.list.element",)),
        text("lead", "The words that it completes (Employees must not:); empty: none."),
        few("kind", "paragraph · item · row · code · quote · lead (it only introduces what follows) · heading (with "
            "nothing below it)."),
        text("text", "Its words without the number: white space is one space, Unicode is NFC."),
        integer("begins", "Place of its first character in the document's text, from 0."),
        integer("ends", "Place after its last."),
        integer("page", "Page of a PDF, from 1; null: of another format.", null=True),
        integer("line", "Line of the file, from 1; null: of a PDF.", null=True),
        Column("quoted_by", IDS, "Principles of the run that name it and whose quote is in it, word for word.",
               few=("quoted_by.list.element",)),
        Column("misquoted_by", IDS, "Those that name it and whose quote is in no clause that they name: it has other "
               "words than they follow from.", few=("misquoted_by.list.element",)),
        AUTHOR,
        CREATED_AT,
    ),
)  # fmt: skip
