"""What a run's folder says of its waves: which requests are in them, and under which id the server has them.

A note is written before its batch is made and again once the server has named it, each time whole and on the disk. So
a kill at any moment leaves it known what has been sent, or that it may have been, which the server is asked. Beside
the note lies what came back, as it came, until the run is finished.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from constitution.engines.base import Request
from constitution.errors import RecipeError, WarehouseError
from constitution.writing import beside


@dataclass(slots=True)
class Note:
    """One wave."""

    wave: str
    """Its name, and the beginning of its requests' custom_ids; hex digits."""
    made: float
    """When the batch was about to be made; Unix time."""
    place: str
    """The server's address."""
    keys: list[str]
    """Its requests, in their order there (`key_of`)."""
    file: str = ""
    """Id of the uploaded file; empty: none was needed, or it is not uploaded yet."""
    batch: str = ""
    """Id of the batch; empty: not made yet, or that is not known."""

    def custom_id(self, number: int) -> str:
        return f"{self.wave}-{number}"


def key_of(path: str, body: bytes, request: Request) -> str:
    """What tells a request from every other one of a run, also in a later start: what is sent, and what it is for,
    since APIs without seeds are sent the same for every repeat of a vote."""
    about = [path, hashlib.sha256(body).hexdigest(), request.seed, request.affinity, request.step, request.answered]
    return hashlib.sha256(orjson.dumps(about)).hexdigest()[:32]


class Notes:
    """The notes of a run, in a folder of their own, which need not exist. All its engines share them: which sections
    share an engine may be another matter in the next start."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def there(self) -> bool:
        return self.folder.is_dir()

    def read(self) -> list[Note]:
        """Those of earlier starts, the earliest first. Raises WarehouseError for one that cannot be read."""
        found = []
        for path in sorted(self.folder.glob("*.json")):
            try:
                found.append(Note(**orjson.loads(path.read_bytes())))
            except (OSError, ValueError, TypeError) as error:
                raise WarehouseError(
                    f"{path}: cannot be read as the note of a batch: {error}",
                    hint="put it back as it was; without it, what is in that batch is paid for again",
                ) from None
        return sorted(found, key=lambda note: note.made)

    def write(self, note: Note) -> None:
        with self._replacing(self.path(note)) as file:
            file.write(orjson.dumps(asdict(note)))

    def forget(self, note: Note) -> None:
        """Nothing of it was or will be worked."""
        self.path(note).unlink(missing_ok=True)

    def path(self, note: Note) -> Path:
        return self.folder / f"{note.wave}.json"

    def results(self, note: Note) -> Path:
        """The lines that came back; the file is there once all of them are."""
        return self.folder / f"{note.wave}.jsonl"

    async def keep(self, note: Note, lines: AsyncIterator[bytes]) -> None:
        """Makes the file of results. lines: each with its end."""
        with self._replacing(self.results(note)) as file:
            async for line in lines:
                file.write(line)

    @contextmanager
    def _replacing(self, path: Path) -> Iterator[Any]:
        """A file that becomes `path`, on the disk, when the block ends well."""
        temporary = beside(path)
        try:
            # No more than these: a warehouse that is gone is not made again.
            for folder in (self.folder.parent, self.folder):
                folder.mkdir(exist_ok=True)
            try:
                with temporary.open("xb") as file:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                temporary.rename(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
            for folder in (self.folder, *self.folder.parents[:2]):
                sync(folder)
        except OSError as error:
            raise WarehouseError(
                f"{path}: cannot be written: {error.strerror or error}",
                hint="check free space and permissions; the same command resumes from here",
            ) from error


def at_places(folder: Path, places: Collection[str]) -> None:
    """Holds the notes against the servers that a start asks. Where there is one only, it has what came back from where
    it was before. Raises RecipeError where requests are at a server that is none of them, and where there are several,
    of which one model may now be asked for what another one said."""
    notes = Notes(folder)
    for note in notes.read():
        if note.place in places:
            continue
        if len(places) > 1 or not notes.results(note).exists():
            raise RecipeError(
                f"base_url: {len(note.keys):,} requests are in batch {note.batch or '(just made)'} at {note.place}, "
                "and no model has this base_url",
                hint=f"give that address; or delete the notes in {folder} that name it, and they are paid for again",
            )
        notes.write(replace(note, place=next(iter(places))))


def sync(folder: Path) -> None:
    """Makes what is new in it survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
