"""Principles as code: constitutions as versioned files, checked, locked, compared, imported.

    root = find_root(Path.cwd())
    constitution = load_constitution(root, "general@1.0.0")

docs/principles.md describes the format and the workflow.
"""

from constitution.principles.change import Change
from constitution.principles.check import Finding, check, files_of, notes
from constitution.principles.diff import changes_between, diff_constitutions, render_diff
from constitution.principles.files import (
    Lock,
    find_root,
    load_constitution,
    names,
    read_constitution,
    resolve,
    status,
    versions,
)
from constitution.principles.importers import Imported, import_files
from constitution.principles.lint import PLACEHOLDERS
from constitution.principles.lock import Bump, Level, bump, lock
from constitution.principles.new import new_constitution
from constitution.principles.statements import How
from constitution.principles.toml_writer import write_toml

__all__ = [
    "PLACEHOLDERS",
    "Bump",
    "Change",
    "Finding",
    "How",
    "Imported",
    "Level",
    "Lock",
    "bump",
    "changes_between",
    "check",
    "diff_constitutions",
    "files_of",
    "find_root",
    "import_files",
    "load_constitution",
    "lock",
    "names",
    "new_constitution",
    "notes",
    "read_constitution",
    "render_diff",
    "resolve",
    "status",
    "versions",
    "write_toml",
]
