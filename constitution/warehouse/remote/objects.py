"""Objects at an address (s3://, gs://, az://): whole puts, conditional puts and gets, over obstore.

    objects = Objects("s3://bucket/warehouse")
    version = objects.create("writers/r1/main.json", b"{}")
    version = objects.swap("writers/r1/main.json", b'{"a": 1}', version)      # or raises Changed

A reply may be lost after the store has done what was asked. So a conditional put that is refused, or of which nothing
is heard, is looked at: where the object is what was to be put, the put was ours. Contents therefore never repeat under
one key: those of manifests have a sequence number, since S3's version of an object is the MD5 of its content.

Keys, endpoints and accounts are those of the environment, as obstore reads them (AWS_…, GOOGLE_…, AZURE_…).
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import IO, TYPE_CHECKING, Any, NamedTuple, TypeVar

from constitution.errors import InputError, WarehouseError
from constitution.warehouse.checksums import Sum

if TYPE_CHECKING:
    from obstore.store import ObjectStore

SCHEMES = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "az": "az", "azure": "az", "abfs": "az", "abfss": "az"}
"""Those that are taken, and what each is short for."""

TRIES = 6
"""How often a conditional put is made of which nothing can be said; obstore has repeated each several times by then."""
_PAUSE = 0.25  # seconds before the second, then twice as long each time
_CLIENT = {"connect_timeout": "10s", "read_timeout": "30s", "timeout": "600s"}
_RETRY = {"max_retries": 6, "retry_timeout": timedelta(seconds=60)}

T = TypeVar("T")

Version = dict[str, str]
"""What identifies the content of an object: `e_tag`, and `version` where the store has such."""


class Object(NamedTuple):
    data: bytes
    version: Version
    modified: datetime
    """By the store's clock; S3 has whole seconds."""


class Listed(NamedTuple):
    key: str
    size: int
    """Bytes."""
    modified: datetime


class Changed(Exception):
    """Another put was first. `found`: what is there; None: nothing is."""

    def __init__(self, key: str, found: Object | None) -> None:
        super().__init__(key)
        self.found = found


class Objects:
    """Those below one address. Everything but `Changed` is raised as a WarehouseError that names the object."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._store = _open(url)
        self.place = {
            name: str(value)
            for name, value in dict(getattr(self._store, "config", {})).items()
            if re.search("endpoint|account|bucket|container|base_url", name) and "key" not in name
        }
        """What says where it is: the bucket, and the endpoint or the account where they are set."""

    # Reading

    def get(self, key: str) -> Object | None:
        """None: there is no such object."""

        def read() -> Object:
            found = _obstore().get(self._store, key)
            return Object(bytes(found.bytes()), _version(found.meta), found.meta["last_modified"])

        with self._speaking(key, "read"):
            try:
                return _again(read)
            except FileNotFoundError:
                return None

    def fetch(self, key: str, file: IO[bytes] | None = None) -> Sum | None:
        """The sum of the object, read whole and written to `file`, if there is one, which is empty. None: there is no
        such object."""

        def copy() -> Sum:
            if file:
                file.seek(0)
                file.truncate()
            digest, size = hashlib.sha256(), 0
            for chunk in _obstore().get(self._store, key).stream():
                data = bytes(chunk)
                digest.update(data)
                size += len(data)
                if file:
                    file.write(data)
            return Sum(digest.hexdigest(), size)

        with self._speaking(key, "read"):
            try:
                return _again(copy)
            except FileNotFoundError:
                return None

    def listed(self, prefix: str = "") -> list[Listed]:
        """Those whose keys begin with the folder `prefix`, in any order. A store may list what is not any more, and not
        yet what was just put."""

        def read() -> list[Listed]:
            pages = _obstore().list(self._store, prefix or None, chunk_size=1000)
            return [Listed(each["path"], each["size"], each["last_modified"]) for page in pages for each in page]

        with self._speaking(f"{prefix}/", "listed"):
            return _again(read)

    def clock(self, key: str) -> datetime:
        """The store's time, by an object that is put under the free name `key` and deleted."""
        with self._speaking(key, "written"):
            _obstore().put(self._store, key, os.urandom(8), use_multipart=False)
            modified: datetime = _obstore().head(self._store, key)["last_modified"]
            _obstore().delete(self._store, key)
        return modified

    # Writing

    def create(self, key: str, data: bytes) -> Version:
        """Puts it where nothing is; the same content there is ours. Raises Changed."""
        return self._put(key, data, None)

    def swap(self, key: str, data: bytes, version: Version | None) -> Version:
        """In place of that `version` of it (None: of nothing). Raises Changed where another is there."""
        return self._put(key, data, version)

    def delete(self, keys: Iterable[str]) -> None:
        """One that is not there is none less."""
        for key in keys:
            with self._speaking(key, "deleted"), suppress(FileNotFoundError):
                _obstore().delete(self._store, key)

    def _put(self, key: str, data: bytes, version: Version | None) -> Version:
        exceptions = _exceptions()
        mode: Any = "create" if version is None else version
        with self._speaking(key, "written"):
            for left in reversed(range(TRIES)):
                doubt = None
                try:
                    return _version(_obstore().put(self._store, key, data, mode=mode, use_multipart=False))
                except (exceptions.AlreadyExistsError, exceptions.PreconditionError, FileNotFoundError):
                    pass
                except exceptions.GenericError as error:
                    doubt = error
                found = self.get(key)
                if found is not None and found.data == data:
                    return found.version
                unchanged = found is None if version is None else found is not None and found.version == version
                if not unchanged:
                    raise Changed(key, found)
                # Else nothing happened, or what was in the way is gone since.
                if not left:
                    raise doubt or exceptions.GenericError("the store refuses it, and nothing is there that it refuses")
                time.sleep(_PAUSE * 2 ** (TRIES - 1 - left))
        raise AssertionError("unreachable")

    @contextmanager
    def _speaking(self, key: str, done: str) -> Iterator[None]:
        exceptions = _exceptions()
        try:
            yield
        except exceptions.BaseError as error:
            denied = isinstance(error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError)
            raise WarehouseError(
                f"{self.url}/{key}: cannot be {done}: {_reason(error)}",
                hint="check the keys in the environment, and what they may do"
                if denied
                else "check the address, the endpoint and the network; nothing is half written, the same command "
                "resumes from here",
            ) from error


