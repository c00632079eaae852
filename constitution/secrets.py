"""Keys: what looks like one, and how one is taken out of what others say.

Secret("sk-…").hide("Bearer sk-… is not known")     # "Bearer *** is not known"
hide_keys("--set key=sk-…")                         # any key's shape, where it is not known which
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, quote_plus

HIDDEN = "***"

TELLING = 16
"""Characters from which a key does not stand in a text by chance. A shorter one, such as the `EMPTY` that people give
to servers that want none, is left in answers."""

_SHAPES = re.compile(
    r"""
    \b(?:sk|pk|rk)[-_][A-Za-z0-9_-]{12,}                          # OpenAI, Anthropic, Stripe and who follows them
    | \b(?:hf|gsk|r8|fw|gh[opsur]|glpat|xox[abp])[-_][A-Za-z0-9-]{16,}  # Hugging Face, Groq, Replicate, GitHub …
    | \b(?:xai|nvapi|pplx|csk|tgp)[-_][A-Za-z0-9_-]{16,}          # xAI, NVIDIA, Perplexity, Cerebras, Together
    | \bAIza[A-Za-z0-9_-]{30,} | \bAKIA[A-Z0-9]{16}               # Google, Amazon
    | \beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*   # JSON web tokens
    | \b(?i:bearer|basic)\s+[A-Za-z0-9._~+/=-]{12,}               # a header's value
    """,
    re.VERBOSE,
)
_NAMES = re.compile(
    r"(?i)(?:.*[_.-])?(?:api[_-]?key|authorization|password|passwd|secret|credentials?"
    r"|(?:access|auth|bearer|api|hf|refresh|session)[_-]?token|token|secret[_-]?key|access[_-]?key)"
)


class Secret:
    """A key in the forms that a server may repeat it in. An empty one hides nothing."""

    def __init__(self, key: str) -> None:
        # The longest first: a form may be a part of another.
        self._forms = sorted(set(_forms(key)), key=len, reverse=True) if key else []
        self._telling = [form.encode() for form in self._forms] if len(key) >= TELLING else []

    def hide(self, text: str) -> str:
        """`text` with *** for the key."""
        for form in self._forms:
            text = text.replace(form, HIDDEN)
        return text

    def hide_bytes(self, raw: bytes) -> bytes:
        """`raw`, UTF-8, with *** for the key, if that is a telling one and is there without escapes."""
        for form in self._telling:
            raw = raw.replace(form, HIDDEN.encode())
        return raw

    def hide_in(self, raw: bytes, value: Any) -> Any:
        """`value`, decoded from the JSON `raw`, with *** for the key, if that is a telling one."""
        if not self._telling:
            return value
        # An escape can spell the key in many ways; it is seen once decoded.
        if b"\\u" in raw or b"\\/" in raw or any(form in raw for form in self._telling):
            return self._walk(value)
        return value

    def _walk(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.hide(value)
        if isinstance(value, list):
            return [self._walk(inner) for inner in value]
        if isinstance(value, dict):
            return {self.hide(name): self._walk(inner) for name, inner in value.items()}
        return value


def _forms(key: str) -> Iterator[str]:
    yield key
    yield json.dumps(key)[1:-1]
    yield json.dumps(key)[1:-1].replace("/", "\\/")
    yield html.escape(key)
    if len(key) < TELLING:
        return
    for quoted in (quote(key, safe=""), quote_plus(key), quote(key)):
        yield quoted
        yield re.sub("%..", lambda found: found[0].lower(), quoted)
    raw = key.encode()
    yield raw.hex()
    yield raw.hex().upper()
    # Base64 of a text with the key in it, such as `Bearer sk-…`, by what stands before it: the characters that are of
    # the key alone, six bits each.
    for before in range(3):
        first, end = -(-8 * before // 6), 8 * (before + len(raw)) // 6
        yield base64.b64encode(bytes(before) + raw).decode()[first:end]
        yield base64.urlsafe_b64encode(bytes(before) + raw).decode()[first:end]


def hide_keys(text: str) -> str:
    """`text` with *** for whatever has the shape of a key."""
    return _SHAPES.sub(HIDDEN, text)


def key_in(value: Any, *place: str) -> str | None:
    """Where in `value`, a recipe's tables, something has the shape of a key, or a model's section has a field that is
    called as keys are; None: nowhere. The place that is told holds no key."""
    if isinstance(value, str):
        return ".".join(place) if _SHAPES.search(value) else None
    if isinstance(value, dict):
        for name, inner in value.items():
            here = (*place, hide_keys(str(name)))
            named = here[0] == "model" and bool(_NAMES.fullmatch(str(name))) and isinstance(inner, str)
            if here[-1] != str(name) or named:
                return ".".join(here)
            if found := key_in(inner, *here):
                return found
    if isinstance(value, list | tuple):
        return next((found for inner in value if (found := key_in(inner, *place))), None)
    return None
