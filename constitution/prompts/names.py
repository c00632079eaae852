"""Which key of a file's rows names them: found by looking at all rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from constitution.prompts.keys import plain_key
from constitution.prompts.row import Row

_NAMES = (
    *("id", "uid", "uuid", "promptid", "questionid", "messageid", "conversationid", "conversationhash", "customid"),
    *("exampleid", "instructionid", "sampleid", "taskid", "rowid", "pairid", "idx", "index", "key", "hash"),
)
"""Keys that hold names in public data sets, the likeliest first, as `plain_key` writes them."""


class Names:
    """Follows the likeliest key through all rows."""

    def __init__(self, sample: Iterable[dict[str, Any]]) -> None:
        """sample: the first rows."""
        keys = {plain_key(key): key for row in sample for key in row}
        self._key = next((keys[name] for name in _NAMES if name in keys), None)
        self._seen = set[int]()

    @property
    def found(self) -> str | None:
        """The key, where each row that was seen has another text or number there."""
        return self._key

    def watched(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The rows, which are looked at as they pass. Memory: 60 bytes a row."""
        for row in rows:
            if self._key is not None and not row.fault:
                value = row.data.get(self._key)
                named = isinstance(value, str | int | float) and not isinstance(value, bool) and str(value).strip()
                if not named or (mark := hash(str(value))) in self._seen:
                    self._key = None
                else:
                    self._seen.add(mark)
            yield row
