"""How texts are compared: the same in every step, as expressions of DuckDB's SQL, whose patterns know Unicode."""

from __future__ import annotations


def spaced(text: str) -> str:
    """SQL: the text with single blanks for white space, and none around it."""
    return rf"trim(regexp_replace({text}, '[\s\p{{Z}}]+', ' ', 'g'))"


def plain(text: str) -> str:
    """SQL: the same in lower case, composed (NFC)."""
    return f"lower(nfc_normalize({spaced(text)}))"


def words(text: str) -> str:
    """SQL: its words as a list: runs of letters, their marks and numbers, in lower case; punctuation is not seen."""
    return rf"regexp_extract_all(lower(nfc_normalize({text})), '[\p{{L}}\p{{M}}\p{{N}}]+')"
