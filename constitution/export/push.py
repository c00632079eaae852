"""An export sent to the hub (huggingface.co, or the one that HF_ENDPOINT names) as a data set, in one commit.

    url = push(Path("data/dpo"), "someone/harmless-pairs")

Not HfApi.upload_folder, which sends whatever lies in the folder and may make several commits of it: here goes what the
manifest lists, and a reader who loads the data set meanwhile sees all of it or none.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

from constitution.errors import HubError, InputError
from constitution.export.layouts import LAYOUTS
from constitution.export.outcome import contents_of, sha256
from constitution.secrets import Secret

README = "README.md"
MANIFEST = "manifest.json"
DATA = "data/*"
"""Files of an export's data, of whatever type."""
INFOS = {layout.info for layout in LAYOUTS.values()} - {""}
GIVEN = (".gitattributes", README)
"""What a repository may have before it holds an export."""


class Contents(NamedTuple):
    """What is to be sent."""

    paths: tuple[str, ...]
    """Beneath the export's folder."""
    message: str
    """Message of the commit."""


def push(out: Path, repo: str, *, private: bool = True) -> str:
    """Sends the export in `out` to the hub's data set `repo` (owner/name), which is made if it is not there. Returns
    its address.

    The token is the one of the environment (HF_TOKEN) or of `hf auth login`. An export that the repository holds gives
    way; anything else never does. private: the repository must be so; a new one is made so.

    Raises InputError where `out` is not an export as it was written, the token or the repository's name is refused, or
    the repository is public and should not be, or holds other things; HubError where the hub cannot be reached or
    fails. Before the first commit nothing of the data has left.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, DatasetCard, HfApi

    contents, token = check(out), ready(repo)
    with _speaking(repo, token):
        _validate(DatasetCard.load(out / README), repo, token)
        api = HfApi(token=token)
        url = api.create_repo(repo, repo_type="dataset", private=private, exist_ok=True)
        there = api.dataset_info(url.repo_id)
        names = {file.rfilename for file in there.siblings or ()}
        if private and not there.private:
            raise InputError(f"{url.repo_id}: is public, and was there before", hint="--public, or another repository")
        if names.difference(GIVEN) and MANIFEST not in names:
            raise InputError(f"{url.repo_id}: holds other things than an export", hint="take another repository")
        ours = (DATA, *INFOS)
        stale = sorted(name for name in names.difference(contents.paths) if any(fnmatch(name, own) for own in ours))
        api.create_commit(
            url.repo_id,
            [
                *(CommitOperationAdd(path, out / path) for path in contents.paths),
                *(CommitOperationDelete(path) for path in stale),
            ],
            commit_message=contents.message,
            repo_type="dataset",
        )
    return str(url)


def ready(repo: str) -> str:
    """The token that a push would go with. Raises InputError for what can be told without the hub: there is no token,
    `repo` is no name, or HF_HUB_OFFLINE is set."""
    import huggingface_hub
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    with _speaking(repo, ""):
        validate_repo_id(repo)
    if huggingface_hub.is_offline_mode():
        raise InputError(f"{repo}: nothing can be sent: HF_HUB_OFFLINE is set", hint="unset it")
    token = huggingface_hub.get_token()
    if token is None:
        raise InputError("there is no token of the hub's", hint="set HF_TOKEN, or run `hf auth login`")
    return token


def check(out: Path) -> Contents:
    """What a push of `out` sends. Raises InputError where it is no export, or not any more as it was written: its files
    against the manifest, and the card's header against the files."""
    manifest = _manifest(out)
    digests = {str(entry["path"]): str(entry["sha256"]) for entry in contents_of(manifest)}
    for path, digest in digests.items():
        if not (out / path).is_file() or sha256(out / path) != digest:
            raise InputError(f"{out / path}: is not as it was exported", hint="export again, with --overwrite")
    _check_header(out / README, [str(entry["path"]) for entry in manifest["files"]])
    runs = ", ".join(str(run["run_id"]) for run in manifest["runs"])
    return Contents((README, MANIFEST, *digests), f"Export {manifest['export_id']} of run {runs}")


def _manifest(out: Path) -> dict[str, Any]:
    path = out / MANIFEST
    if not path.is_file():
        raise InputError(f"{out}: is no export: there is no {MANIFEST}", hint="`constitution export` makes one")
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: is not as it was exported: {_line(error)}") from error
    return manifest


def _check_header(readme: Path, data: Sequence[str]) -> None:
    """Each data file is of one config and split, and each of these has files."""
    from huggingface_hub import DatasetCard

    if not readme.is_file():
        raise InputError(f"{readme}: is missing", hint="export again, with --overwrite")
    try:
        configs = DatasetCard.load(readme).data.to_dict()["configs"]
        patterns = [split["path"] for config in configs for split in config["data_files"]]
    # yaml raises errors that are not the hub's, and a header that a person wrote may have any shape.
    except Exception as error:
        raise InputError(f"{readme}: its header says nothing of the data's files: {_line(error)}") from error
    for pattern in patterns:
        if not any(fnmatch(path, pattern) for path in data):
            raise InputError(f"{readme}: its header names {pattern}, and there is no such file")
    for path in data:
        if sum(fnmatch(path, pattern) for pattern in patterns) != 1:
            raise InputError(f"{readme}: its header does not say of which split {path} is")


@contextmanager
def _speaking(repo: str, token: str) -> Iterator[None]:
    """The hub's errors as ours, without the token; theirs, which may hold it, are not shown by a traceback either."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    # The library's HTTP client is another in its next major version; this is its root of errors in either.
    unreached: Any = HfHubHTTPError.__mro__[1]
    try:
        yield
    except HFValidationError as error:
        raise InputError(f"{repo!r} is no name of a data set: {_line(error)}", hint="it is owner/name") from None
    except HfHubHTTPError as error:
        raise _refused(repo, error, token) from None
    except (unreached, OSError, RuntimeError) as error:
        raise HubError(f"{repo}: could not be sent: {_line(error, token)}") from None


def _validate(card: Any, repo: str, token: str) -> None:
    """The hub's own word on the card's header, before there is a repository."""
    try:
        card.validate()
    except ValueError as error:
        try:
            said = " ".join(each["message"] for each in json.loads(str(error))["errors"])
        except (ValueError, LookupError, TypeError):
            said = str(error)
        said = _line(said, token)
        raise InputError(f"{repo}: the hub refuses the card's header: {said}", hint="see --license") from None


def _refused(repo: str, error: Any, token: str) -> InputError | HubError:
    status = error.response.status_code
    if status == 401:
        return InputError(f"{repo}: the hub does not know the token", hint="set HF_TOKEN, or run `hf auth login`")
    if status in (402, 403):
        said = _line(error.server_message or error, token)
        return InputError(f"{repo}: the token may not write there: {said}", hint="use one with write access")
    if 400 <= status < 500 and status not in (408, 429):
        return InputError(f"{repo}: the hub refuses ({status}): {_line(error.server_message or error, token)}")
    return HubError(f"{repo}: the hub failed ({status}): {_line(error.server_message or error, token)}")


def _line(error: object, token: str = "") -> str:
    """What it says, in one line and without the token."""
    return Secret(token).hide(" ".join(str(error).split()) or type(error).__name__)
