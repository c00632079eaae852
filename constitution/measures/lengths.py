"""How long a text is, without a tokenizer."""

from __future__ import annotations

import re

_WORD = re.compile(r"[\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]|[^\W\u3041-\u30ff\u31f0-\u31ff"
                   r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+(?:['’.,_-]\w+)*")  # fmt: skip


def words(text: str) -> int:
    """Words: runs of letters and digits, with the marks inside them (don't, 3.14, well-known). Each character of
    Chinese and Japanese, which are written without spaces, counts as one; of Thai and the like, each run."""
    return sum(1 for _ in _WORD.finditer(text))
