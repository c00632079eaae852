"""What answers come to, read off their texts: by the forms that public verifiers read wrongly, and by chance."""

from __future__ import annotations

import time
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constitution.judge.extract import Extract
from constitution.records import Extraction

NUMBERS = {
    # plain
    "42": "42", "The answer is 42.": "42", "It is 42!": "42", "3.14.": "3.14", ".5": "0.5", "5.": "5", "0.50": "0.5",
    "007": "7", "**42**": "42", "*42* it is": "42", "answer (42)": "42", "a 42-year-old": "42", "Step 3: 42": "42",
    "no number": None, "": None, "twelve": None,
    # signs
    "-5": "-5", "it is -5": "-5", "x = - 5": "-5", "-$5": "-5", "$-5": "-5", "\u22125": "-5", "\u20135": "-5",
    "+5": "5",
    "I'd say -- 5": "5", "- 5 apples": "5", "* 5 apples": "5", "= \\text{-5}": "-5",
    # what parts thousands, and what does not
    "1,234,567": "1234567", "$1,234.50": "1234.5", "1{,}234": "1234", "14 {, }916": "14916", "10\\,000": "10000",
    "1\u202f234": "1234", "1\u00a0234": "1234", "1'234": "1234", "72, altogether": "72",
    "72 clips, altogether.": "72",
    "[8.124, 12.852]": "12.852", "1 234": None, "in 12 300 people": None, "[8.124,12.852]": None, "1,2,3": None,
    "1,23": None, "1000,99": None, "1.234,56": None, "1,23,456": None, "12,3456": None,
    # fractions and powers
    "1/2": "0.5", "\\frac{1}{2}": "0.5", "\\frac13": "1/3", "-\\dfrac{1}{3}": "-1/3", "2\\frac{1}{2}": "2.5",
    "2 2/3": "8/3", "-2 2/3": "-8/3", "4 10/3": None, "\u00bd": "0.5", "2\u00bd": "2.5", "-2\u00bd": "-2.5",
    "1/0": None,
    "1e3": "1000", "1.5 × 10^3": "1500", "1.5 \\times 10^{3}": "1500", "2·10^-2": "0.02", "1e999999999": None,
    "9" * 5000: None, "10\u00b2": None, "2^10": None, "2^{10} = 1024": "1024", "5 million": "5000000", "5M": None,
    # percent, units
    "50%": "50%", "50 percent": "50%", "28\\%": "28%", "$28$ %": "28%", "1,000.99€": "1000.99", "35 m²": "35",
    "42 tons of CO2": "42", "90^\\circ": "90", "60km/h": "60", "5 cm^2": "5",
    # parts of something else
    "2024-05-01": None, "at 10:30": None, "3-5": None, "v1.2.3": None, "3/4/2024": None, "10-3": None, "2+3": None,
    "2+3=5": "5", "9-4=5": "5", "10 - 5 = 5": "5", "10 - 5": None, "$5 - $3": None, "5x": None, "3\\pi": None,
    "\\sqrt{2}": None, "3\\sqrt2": None, "f(2)": None, "x^2": None, "10\u2082": None, "5 = x_2": "5",
    "COVID-19": None,
    "5, as GPT-4 says": "5", "5, the 3rd prime": "5", "It is 5\n1. first\n2. then": "5",
    # GSM8K's mark
    "so 7\n#### 42\nand 9 more": "42", "#### 1,000 in all, or 7": "1000", "#### -$5": "-5", "#### Step 2\nso 5": "5",
    "so 7\n#### 2. Check\nso 5": "5",
    # digits of others
    "٤٢": "42", "４２": "42",
}  # fmt: skip
BOXES = {
    "\\boxed{42}": "42", "\\boxed{\\frac{1}{2}}": "\\frac{1}{2}", "\\boxed{\\dfrac12}": "\\frac{1}{2}",
    "\\boxed{1} and then \\boxed{2}": "2", "it is \\boxed{1}. Yes, \\boxed{1}": "1", "\\boxed{3}, \\boxed{5}": "3,5",
    "$\\boxed{3}$ and $\\boxed{5}$": "3,5", "\\boxed{840}.\n\n**Final**\n\\boxed{840}": "840",
    "\\boxed{1}, so \\boxed{": None, "\\boxed{1}, so \\boxed{}": None, "\\boxed{": None, "no box": None, "5": None,
    "\\boxed 5": "5", "\\boxed5": "5", "\\boxed is": None, "\\fbox{7}": "7", "\\boxed{\\boxed{5}}": "5",
    "\\boxed{\\{1,2\\}}": "\\{1,2\\}", "\\boxed{[2,5)}": "[2,5)", "\\boxed{\\text{Evelyn}}": "Evelyn",
    "\\boxed{\\left(3, \\dfrac{\\pi}{2}\\right)}": "(3,\\frac{\\pi}{2})", "\\boxedtext{5}": None,
}  # fmt: skip
CHOICES = {
    "A": "A", "(A)": "A", "**A**": "A", "A.": "A", "`B`": "B", "B) Paris": "B", "**B.** Paris": "B",
    "B\n\nas A dog": "B",
    "The answer is B.": "B", "the answer is (c)": "C", "**Answer:** D": "D", "**Answer: D**": "D", "Answer: $B$": "B",
    "Answer:\nB": "B", "### Answer\nB": "B", "The answer is \\text{B}": "B", "The correct option is: D": "D",
    "The correct answer is option (D).": "D", "I'd go with C": "C", "B is correct.": "B", "Final answer: I": "I",
    # what the article and the pronoun are
    "A dog barks.": None, "A man": None, "I think so": None, "A good answer is hard": None, "Vitamin C": None,
    "the answer is a tricky one": None, "Answer: A car moves": None, "Answer: I don't know": None,
    "The answer is A because a car moves": "A", "The answer is B because a car moves.": "B",
    "I would pick B — a safe choice.": "B", "The answer is C because I computed the integral.": "C",
    "The answer is B, as I think.": "B",
    # several
    "The answer is B. Note that A is a common distractor.": "B", "ANSWER IS D. A is incorrect.": "D",
    "Answer seems to be A.\n\nAnswer: B": "B", "Answer: A. No, wait. Answer: C": "C",
    "(A) is wrong, (B) is right": "B",
    "I choose (B), since (A) is wrong": "B", "Option A is wrong. The answer is B.": "B",
    "The answer is B, A is not": "B",
    "The answer is A and C": None, "The answer is A or B": None, "Answer: A, B": None, "The answer is A/B": None,
    "The answer is A, B, or C": None, "A, B, C, D": None, "(A)(B)(C)(D)": None, "A B C D": None, "B\nC": None,
    "A. Paris\nB. Rome\nC. Oslo": None, "A. Paris\nB. Rome\n\nThe answer is B": "B",
    # no choice
    "The answer is not A but B": None, "B is not correct": None, "I would not choose B": None,
    "Option B is wrong": None,
    "(B) is wrong": None, "Antwort:\n\nAntwort: C": None, "Answer: BOTH": None, "Answer: N/A": None, "": None,
    "The answer is c-shaped": None,
    # boxes
    "\\boxed{B}": "B", "\\boxed{\\text{E}}": "E", "\\boxed{E: A risk}": "E", "\\boxed{5}": None,
    "\\boxed{A}, no: \\boxed{B}": "B",
}  # fmt: skip
FIELDS = {
    '{"answer": 4}': "4", '```json\n{"answer": "4"}\n```': "4",
    'So\n```\n{"answer": 1}\n```\nno\n~~~json\n{"answer": 2}\n~~~\nyes': "2",
    '{"answer": 0.10}': "0.1", '{"answer": "x  y"}': "x y", '{"answer": true}': "true",
    '{"answer": [1, 2]}': "[1, 2]",
    '{"answer": null}': None, '{"answer": NaN}': None, '{"answer": 1, "answer": 2}': None, "[1]": None, "4": None,
    '{"a": {"answer": 1}}': None, 'It is {"answer": 1}': None, "{" * 10_000: None, '{"answer":' * 10_000: None,
    "": None,
}  # fmt: skip
EXACT = {"  a\u00a0 b\n": "a b", "cafe\u0301": "caf\u00e9", "x²": "x²", "A": "A", " \n": None}
TABLE: dict[Extraction, dict[str, str | None]] = {
    "number": NUMBERS, "boxed": BOXES, "choice": CHOICES, "json": FIELDS, "exact": EXACT,
}  # fmt: skip


