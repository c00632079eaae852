"""An export sent to a hub: what arrives, and what is refused before anything leaves."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from fake_hub import TOKEN, FakeHub, running
from run_once import run_once
from small_project import small_project
from test_card import facts

from constitution.cli import app
from constitution.errors import HubError, InputError
from constitution.export.card import write_card
from constitution.export.outcome import DataFile
from constitution.export.push import check, push
from constitution.export.settings import CardOptions

# The library's own, when it uploads by Git LFS.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload:DeprecationWarning")

REPO = "someone/harmless"
MESSAGE = "Export dpo-0123456789ab of run hh-0123456789ab"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub that huggingface_hub takes for the real one, and a token for it."""
    from huggingface_hub import constants

    with running() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return laid(tmp_path / "out", 2)


def laid(out: Path, parts: int, license: str = "") -> Path:
    """A folder as `export` leaves it."""
    (out / "data").mkdir(parents=True)
    names = [f"data/train-{part:05}-of-{parts:05}.parquet" for part in range(parts)]
    files = (*(DataFile(name, "train", 3) for name in names), DataFile("data/test-00000-of-00001.parquet", "test", 3))
    for number, file in enumerate(files):
        pq.write_table(pa.table({"prompt": [f"{number} {row}" for row in range(3)]}), out / file.path)
    entries = [{"path": file.path, "sha256": digest(out / file.path)} for file in files]
    manifest = {"export_id": "dpo-0123456789ab", "runs": [{"run_id": "hh-0123456789ab"}], "files": entries}
    (out / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    write_card(out, facts(files=files), CardOptions(license=license))
    return out


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def contents(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_all_of_it_arrives_in_one_commit_of_a_private_data_set(hub: FakeHub, out: Path) -> None:
    exported = contents(out)
    (out / "notes.txt").write_text("not for others, nor in the manifest")
    (out / "data" / ".env").write_text("HF_TOKEN=hf_other")
    assert push(out, REPO) == f"{hub.url}/datasets/{REPO}"
    there = hub.repositories[REPO]
    assert there.private
    assert there.messages == [MESSAGE]
    there.files.pop(".gitattributes")
    assert there.files == exported
    assert set(hub.tokens) == {f"Bearer {TOKEN}"}


def test_a_name_without_owner_is_the_tokens_own(hub: FakeHub, out: Path) -> None:
    assert push(out, "harmless", private=False) == f"{hub.url}/datasets/{REPO}"
    assert not hub.repositories[REPO].private


def test_an_export_gives_way_to_the_next_with_all_its_files(hub: FakeHub, out: Path, tmp_path: Path) -> None:
    for _ in range(2):  # what is there already is not sent again
        push(out, REPO)
        assert sum(asked.startswith("PUT") for asked in hub.asked) == 3
    smaller = laid(tmp_path / "smaller", 1)
    push(smaller, REPO)
    there = hub.repositories[REPO]
    there.files.pop(".gitattributes")
    assert there.files == contents(smaller)
    assert there.messages == [MESSAGE] * 3


def test_nothing_goes_to_a_public_data_set_that_should_be_private(hub: FakeHub, out: Path) -> None:
    push(out, REPO, private=False)
    with pytest.raises(InputError, match="is public"):
        push(out, REPO)
    assert hub.repositories[REPO].messages == [MESSAGE]


def test_other_peoples_files_stay(hub: FakeHub, out: Path) -> None:
    push(out, REPO)
    there = hub.repositories[REPO]
    there.files = {"README.md": b"", "data/train.parquet": b"precious"}
    with pytest.raises(InputError, match="holds other things than an export"):
        push(out, REPO)
    assert there.files["data/train.parquet"] == b"precious"


def test_a_token_that_is_not_known(hub: FakeHub, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(InputError, match="does not know the token") as caught:
        push(out, REPO)
    assert "hf_wrong" not in str(caught.value)
    assert "HF_TOKEN" in caught.value.hint
    assert not hub.repositories


def test_no_token_at_all(hub: FakeHub, out: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(InputError, match="there is no token"):
        push(out, REPO)
    assert not hub.asked


def test_another_owners_data_set(hub: FakeHub, out: Path) -> None:
    with pytest.raises(InputError, match=r"may not write there: .*namespace"):
        push(out, "another/harmless")
    assert not hub.repositories


@pytest.mark.parametrize("repo", ["a/b/c", "some one/x", "someone/--x", ""])
def test_names_that_are_none(hub: FakeHub, out: Path, repo: str) -> None:
    with pytest.raises(InputError, match="is no name of a data set"):
        push(out, repo)
    assert not hub.repositories


def test_a_card_that_the_hub_refuses(hub: FakeHub, tmp_path: Path) -> None:
    out = laid(tmp_path / "out", 1, license="wtf-1.0")
    with pytest.raises(InputError, match='header: "license" must be one of'):
        push(out, REPO)
    assert not hub.repositories


@pytest.mark.parametrize("broken", ["/validate-yaml", "/create", "/commit/"])
def test_a_hub_that_fails(hub: FakeHub, out: Path, broken: str) -> None:
    hub.broken = broken
    with pytest.raises(HubError, match=r"the hub failed \(500\)") as caught:
        push(out, REPO)
    assert caught.value.retryable
    hub.broken = ""
    push(out, REPO)
    assert hub.repositories[REPO].messages == [MESSAGE]


def test_no_hub_there(hub: FakeHub, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="HF_HUB_OFFLINE is set"):
        push(out, REPO)
    assert not hub.asked
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError, match="could not be sent"):
        push(out, REPO)


def test_a_changed_file_is_not_sent(hub: FakeHub, out: Path) -> None:
    (out / "data" / "test-00000-of-00001.parquet").write_bytes(b"other")
    with pytest.raises(InputError, match="is not as it was exported"):
        push(out, REPO)
    assert not hub.asked


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("configs:", "other:", "says nothing of the data's files"),
        ("data/test-*.parquet", "data/dev-*.parquet", "there is no such file"),
        ("data/test-*.parquet", "data/train-*.parquet", "does not say of which split"),
        ("license: unknown", "license: [unknown", "says nothing of the data's files"),
    ],
)
def test_a_header_that_does_not_fit_the_files(out: Path, old: str, new: str, told: str) -> None:
    readme = out / "README.md"
    text = readme.read_text(encoding="utf-8")
    assert old in text
    readme.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(InputError, match=told):
        check(out)


def test_a_folder_that_is_no_export(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no export"):
        check(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(InputError, match="is not as it was exported"):
        check(tmp_path)


def test_the_command_says_early_what_keeps_it_from_pushing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the export is made, that is: there is no warehouse here at all."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    asked = ["export", "--format", "dpo", "--out", str(tmp_path / "out"), "--warehouse", str(tmp_path / "no")]
    for repo, told in (("someone/x", "there is no token"), ("some one/x", "is no name of a data set")):
        result = CliRunner().invoke(app, [*asked, "--push", repo])
        assert isinstance(result.exception, InputError)
        assert told in str(result.exception)


def test_the_command_pushes_what_it_has_exported(hub: FakeHub, tmp_path: Path) -> None:
    asyncio.run(run_once(small_project(tmp_path, 8), tmp_path / "warehouse", []))
    words = ["export", "--format", "dpo", "--warehouse", str(tmp_path / "warehouse"), "--license", "apache-2.0"]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "out"), "--push", REPO])
    assert done.exit_code == 0, done.output
    assert f"Uploaded: {hub.url}/datasets/{REPO}" in done.output
    assert TOKEN not in done.output
    there = hub.repositories[REPO]
    there.files.pop(".gitattributes")
    assert there.files == contents(tmp_path / "out")
    manifest = json.loads(there.files["manifest.json"])
    assert there.messages == [f"Export {manifest['export_id']} of run {manifest['runs'][0]['run_id']}"]
