"""Personal data and secrets, by published detectors: presidio's recognisers of patterns, and detect-secrets' plugins.

What has a checksum is checked (cards, IBAN, addresses of wallets), what has a shape is taken by its shape. Names and
street addresses are not looked for: that needs another language model, and is often wrong. Nothing is asked of the
network: the list of top-level domains is the one that tldextract ships.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from typing import Any

from constitution.errors import InputError
from constitution.export.reasons import Dropped
from constitution.export.work import Work

Detector = Callable[[str], set[str]]
"""The kinds of private data that are in a text."""

LEAST = 0.5
"""Presidio's score from which a finding counts: a shape that says enough by itself, or a checksum that is right."""
STRICT = 2
"""phonenumbers' leniency STRICT_GROUPING: a valid number whose digits are grouped as its country groups them. Looser,
every other long number is one."""
NOISY = {"Base64HighEntropyString", "HexHighEntropyString", "IPPublicDetector"}
"""Plugins that are not used: digests and identifiers are no secrets; addresses are looked at here."""

_UNICAST = ipaddress.ip_network("2000::/3")
"""The IPv6 addresses that are given out."""
_DIGIT = re.compile(r"\d")
_NUMBER = re.compile(r"\d(?:[^\w\n]{0,3}\d){6}")
"""Seven digits with little between: where there are none, the slow search for telephone numbers finds nothing."""


def private(work: Work) -> None:
    """Reason `private`: a turn of the prompt or an answer has personal data or a secret; detail: of what kind, never
    what. Raises InputError where the extra `clean` is not installed."""
    find = detector()
    found: list[tuple[str, str]] = []
    texts = """
        SELECT id, concat_ws(chr(10), array_to_string(list_transform(messages, lambda m: m.content), chr(10)), answer,
                             other) AS text
        FROM export.texts
        """
    for batch in work.batches(texts):
        for id, text in zip(batch["id"].to_pylist(), batch["text"].to_pylist(), strict=True):
            if kinds := find(text):
                found.append((id, ", ".join(sorted(kinds))))
    work.drop_found(Dropped.PRIVATE, found)


def detector() -> Detector:
    """Both packages' detectors together."""
    try:
        personal, secrets = _personal(), _secrets()
    except ImportError as error:
        raise InputError(
            f"--drop-private: {error.name or 'a package'} is not installed", hint='pip install "constitution[clean]"'
        ) from None
    return lambda text: set(personal(text)) | set(secrets(text))


def _personal() -> Callable[[str], Iterator[str]]:
    """Presidio's recognisers of patterns that hold everywhere, and of US social security numbers."""
    import tldextract
    from presidio_analyzer import predefined_recognizers as presidio

    domains = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)

    class Email(presidio.EmailRecognizer):
        def validate_result(self, pattern_text: str) -> bool:
            return bool(domains(pattern_text).fqdn)

    names = ("CreditCard", "Crypto", "Iban", "MacAddress", "UsSsn")
    numbers = [getattr(presidio, f"{name}Recognizer")() for name in names]
    email, ip, phone = Email(), presidio.IpRecognizer(), presidio.PhoneRecognizer(leniency=STRICT)

    def find(text: str) -> Iterator[str]:
        if "@" in text and any(each.score >= LEAST for each in email.analyze(text, email.supported_entities)):
            yield "EMAIL_ADDRESS"
        digits = _DIGIT.search(text)
        if digits or "::" in text:
            for each in ip.analyze(text, ip.supported_entities):
                if each.score >= LEAST and _is_public(text[each.start : each.end]):
                    yield each.entity_type
        if digits:
            for recogniser in numbers:
                for each in recogniser.analyze(text, recogniser.supported_entities):
                    if each.score >= LEAST:
                        yield each.entity_type
        if _NUMBER.search(text) and phone.analyze(text, phone.supported_entities):
            yield "PHONE_NUMBER"

    return find


def _is_public(address: str) -> bool:
    """Whether an IP address, of a network too, can be a person's: `a::b` in a program can not."""
    try:
        ip = ipaddress.ip_interface(address.partition("%")[0]).ip
    except ValueError:
        return False
    return ip.is_global and (ip.version == 4 or ip in _UNICAST)


def _secrets() -> Callable[[str], Iterator[str]]:
    """Every plugin of detect-secrets but the noisy ones, line by line. `analyze_string` finds, and asks no service
    whether a secret works, which `analyze_line` may."""
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
    from detect_secrets.plugins.keyword import DENYLIST, KeywordDetector

    kinds: dict[str, Any] = get_mapping_from_secret_type_to_class()
    quick = [kind() for kind in kinds.values() if kind.__name__ not in NOISY and kind is not KeywordDetector]
    named = re.compile("|".join(DENYLIST), re.IGNORECASE)
    by_name = KeywordDetector()  # half of all the time, if it had to look at lines without any of its names

    def find(text: str) -> Iterator[str]:
        for line in text.splitlines():
            for plugin in [*quick, by_name] if named.search(line) else quick:
                if next(iter(plugin.analyze_string(line)), None) is not None:
                    yield plugin.secret_type

    return find
