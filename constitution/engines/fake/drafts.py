"""The fake engine as a writer of principles from a document's clause: what its words `must`, `should` and `may` say."""

from __future__ import annotations

import json
import re
from typing import Any

from constitution.identity import digest
from constitution.records import Messages

_FORM = re.compile(r'\{"none": .*\{"drafts": ', re.DOTALL)
_CLAUSE = re.compile(r"\[clause ([0-9a-f]+)\]\n(.*?)\n\[end \1\]", re.DOTALL)
_BEFORE = re.compile(r"\[before ([0-9a-f]+)\]\n(.*?)\n\[end \1\]", re.DOTALL)
_PAIR = re.compile(r"\[demand A ([0-9a-f]+)\]\n(.*?)\n\[end \1\].*\[demand B \1\]\n(.*?)\n\[end \1\]", re.DOTALL)
_SENTENCE = re.compile(r"[^.;!?\n]+(?:[.;!?]|\Z)")
_FORCES = (
    (
        "must-not",
        re.compile(r"\b(?:must|shall|may|can) ?not\b|\bcannot\b|\bnever\b|\bprohibited\b|\bforbidden\b", re.I),
    ),
    ("should-not", re.compile(r"\bshould not\b|\bdiscouraged\b|\bavoid\b", re.I)),
    ("must", re.compile(r"\b(?:must|shall|required|requires?|need to|have to)\b", re.I)),
    ("should", re.compile(r"\b(?:should|ought|recommended|encouraged)\b", re.I)),
    ("may", re.compile(r"\b(?:may|permitted|allowed|entitled)\b", re.I)),
)


def drafts(messages: Messages, bits: str) -> str | None:
    """Drafts of the clause in the last user turn, a verdict on two demands, or None: it asks for neither."""
    asked = next((turn.content for turn in reversed(messages) if turn.role == "user"), "")
    if (pair := _PAIR.search(asked)) and "contradict" in asked:
        return _verdict(pair[2], pair[3])
    clause = _CLAUSE.search(asked)
    if clause is None or not _FORM.search(asked):
        return None
    before = _BEFORE.search(asked)
    lead = before[2].strip() if before and before[2].rstrip().endswith(":") else ""
    found = [(_force(each) or _force(lead), each) for each in map(str.strip, _SENTENCE.findall(clause[2]))]
    demands = [(force, each) for force, each in found if force and len(each.split()) > 2]
    if not demands:
        return json.dumps({"none": "The clause has no word that demands or permits."})
    return json.dumps({"drafts": [_draft(force, each) for force, each in demands[:3]]}, ensure_ascii=False)


def _force(sentence: str) -> str:
    return next((name for name, pattern in _FORCES if pattern.search(sentence)), "")


def _draft(force: str, sentence: str) -> dict[str, Any]:
    condition = re.search(r"\b(?:if|when|where)\b[^,;.]*", sentence, re.I)
    exception = re.search(r"\b(?:unless|except)\b[^;.]*", sentence, re.I)
    number = digest(sentence)[:4]
    return {
        "quote": sentence,
        "addressee": "the assistant",
        "force": force,
        "condition": condition[0] if condition else "",
        "exception": exception[0] if exception else "",
        "why": "",
        "critique_request": f"Where does the answer break rule {number} of the document?",
        "revision_request": f"Rewrite the answer so that it keeps rule {number} of the document.",
        "comparison_question": f"Which answer keeps rule {number} of the document better?",
        "criteria": [{"question": f"Does the answer break rule {number} of the document?", "good": "no"}],
        "examples": [
            {
                "prompt": "What should I do?",
                "better": "Check the label first, and ask someone who knows.",
                "worse": "Only fools ask. Skip the steps.",
            }
        ],
    }


def _verdict(one: str, other: str) -> str:
    """The same words are the same demand; of the same words but for their force, `must` and `must not` contradict."""
    first, second = (_force(text.split("\n")[0]) for text in (one, other))
    words = [set(re.findall(r"\w+", text.split("\n")[0].casefold())) for text in (one, other)]
    share = len(words[0] & words[1]) / max(1, len(words[0] | words[1]))
    if share >= 0.6 and ("not" in first) != ("not" in second):
        return "contradict"
    return "same" if share >= 0.8 and first == second else "neither"
