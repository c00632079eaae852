"""Personal data and secrets; and all steps together, here because the detectors take seconds to load.

What looks like a secret is put together in this file, for scanners of it.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import pytest
from export_rows import Row, dropped

from constitution.errors import InputError
from constitution.export.clean.private import Detector, detector

PLANTED = {
    "EMAIL_ADDRESS": ("Write to jane.doe@example.com please.", "müller@firma.de", "I am a.b+c@sub.domain.co.uk, hi"),
    "CREDIT_CARD": ("My card is 4111 1111 1111 1111.", "5500-0000-0000-0004 expires soon", "378282246310005"),
    "IBAN_CODE": ("IBAN DE89 3704 0044 0532 0130 00", "GB82WEST12345698765432"),
    "PHONE_NUMBER": ("Call me at (212) 555-0187.", "+44 20 7946 0958", "Phone: 212-456-7890", "Ruf 030 901820 an"),
    "IP_ADDRESS": ("My server is 8.8.8.8", "from 93.184.216.34:8080", "2001:4860:4860::8888 answered"),
    "MAC_ADDRESS": ("00:1A:2B:3C:4D:5E is the device",),
    "US_SSN": ("My SSN is 219-09-9999",),
    "CRYPTO": ("Send to 1BoatSLRHtKNngkdXEeobR76b53LETtpyT",),
    "AWS Access Key": (f"key {'AKIA'}IOSFODNN7EXAMPLE works",),
    "Private Key": (f"-----BEGIN RSA {'PRIVATE KEY'}-----\nMIIEowIBAAKCAQEA", f"-----BEGIN {'PRIVATE KEY'}-----"),
    "JSON Web Token": (
        f"{'eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9'}.{'eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIn0'}"
        ".SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c",
    ),
    "GitHub Token": (f"token {'ghp_'}0123456789abcdefghijABCDEFGHIJ012345",),
    "Stripe Access Key": (f"{'sk_live_'}4eC39HqLyjWDarjtT1zdp7dc",),
    "Basic Auth Credentials": (f"postgres://admin:{'hunter2'}@db.example.com/x",),
    "Secret Keyword": (f"password = '{'hunter2xyz'}'",),
}

CLEAN = (
    "The meeting is at 10:30 on 2026-11-22, in room 212 on floor 3.",
    "It costs 1,234,567.89 dollars; π is 3.14159265358979.",
    "ISBN 978-3-16-148410-0",
    "order 4111111111111112 has a wrong digit",
    "127.0.0.1 and 192.168.0.1 and ::1 are addresses of everybody",
    "Use std::vector<int> and a::b",
    "@user said 5 @ 3 is fine; email me @ home",
    "12 34 56 78 90 12, and 100 200 300 400 grams",
    "The years 1914 1918 1939 1945 and 1995-2005",
    "sha256 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "What is a password? Set your password to something long. Keep the secret.",
    "Call 911, or 1600 Pennsylvania Avenue",
    "550e8400-e29b-41d4-a716-446655440000",
    "Population: 331002651; 50.000.000 km",
)


@pytest.fixture(scope="module")
def find() -> Detector:
    return detector()


@pytest.mark.parametrize("kind", PLANTED)
def test_what_is_planted_is_found(find: Detector, kind: str) -> None:
    for text in PLANTED[kind]:
        assert kind in find(text), text
        assert kind in find(f"Of course.\n\nHere it is: {text}\nIs there anything else?")


def test_nothing_is_found_where_nothing_is(find: Detector) -> None:
    assert {text: kinds for text in CLEAN if (kinds := find(text))} == {}


def test_rows_with_private_data_go_and_the_data_is_not_written_down(find: Detector) -> None:
    rows = [
        Row("What is 3 times 4?"),
        Row([("user", "Hi"), ("assistant", "I am bob@example.com"), ("user", "Go on")]),
        Row(answer="Pay to 4111 1111 1111 1111 and write to bob@example.com."),
        Row(other="My server is 8.8.8.8"),
        Row("What is his number?", None, None),
    ]
    assert dropped(rows, drop_private=True) == {
        "r1": ("private", "EMAIL_ADDRESS"),
        "r2": ("private", "CREDIT_CARD, EMAIL_ADDRESS"),
        "r3": ("private", "IP_ADDRESS"),
    }


@pytest.mark.parametrize("package", ["presidio_analyzer", "detect_secrets"])
def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=package) as caught:
        dropped([Row()], drop_private=True)
    assert caught.value.hint == 'pip install "constitution[clean]"'


def test_all_steps_together_leave_rows_out_once_each_and_nothing_when_done_again(tmp_path: Path) -> None:
    rng = random.Random(11)
    evaluation = tmp_path / "evaluation.txt"
    evaluation.write_text("How do I mend the old wooden clock in the hall before my aunt comes to visit us?\n")
    prompts = (
        *("How do I mend the old wooden clock in the hall before my aunt comes to visit us?", "Why?", "why ?"),
        *("Please tell me how I can bake bread without an oven, in the mountains, with one old pan.",) * 2,
        "Please tell me how I can bake bread without an oven, in the mountains, with one old pot.",
    )
    answers = (
        *(
            "I cannot help with that.",
            "Yes.",
            "mix flour and water, wait and",
            "Dabei kann ich dir leider nicht helfen.",
        ),
        *("Write to jane{n}@example.com about it.", "As always, please ask an expert first. Number {n}."),
        *("Mix {n} cups of flour.", "Bake {n} loaves for an hour.", "Take {n} of them, and no more."),
        "One two three four five six seven eight nine ten eleven {n}.",
    )
    rows = [
        Row(
            rng.choice((*prompts, f"What is the number {n} to {rng.random()}?")), rng.choice(answers).format(n=n),
            rng.choice(answers).format(n=n), rng.choice(((), ("harmless",))),
        )
        for n in range(400)
    ]  # fmt: skip
    asked: dict[str, Any] = {
        "dedupe": "near", "decontaminate": (evaluation,), "min_words": 2, "max_words": 11, "language": ("en",),
        "drop_refusals": True, "boilerplate": 0.01, "drop_private": True,
    }  # fmt: skip
    found = dropped(rows, **asked)
    assert {reason for reason, _ in found.values()} == {
        *("identical", "duplicate", "near-duplicate", "contaminated", "short", "long", "language", "refusal"),
        *("boilerplate", "private"),
    }
    left = [row for place, row in enumerate(rows) if f"r{place}" not in found]
    assert len(left) > 10
    assert dropped(left, **asked | {"boilerplate": None}) == {}
