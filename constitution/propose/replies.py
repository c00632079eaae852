"""Model replies kept in a file, so that work which stopped, however it stopped, asks nothing twice.

    with Replies.open(folder / "replies.jsonl") as replies:
        async with opened(section) as engine:
            kept = replies.of(engine, model_identity(section))
            completion = await kept.generate(request)        # from the file, else from the engine
        print(replies.asked, replies.kept)

One line a reply, written whole as soon as it exists. Its key is the digest of what decides the model's answers and of
the whole request; where a request is served, how fast and for which step is not in it. A failure is no reply: it is
raised, and the next start asks again.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from constitution.engines import Completion, Engine, Request
from constitution.engines.base import Unseen
from constitution.errors import InputError
from constitution.identity import digest

_OPERATIONAL = ("priority", "affinity", "step", "answered")
"""Fields of a request that do not decide its reply."""


@dataclass(slots=True)
class Replies:
    """The replies of one file. To be made by `open`, which lets one process write it at a time."""

    _path: Path
    _file: IO[bytes]
    _known: dict[str, Completion]
    torn: str = ""
    """What the end of the file was, if a process was killed while it wrote there; empty: it was whole."""
    asked: int = 0
    """Requests that went to a model."""
    kept: int = 0
    """Requests that were answered from the file."""
    prompt_tokens: int = 0
    """Those of the requests that went to a model."""
    completion_tokens: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    """Requests without a reply, by class of error."""

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[Replies]:
        """The replies in `path`, which is made where it is missing. A last line that is not whole is taken off.

        Raises InputError for a line that is no reply, and while another process has the file open.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise InputError(
                    f"{path}: another process is writing it", hint="wait until it has ended, or stop it"
                ) from None
            file.seek(0)
            known, whole, torn = _read(path, file.read())
            if torn:
                file.truncate(whole)
            yield cls(path, file, known, torn)

    def of(self, engine: Engine, identity: Mapping[str, Any]) -> Kept:
        """`engine` with the replies before it. identity: what decides its answers (`engines.identity`)."""
        return Kept(self, engine, digest(dict(identity)))

    def known(self, key: str) -> Completion | None:
        return self._known.get(key)

    def add(self, key: str, request: Request, model: str, completion: Completion) -> None:
        """Writes a reply. Two equal requests under way at once may both be asked; the first reply stays."""
        if key in self._known:
            return
        row = {"key": key, "step": request.step, "model": model, "at": _now(), **asdict(completion)}
        line = json.dumps({name: value for name, value in row.items() if value not in (None, ())}, ensure_ascii=False)
        self._file.write(line.encode("utf-8", "surrogatepass") + b"\n")
        self._file.flush()
        self._known[key] = completion


class Kept(Engine):
    """An engine that looks a request up before it asks."""

    def __init__(self, replies: Replies, engine: Engine, identity: str) -> None:
        self._replies, self._engine, self._identity = replies, engine, identity

    def knows(self, request: Request) -> bool:
        """Whether the file has a reply to it."""
        return self._replies.known(self._key(request)) is not None

    @property
    def model(self) -> str:
        return self._engine.model

    def describe(self) -> Mapping[str, str]:
        return self._engine.describe()

    def stats(self) -> Mapping[str, Any]:
        return self._engine.stats()

    async def generate(self, request: Request) -> Completion:
        replies, key = self._replies, self._key(request)
        if (known := replies.known(key)) is not None:
            replies.kept += 1
            return known
        replies.asked += 1
        try:
            completion = await self._engine.generate(request)
        except Exception as error:
            name = type(error).__name__
            replies.failures[name] = replies.failures.get(name, 0) + 1
            raise
        replies.prompt_tokens += completion.prompt_tokens
        replies.completion_tokens += completion.completion_tokens
        replies.add(key, request, self.model, completion)
        return replies.known(key) or completion

    async def close(self) -> None:
        await self._engine.close()

    def _key(self, request: Request) -> str:
        decisive = {name: value for name, value in asdict(request).items() if name not in _OPERATIONAL}
        return digest([self._identity, _plain(decisive)])


def _plain(value: Any) -> Any:
    """`value` as JSON has it: lists for tuples."""
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _read(path: Path, data: bytes) -> tuple[dict[str, Completion], int, str]:
    """The replies by their keys, the length of what is whole, and what follows that."""
    whole = data.rfind(b"\n") + 1
    known: dict[str, Completion] = {}
    for number, line in enumerate(data[:whole].split(b"\n")[:-1], 1):
        try:
            row = json.loads(line.decode("utf-8", "surrogatepass"))
            key = row["key"]
            known.setdefault(key, _completion(row))
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"{path}, line {number}: is no reply ({type(error).__name__}: {error})",
                hint="take this line out of the file; its request is asked again",
            ) from None
    return known, whole, data[whole:].decode("utf-8", "replace")


def _completion(row: Mapping[str, Any]) -> Completion:
    fields = {name: row[name] for name in Completion.__dataclass_fields__ if name in row}
    if "unsent" in fields:
        fields["unsent"] = tuple(fields["unsent"])
    if "unseen" in fields:
        fields["unseen"] = Unseen(*fields["unseen"])
    return Completion(**fields)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
