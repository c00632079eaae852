"""Documents (Markdown, plain text, HTML, PDF) divided into clauses, and what changed between two editions.

document = read_document("charter.md")
for clause in document.clauses: clause.id, clause.lead, clause.text
"""

from constitution.documents.compare import Follower, compare, followers, similarity
from constitution.documents.files import read_document
from constitution.documents.records import Change, Clause, Document, Dropped

__all__ = [
    "Change",
    "Clause",
    "Document",
    "Dropped",
    "Follower",
    "compare",
    "followers",
    "read_document",
    "similarity",
]
