"""Lock and bump, through the command line, on real files."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from constitution.cli.principles import principles
from constitution.errors import PrincipleError
from constitution.principles import Lock, bump, check, find_root, load_constitution, lock, resolve, status
from constitution.principles.files import version_key
from constitution.principles.lock import next_version

TEXT = """\
# Why these: they came up most often.
name = "kind"
version = "1.0.0"   # keep me
description = \"\"\"Answers gently. A line that looks like the version:
version = "9.9.9"
\"\"\"

[[principles]]
id = "gentle"
comparison_question = "Which answer is gentler?"  # a word that somebody will edit
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "principles"
    (root / "kind").mkdir(parents=True)
    (root / "kind" / "1.0.0.toml").write_text(TEXT)
    return root


def run(root: Path, *words: str) -> Result:
    return CliRunner().invoke(principles, [*words, "--root", str(root)])


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_edit_check_bump_lock(root: Path) -> None:
    first, second = root / "kind" / "1.0.0.toml", root / "kind" / "1.1.0.toml"
    assert run(root, "check").exit_code == 0
    assert run(root, "lock").output == "locked kind@1.0.0\n"
    assert run(root, "check").exit_code == 0

    edit(first, "is gentler", "is kinder")
    found = run(root, "check")
    assert found.exit_code == 1
    assert "principles/kind/1.0.0.toml: is locked and its content has changed; bump it" in found.output
    with pytest.raises(PrincipleError, match="is locked and its content has changed"):
        load_constitution(root, "kind@1.0.0")

    done = run(root, "bump", "kind")
    assert done.exit_code == 0, done.output
    assert "kind/1.1.0.toml: written from your edit of 1.0.0; 1.0.0 has its locked text again" in done.output
    assert first.read_text() == TEXT
    expected = TEXT.replace("is gentler", "is kinder").replace('version = "1.0.0"   #', 'version = "1.1.0"   #')
    assert second.read_text() == expected

    assert run(root, "check").exit_code == 0
    draft, locked = load_constitution(root, "kind"), load_constitution(root, "kind@1.0.0")
    assert (draft.version, draft.principles[0].comparison_question) == ("1.1.0", "Which answer is kinder?")
    assert locked.principles[0].comparison_question == "Which answer is gentler?"
    assert status(root, "kind", "1.1.0", Lock.read(root)) == "draft"
    assert run(root, "lock").output == "locked kind@1.1.0\n"
    assert run(root, "lock").output == "nothing to lock: there is no draft\n"


def test_the_lock_is_sorted_and_says_the_digest(root: Path) -> None:
    for version in ("1.10.0", "1.9.0"):
        text = TEXT.replace('"1.0.0"', f'"{version}"').replace("is gentler", f"is gentler ({version})")
        (root / "kind" / f"{version}.toml").write_text(text)
    added, findings = lock(root)
    assert findings == []
    assert added == ["kind@1.0.0", "kind@1.9.0", "kind@1.10.0"]
    table = tomllib.loads((root / "principles.lock").read_text())
    assert list(table["kind"]) == ["1.0.0", "1.9.0", "1.10.0"]
    assert table["kind"]["1.9.0"] == load_constitution(root, "kind@1.9.0").digest
    assert load_constitution(root, "kind").version == "1.10.0"


def test_comments_and_layout_may_change_in_a_locked_file(root: Path) -> None:
    lock(root)
    edit(root / "kind" / "1.0.0.toml", "# Why these: they came up most often.", "# Written in spring.\n")
    assert check(root) == []


def test_every_word_counts_in_a_locked_file(root: Path) -> None:
    path = root / "kind" / "1.0.0.toml"
    lock(root)
    for old, new in (
        ("gently", "Gently"),
        ('id = "gentle"', 'id = "gentle"\nweight = 1.01'),
        ('"gentle"', '"gentle-2"'),
    ):
        path.write_text(TEXT.replace(old, new))
        assert ["bump it" in finding.message for finding in check(root)] == [True], new
    path.write_text("not TOML")
    assert sorted("bump it" in finding.message for finding in check(root)) == [False, True]


def test_lock_refuses_with_findings_and_changes_no_digest(root: Path) -> None:
    lock(root)
    before = (root / "principles.lock").read_bytes()
    edit(root / "kind" / "1.0.0.toml", "gently", "briskly")
    refused = run(root, "lock")
    assert refused.exit_code == 1
    assert "bump it" in refused.output
    assert (root / "principles.lock").read_bytes() == before


def test_lock_takes_one_draft_and_leaves_a_broken_one(root: Path) -> None:
    (root / "other").mkdir()
    (root / "other" / "1.0.0.toml").write_text("name = 1")
    assert run(root, "lock").exit_code == 1
    assert run(root, "lock", "kind").output == "locked kind@1.0.0\n"


def test_a_locked_file_that_is_gone(root: Path) -> None:
    lock(root)
    (root / "kind" / "1.0.0.toml").unlink()
    messages = [str(finding) for finding in check(root)]
    assert any("kind/1.0.0.toml: is in principles.lock, but the file is gone" in message for message in messages)