def _extract(how: Extraction) -> Extract:
    return Extract(how, letters="ABCDEFGHIJ")


@pytest.mark.parametrize(
    ("how", "text", "expected"), [(how, text, value) for how, rows in TABLE.items() for text, value in rows.items()]
)
def test_extracted(how: Extraction, text: str, expected: str | None) -> None:
    found = _extract(how).of(text)
    assert (found and found.text) == expected


@pytest.mark.parametrize(
    ("how", "reference", "text", "same"),
    [
        ("number", "72", "He has 72.00 of them", True),
        ("number", "He sold 24+48 = 72\n#### 72", "72", True),
        ("number", "7425000", "7,425,000", True),
        ("number", "-5", "5", False),
        ("number", "50", "50%", True),
        ("number", "0.5", "50%", True),
        ("number", "28%", "28/100", True),
        ("number", "28", "28/100", False),
        ("number", "0.3333", "1/3", False),
        ("boxed", "\\frac{1}{2}", "\\boxed{0.5}", True),
        ("boxed", "35", "\\boxed{35\\text{ cm}}", True),
        ("boxed", "35\\text{ cm}", "\\boxed{35\\text{ m}}", False),
        ("boxed", "5", "\\boxed{x=5}", True),
        ("boxed", "5", "\\boxed{3}, \\boxed{5}", False),
        ("boxed", "so \\boxed{14{,}916}", "\\boxed{14916}", True),
        ("boxed", "12\\text{ and }13", "\\boxed{13}", False),
        ("boxed", "2-2p", "\\boxed{2 - 2p}", True),
        ("boxed", "$[0,9)$", "\\boxed{[0,1)}", False),
        ("choice", "b", "The answer is (B)", True),
        ("choice", "B", "The answer is (C)", False),
        ("json", "4", '{"answer": 4.0}', True),
        ("json", '{"answer": "Paris"}', '{"answer": "Paris "}', True),
        ("json", "true", '{"answer": "true"}', True),
        ("json", "1", '{"answer": true}', False),
        ("exact", "cafe\u0301", "caf\u00e9\n", True),
        ("exact", "Paris", "paris", False),
    ],
)
def test_the_same_as_what_is_given(how: Extraction, reference: str, text: str, same: bool) -> None:
    extract = _extract(how)
    truth, found = extract.truth(reference), extract.of(text)
    assert truth is not None
    assert found is not None
    assert (truth.same(found), found.same(truth)) == (same, same)