def normal(scheme: str, rest: str) -> str:
    """The address by one spelling. Raises InputError for a scheme that is not taken, and where no bucket is named."""
    bucket, _, path = rest.strip("/").partition("/")
    if scheme not in SCHEMES:
        raise InputError(
            f"{scheme}://{rest}: is an address of a kind that holds no warehouse",
            hint="a warehouse is a folder, or at s3://, gs:// or az://; an S3 server of another kind is named by "
            "AWS_ENDPOINT_URL",
        )
    if not bucket or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._@-]*", bucket):
        raise InputError(f"{scheme}://{rest}: is an address that names no bucket", hint="such as s3://bucket/warehouse")
    segments = [segment for segment in path.split("/") if segment]
    if wrong := re.search(r"[^A-Za-z0-9._=@+ -]", "".join(segments)) or {".", ".."} & set(segments):
        sign = wrong[0] if isinstance(wrong, re.Match) else sorted(wrong)[0]
        raise InputError(
            f"{scheme}://{rest}: is an address with {sign!r} in it", hint="use letters, digits and . _ - ="
        )
    return "/".join((f"{SCHEMES[scheme]}://{bucket}", *segments))


def _open(url: str) -> ObjectStore:
    try:
        from obstore.store import from_url
    except ImportError:
        raise InputError(
            f"{url}: a warehouse at an address needs obstore", hint='pip install "constitution[cloud]"'
        ) from None
    options: dict[str, Any] = dict(_CLIENT)
    if any(value.startswith("http://") for name, value in os.environ.items() if "ENDPOINT" in name.upper()):
        options["allow_http"] = True  # who names such an endpoint means it
    try:
        return from_url(url, client_options=options, retry_config=_RETRY)  # type: ignore[no-any-return,call-overload]
    except (_exceptions().BaseError, ValueError) as error:
        raise InputError(f"{url}: cannot be opened: {_reason(error)}", hint="check the address and the keys") from None


def _obstore() -> Any:
    import obstore

    return obstore


def _exceptions() -> Any:
    import obstore.exceptions

    return obstore.exceptions


def _again(read: Callable[[], T]) -> T:
    """A download that breaks off is begun again; obstore repeats requests, not what comes after their headers."""
    exceptions = _exceptions()
    for left in reversed(range(TRIES)):
        try:
            return read()
        except exceptions.GenericError:
            if not left:
                raise
            time.sleep(_PAUSE * 2 ** (TRIES - 1 - left))
    raise AssertionError("unreachable")


def _version(meta: Any) -> Version:
    return {name: meta[name] for name in ("e_tag", "version") if meta.get(name)}


def _reason(error: Exception) -> str:
    """On one line, without obstore's dump of its source."""
    text = str(error).split("\n\nDebug source")[0]
    code, message = (re.search(f"<{name}>(.*?)</{name}>", text, re.DOTALL) for name in ("Code", "Message"))
    said = f": {code[1]}{f' ({message[1]})' if message else ''}" if code else ""
    return " ".join(re.sub(r"<\?xml.*", "", text, flags=re.DOTALL).split())[:400] + said
