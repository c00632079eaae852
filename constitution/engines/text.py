"""What models write, held against what can be stored as it is."""

from __future__ import annotations

import re
from collections.abc import Callable

from constitution.errors import MalformedReply

REPLACED = "{n} answers hold U+FFFD, which is put for bytes that are no text: they are stored as they came"
HALF = "{n} answers were cut within a character: what there was of it is dropped"

_CUT = re.compile("[\ufffd\ud800-\udfff]{1,3}$")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def storable(text: str, cut: bool, model: str, note: Callable[[str], object]) -> str:
    """`text`, of which a last character that is not whole is dropped if it was cut by max_tokens. Raises MalformedReply
    for NUL and halves of surrogate pairs, which no table can hold as they are: to replace them would be to write what
    the model did not."""
    if cut and _CUT.search(text):
        note(HALF)
        text = _CUT.sub("", text)
    if found := _UNSTORABLE.search(text):
        what = "a NUL" if found[0] == "\0" else "half of a surrogate pair"
        raise MalformedReply(
            f"{model}: character {found.start() + 1} of the answer is {what}, which is no text",
            hint="the server decodes the model's tokens wrongly; a newer version may not",
        )
    if "\ufffd" in text:
        note(REPLACED)
    return text