@pytest.mark.parametrize(
    ("how", "reference"),
    [("number", "Paris"), ("choice", "Paris"), ("choice", "K"), ("boxed", " "), ("json", ""), ("exact", "\n")],
)
def test_a_reference_that_says_nothing_is_no_truth(how: Extraction, reference: str) -> None:
    assert _extract(how).truth(reference) is None


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12, places=3))
def test_numbers_are_read_as_they_are_written(number: object) -> None:
    value = Fraction(str(number))
    for form in (f"{number}", f"{number:,}", f"so it is ${number:,}.", f"**{number}**", f"#### {number}\nor 7"):
        found = Extract("number").of(form)
        assert found is not None
        assert found.number is not None
        assert found.number.value == value, form


@settings(max_examples=300)
@given(
    st.sampled_from(sorted(TABLE)),
    st.text(st.one_of(st.sampled_from("0123456789.,-+/%$^_{}()[]\\ \nAaBI:*#`~½²×"), st.characters()), max_size=60),
)
def test_any_text_is_read_or_not(how: Extraction, text: str) -> None:
    found = _extract(how).of(text)
    if found is not None:
        assert found.text
        assert found.same(found)


@pytest.mark.parametrize("how", sorted(TABLE))
def test_hostile_texts_take_no_long_time(how: Extraction) -> None:
    parts = (
        "1,",
        "-",
        "1 ",
        "\\frac{",
        "10^",
        "#### 1",
        "(A",
        "\\boxed{",
        "\\boxed{1},",
        "```\n",
        "```json\n",
        "**",
        "a\n",
        "answer is ",
    )
    ends = ("B " + " " * 50_000 + "x", "answer : " + " " * 50_000, "answer to x " + "answer to " * 5_000)
    began = time.process_time()
    for text in (*(part * (50_000 // len(part)) for part in parts), *ends):
        _extract(how).of(text)
    assert time.process_time() - began < 5


def test_half_of_a_pair_that_json_spells_is_not_read() -> None:
    assert _extract("json").of('{"answer": "\\ud800"}') is None
    assert _extract("json").of('{"answer": ["\\udfff"]}') is None
    assert _extract("json").of('{"answer": "\\ud83d\\ude00"}') is not None
