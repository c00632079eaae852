"""How texts are compared: the same in every step, as expressions of DuckDB's SQL, whose patterns know Unicode."""

from __future__ import annotations


def spaced(text: str) -> str:
    """SQL: the text with single blanks for white space, and none around it."""
    return rf"trim(regexp_replace({text}, '[\s\p{{Z}}]+', ' ', 'g'))"


def plain(text: str) -> str:
    """SQL: the same in lower case, composed (NFC)."""
    return f"lower(nfc_normalize({spaced(text)}))"


def words(text: str) -> str:
    """SQL: its words as a list: runs of letters, their marks and numbers, in lower case; punctuation is not seen. Each
    sign of Chinese and Japanese, which are written without blanks, is a word."""
    one = r"\p{Han}|\p{Hiragana}|\p{Katakana}|[\p{L}\p{M}\p{N}]+"
    return f"regexp_extract_all(lower(nfc_normalize({text})), '{one}')"


def grams(words: str, size: int) -> str:
    """SQL: the runs of `size` words of a list of words, each with blanks between, in order; none of a shorter list."""
    return (
        f"list_transform(range(1, len({words}) - {size - 2}), "
        f"lambda i: array_to_string({words}[i : i + {size - 1}], ' '))"
    )
