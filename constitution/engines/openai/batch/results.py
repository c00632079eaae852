"""The file of results of a batch: found line by line, in whatever order they came."""

from __future__ import annotations

from pathlib import Path

from constitution.engines.openai.batch.api import BatchAPI, Result
from constitution.engines.openai.batch.notes import Note
from constitution.engines.openai.http import Transport
from constitution.errors import MalformedReply


class Results:
    """What is where in the file; the lines themselves stay there."""

    def __init__(self, path: Path, note: Note, api: BatchAPI, transport: Transport) -> None:
        self._path, self._api, self._transport = path, api, transport
        self._places: dict[int, tuple[int, int]] = {}
        """Offset and length of the line, by the number of the request."""
        self.odd: list[str] = []
        """What is odd about the file, as ends of a sentence."""
        self._scan(note)

    def _scan(self, note: Note) -> None:
        numbers = {note.custom_id(number): number for number in range(len(note.keys))}
        answered: set[int] = set()
        unread = unknown = twice = unanswered = at = 0
        with self._path.open("rb") as file:
            for line in file:
                begin, at = at, at + len(line)
                if not line.strip():
                    continue
                result = result_of(self._api, self._transport, line)
                number = numbers.get(result.custom_id) if result else None
                unread += result is None
                unknown += result is not None and number is None
                if result is None or number is None:
                    continue
                twice += number in self._places
                # Of several lines the first counts, and an answer before an error.
                if number not in self._places or (result.reply is not None and number not in answered):
                    self._places[number] = (begin, len(line))
                if result.reply is not None:
                    answered.add(number)
                unanswered += not result.status
        said = {
            "lines that cannot be read": unread,
            "lines of requests that it was not sent": unknown,
            "further lines of requests that have one (an answer counts before an error, then the first)": twice,
            "requests that it says it did not answer": unanswered,
            "requests without a line": len(numbers) - len(self._places),
        }
        self.odd = [f"{what}: {count:,}" for what, count in said.items() if count]

    def get(self, number: int) -> Result:
        if number not in self._places:
            return Result("", status=0)
        offset, length = self._places[number]
        with self._path.open("rb") as file:
            file.seek(offset)
            result = result_of(self._api, self._transport, file.read(length))
        assert result is not None
        return result


def result_of(api: BatchAPI, transport: Transport, line: bytes) -> Result | None:
    """What a line says; None: nothing that can be read."""
    try:
        return api.result(transport.decoded(line))
    except MalformedReply:
        return None
