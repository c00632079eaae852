"""The fake engine as a writer of what lies in proposals/: other wordings of a question, and the values in a text."""

from __future__ import annotations

import json
import re

from constitution.engines.fake.world import unit
from constitution.identity import digest
from constitution.records import Messages

QUESTIONS = (
    "Which answer is the more careful one?",
    "Which answer gives advice that can be trusted?",
    "Which answer takes the reader more seriously?",
    "Which answer is better, the first or the second answer?",
    "Which answer has more words?",
)
"""One of them presupposes an order, and one asks for something else."""
_FORM = re.compile(r'"comparison_question": the question\.\n"reason":')
_COUNT = re.compile(r"^Write (\d+) other wordings", re.MULTILINE)


def wordings(messages: Messages, bits: str) -> str | None:
    """As many wordings as the last user turn asks for, in the form that it asks for; None: it asks for none."""
    asked = next((turn.content for turn in reversed(messages) if turn.role == "user"), "")
    form, count = asked.rpartition("\n\n")[2], _COUNT.search(asked)
    if not _FORM.search(form) or count is None:
        return None
    order = sorted(QUESTIONS, key=lambda text: unit(digest(["wording", text, bits])))
    more = {"critique_request": "Where is the answer careless?", "revision_request": "Rewrite it with more care."}
    item = {"reason": "The old question does not ask for care."}
    item |= {name: text for name, text in more.items() if f'"{name}":' in form}
    criteria = [{"question": "Does the answer send the reader to someone who knows?", "good": "yes"}]
    rest = {"criteria": criteria} if '"criteria":' in form else {}
    return json.dumps([{"comparison_question": text, **item, **rest} for text in order[: int(count[1])]], indent=1)


VALUES = (
    ("value", "honesty", "supports"),
    ("value", "Honesty", "either"),
    ("right", "right to privacy", "opposes"),
    ("duty", "duty of care", "supports"),
    ("value", "kindness to others", "either"),
)
"""Kind, name, valence."""
_LISTS = re.compile(r"^List the human values", re.MULTILINE)
_TEXT = re.compile(r"^\[text [0-9a-f]{6}\]\n(.*?)\n\[end ", re.DOTALL | re.MULTILINE)


def values(messages: Messages, bits: str) -> str | None:
    """Values that bear on the marked text, each with some of its words, one in eight with words that it does not have;
    None: none are asked for."""
    asked = next((turn.content for turn in reversed(messages) if turn.role == "user"), "")
    shown = _TEXT.search(asked)
    if shown is None or not _LISTS.search(asked):
        return None
    words, found = shown[1].split(), []
    for place, (kind, name, valence) in enumerate(VALUES):
        own = digest(["value", place, bits])
        if int(own[0], 16) % 3 == 0:
            continue
        start = int(own[1:4], 16) % max(1, len(words) - 3)
        quote = "as is well known" if int(own[4], 16) < 2 else " ".join(words[start : start + 4])
        item = {"kind": kind, "name": name, "valence": valence, "relevance": 30 + int(own[5:7], 16) % 70}
        found.append({**item, "explanation": f"It bears on {name.casefold()}.", "quote": quote})
    return json.dumps(found, indent=1)
