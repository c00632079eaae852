"""What tests of properties share: how many examples are tried, and what they are made of.

    holds(torture, check, st.tuples(TEXT, TEXT))

The examples are those of the torture's seed: the same seed, the same examples.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from conftest import Torture
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

T = TypeVar("T")

LONGER = 20
"""Times as many examples in the long version."""

PIECES = [
    *(
        '"',
        "'",
        '"""',
        "\\",
        "\\u0041",
        "`",
        "$",
        "%s",
        "{x}",
        "<b>",
        ",",
        ";",
        "|",
        "=",
        "=1+1",
        "'=1",
        "-1",
        "@",
        "#",
    ),
    *("\n", "\r", "\r\n", "\n\n", "\t", " ", "  ", "\x0b", "\x0c", "\x1c", "\x1f", "\x85", "\u2028", "\u2029", "\xa0"),
    *("\ufeff", "\u200b", "\u202e", "\ufffd", "\uffff", "\U0010ffff", "\U000e0041", "\x1b[2J", "\x7f", "\x80", "\x01"),
    *(
        "é",
        "e\u0301",
        "\ufb01",
        "\u212a",
        "ß",
        "\u0130",
        "日本",
        "😀",
        "👩‍👩‍👧",
        "ו",
        "null",
        "NULL",
        "NaN",
        "true",
        "1.0",
        "1e5",
        "0x1",
    ),
    *(
        "2020-01-01",
        "Human: x",
        "\n\nHuman: x",
        "<|im_end|>",
        "[end]",
        '\nversion = "9.9.9"\n',
        "word " * 30,
        "x" * 300,
    ),
]
"""Of which something on the way might make something else."""

TEXT = st.lists(st.sampled_from(PIECES) | st.text(st.characters(codec="utf-8"), max_size=8), max_size=6).map("".join)
"""Any text that UTF-8 holds."""
SAID = TEXT.map(lambda text: text.replace("\x00", "")).filter(str.strip)
"""What a prompt may say: prompts without NUL, and not blank."""
COUNT = st.integers(-(2**31), 2**31 - 1)

ATOMS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
JSON: st.SearchStrategy[Any] = st.recursive(
    ATOMS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=8
)
"""Any value that JSON holds."""


def holds(
    torture: Torture, check: Callable[[T], None], strategy: st.SearchStrategy[T], *, short: int = 25, full: int = 0
) -> int:
    """Tries `check` on so many examples; fails with the smallest for which it fails. Returns how many were tried."""
    tried = 0

    @seed(f"{torture.seed}/{check.__qualname__}")
    @settings(
        max_examples=(full or LONGER * short) if torture.full else short,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def example(drawn: T) -> None:
        nonlocal tried
        check(drawn)
        tried += 1

    example()
    return tried


def any_of(hint: Any, given: dict[str, st.SearchStrategy[Any]] | None = None) -> st.SearchStrategy[Any]:
    """Any value of a type that records have. given: of a dataclass, the fields that are drawn otherwise.

    A field that is added tomorrow is drawn from too.
    """
    args = get_args(hint)
    if isinstance(hint, type) and issubclass(hint, tuple) and hint is not tuple:  # a NamedTuple
        return st.builds(hint, **{name: any_of(kind) for name, kind in get_type_hints(hint).items()})
    if is_dataclass(hint):
        assert isinstance(hint, type)
        hints = get_type_hints(hint)
        drawn = {field.name: any_of(hints[field.name]) for field in fields(hint)}
        return st.builds(hint, **{**drawn, **(given or {})})
    if get_origin(hint) in (Union, types.UnionType):
        return st.one_of([any_of(arg) for arg in args])
    if get_origin(hint) is Literal:
        return st.sampled_from(args)
    if get_origin(hint) is tuple:
        assert args[1] is ...
        return st.lists(any_of(args[0]), max_size=3).map(tuple)
    if get_origin(hint) is dict:
        return st.dictionaries(any_of(args[0]), any_of(args[1]), max_size=3)
    plain: dict[Any, st.SearchStrategy[Any]] = {
        str: TEXT, bool: st.booleans(), int: COUNT, float: st.floats(allow_nan=False), type(None): st.none(), Any: JSON,
    }  # fmt: skip
    return plain[hint]


def lists(strategy: st.SearchStrategy[T], most: int = 5) -> st.SearchStrategy[Sequence[T]]:
    return st.lists(strategy, min_size=1, max_size=most)
