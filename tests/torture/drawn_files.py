"""Hypothesis's strategies for files that are damaged, and for values that are changed, anywhere."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from typing import Any, TypeVar

from conftest import Torture
from hypothesis import strategies as st
from properties import JSON, holds

from constitution.errors import ConstitutionError

T = TypeVar("T")

COUNTED = "bad inputs by chance"

# --- what happens to a file

ODD: st.SearchStrategy[Any] = JSON | st.sampled_from(
    [
        None,
        True,
        -1,
        0,
        2**31,
        2**63,
        10**30,
        -0.0,
        1e400,
        math.nan,
        "",
        "x",
        "\x00",
        "../x",
        [],
        {},
        [[]],
        [{}],
        {"": 0},
    ]
)
"""A value in another's place."""
JUNK = st.binary(max_size=6) | st.sampled_from(
    [
        *(
            b"\x00",
            b"\xff\xfe",
            b"\xef\xbb\xbf",
            b"\xed\xa0\x80",
            b"\\ud800",
            b"NaN",
            b"1e999",
            b"9" * 5000,
            b"[" * 3000,
        ),
        *(b'"', b"'''", b"{", b"}", b"]", b"\n", b"\r", b"\n\n", b"=", b",", b"#", b"\\", b"\x1f\x8b", b"PAR1"),
    ]
)
"""Bytes among others."""


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where a value has values in it, the outermost first."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *itertools.chain.from_iterable(places(each, (*at, key)) for key, each in inner)]


def put(value: Any, at: tuple[Any, ...], what: Any, how: str) -> Any:
    """`value` with `what` in the place `at`; or without that place; or under another name there."""
    if not at:
        return what
    copy = dict(value) if isinstance(value, dict) else list(value)
    if len(at) > 1:
        copy[at[0]] = put(copy[at[0]], at[1:], what, how)
    elif how == "gone":
        del copy[at[0]]
    elif how == "named" and isinstance(copy, dict):
        copy[str(what)] = copy.pop(at[0])
    elif how == "twice" and isinstance(copy, list):
        copy.append(copy[at[0]])
    else:
        copy[at[0]] = what
    return copy


@st.composite
def changed(draw: st.DrawFn, sound: Any) -> Any:
    """A sound value with one to three of its values changed."""
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.sampled_from(places(sound)))
        sound = put(sound, at, draw(ODD), draw(st.sampled_from(["other", "other", "gone", "named", "twice"])))
    return sound


@st.composite
def damaged(draw: st.DrawFn, sound: bytes) -> bytes:
    """Bytes with pieces cut out, put in, doubled or flipped; or any others."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=200))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(sound)))
        end = draw(st.integers(start, min(len(sound), start + 40)) | st.just(len(sound)))
        how = draw(st.sampled_from(["cut", "put", "double", "flip"]))
        piece = {"cut": b"", "put": draw(JUNK), "double": sound[start:end] * 2}.get(how)
        if piece is None:
            piece = bytes(byte ^ 1 << draw(st.integers(0, 7)) for byte in sound[start : start + 1])
            end = start + len(piece)
        sound = sound[:start] + piece + sound[end:]
    return sound


def toml(value: Any) -> str:
    """A value in TOML's notation, on one line; None, which TOML has not, is left out or 0."""
    if isinstance(value, dict):
        return (
            "{" + ", ".join(f"{toml(str(key))} = {toml(each)}" for key, each in value.items() if each is not None) + "}"
        )
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, str):
        return (
            json.dumps(value).replace("\x7f", "\\u007f") if value.isascii() else json.dumps(value, ensure_ascii=False)
        )
    return "0" if value is None else str(value).lower()


def toml_file(value: Any) -> bytes:
    tables = value.items() if isinstance(value, dict) else [("x", value)]
    return "".join(f"{toml(str(key))} = {toml(each)}\n" for key, each in tables if each is not None).encode()


def json_file(value: Any) -> bytes:
    return json.dumps(value).encode()


def lines(value: Any) -> bytes:
    return b"".join(json_file(each) + b"\n" for each in value) if isinstance(value, list) else json_file(value)


def files(sound: Any, render: Callable[[Any], bytes]) -> st.SearchStrategy[bytes]:
    return changed(sound).map(render) | damaged(render(sound))


def taken(torture: Torture, read: Callable[[T], object], drawn: st.SearchStrategy[T], short: int) -> None:
    """Reads what is drawn. Some of it must be taken and some refused, or the test is of one kind alone."""
    told = {True: 0, False: 0}

    def check_one(data: T) -> None:
        try:
            read(data)
        except ConstitutionError as error:
            refused = str(error)
            told[False] += 1
        else:
            told[True] += 1
            return
        assert refused, "refused without a word"

    check_one.__qualname__ = read.__qualname__
    holds(torture, check_one, drawn, short=short)
    assert told[False], "nothing was refused"
    torture.count(COUNTED, told[False])