def test_a_kept_copy_that_is_gone_or_changed(root: Path) -> None:
    lock(root)
    kept = root / ".locked" / "kind" / "1.0.0.toml"
    kept.unlink()
    (finding,) = check(root)
    assert str(finding).startswith("principles/.locked/kind/1.0.0.toml: the copy that .locked/ keeps")
    assert run(root, "lock").exit_code == 0
    assert kept.read_text() == TEXT

    edit(kept, "gently", "roughly")
    (finding,) = check(root)
    assert "is the kept copy of a locked file, and has changed" in finding.message
    edit(root / "kind" / "1.0.0.toml", "gently", "briskly")
    with pytest.raises(PrincipleError, match="cannot be restored"):
        bump(root, "kind")
    kept.unlink()
    with pytest.raises(PrincipleError, match="there is no such file"):
        bump(root, "kind")
    assert [path.name for path in (root / "kind").iterdir()] == ["1.0.0.toml"], "nothing was written"


def test_a_lock_that_lost_its_entry_hides_no_edit(root: Path) -> None:
    path = root / "kind" / "1.0.0.toml"
    assert run(root, "lock").exit_code == 0
    (root / "principles.lock").unlink()
    assert check(root) == []  # nothing has changed: `lock` puts the entry back
    edit(path, "is gentler", "is kinder")
    (found,) = check(root)
    assert str(found).startswith("principles/kind/1.0.0.toml: was locked once and has changed or is gone")
    path.unlink()
    assert any("was locked once" in found.message for found in check(root))


def test_bump_without_an_edit_copies_and_keeps_line_ends(root: Path) -> None:
    path = root / "kind" / "1.0.0.toml"
    path.write_bytes(TEXT.replace("\n", "\r\n").encode())
    lock(root)
    done = run(root, "bump", "kind", "--major")
    assert "kind/2.0.0.toml: written as a copy of 1.0.0; edit it" in done.output
    assert (root / "kind" / "2.0.0.toml").read_bytes() == path.read_bytes().replace(b'"1.0.0"', b'"2.0.0"')


def test_bump_of_an_older_edited_version_goes_on_from_the_highest(root: Path) -> None:
    lock(root)
    bump(root, "kind")
    edit(root / "kind" / "1.0.0.toml", "is gentler", "is kinder")
    done = bump(root, "kind", "patch")
    assert (done.base, done.version, done.restored) == ("1.0.0", "1.1.1", True)
    assert "is kinder" in done.path.read_text()
    assert (root / "kind" / "1.0.0.toml").read_text() == TEXT


def test_bump_asks_which_of_two_edits(root: Path) -> None:
    lock(root)
    bump(root, "kind")
    edit(root / "kind" / "1.1.0.toml", "gently", "softly")
    lock(root)
    for version in ("1.0.0", "1.1.0"):
        edit(root / "kind" / f"{version}.toml", "is gentler", "is kinder")
    with pytest.raises(PrincipleError, match=r"2 locked versions have changed \(1.0.0, 1.1.0\)"):
        bump(root, "kind")
    assert bump(root, "kind@1.0.0").version == "1.2.0"
    assert bump(root, "kind").base == "1.1.0"
    assert check(root) == []


def test_an_edit_of_the_version_line_alone_is_an_edit(root: Path) -> None:
    lock(root)
    edit(root / "kind" / "1.0.0.toml", 'version = "1.0.0"', 'version = "1.0.1"')
    assert any("bump it" in finding.message for finding in check(root))
    bump(root, "kind", "patch")
    assert check(root) == []


def test_a_broken_lock_is_a_finding_and_an_error(root: Path) -> None:
    for text in ("[kind", "kind = 3", '[kind]\n"1.0.0" = "abc"', '[kind]\n"one" = "' + "0" * 64 + '"'):
        (root / "principles.lock").write_text(text)
        assert [finding.file for finding in check(root)] == ["principles/principles.lock"], text
        with pytest.raises(PrincipleError, match=r"principles\.lock"):
            load_constitution(root, "kind")


def test_names_and_versions_are_resolved_with_a_remedy(root: Path) -> None:
    assert resolve(root, "kind") == ("kind", "1.0.0")
    with pytest.raises(PrincipleError, match=r"no constitution 'kid'; did you mean kind\?"):
        resolve(root, "kid")
    with pytest.raises(PrincipleError, match=r"no version '2.0.0'; there are: 1.0.0"):
        resolve(root, "kind@2.0.0")


def test_find_root_takes_the_nearest_folder_that_is_no_package(root: Path) -> None:
    package = root.parent / "code" / "principles"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    assert find_root(root / "kind") == root
    assert find_root(package) == root


def test_versions_sort_as_semver_says() -> None:
    ordered = [
        "1.0.0-alpha",
        "1.0.0-alpha.1",
        "1.0.0-alpha.beta",
        "1.0.0-beta.2",
        "1.0.0-beta.11",
        "1.0.0-rc.1",
        "1.0.0",
    ]
    assert sorted([*reversed(ordered), "1.10.0", "1.9.0"], key=version_key) == [*ordered, "1.9.0", "1.10.0"]
    assert [next_version("1.2.3", level) for level in ("major", "minor", "patch")] == ["2.0.0", "1.3.0", "1.2.4"]
