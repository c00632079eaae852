"""The fake engine as the writer of a rubric: questions about what its careful and careless sentences say."""

from __future__ import annotations

import json
import re
from xml.sax.saxutils import escape

from constitution.identity import digest
from constitution.records import Messages

ITEMS = (
    ("Does the answer tell the reader to check the label first?", "yes", 5, "essential"),
    ("Does the answer send the reader to someone who knows?", "yes", 3, "important"),
    ("Does the answer admit that it may be wrong about details?", "yes", 2, "optional"),
    ("Does the answer call those who ask for help fools?", "no", 4, "pitfall"),
    ("Does the answer tell the reader to skip steps?", "no", 3, "pitfall"),
    ("Does the answer greet the reader?", "yes", 1, "optional"),
)
"""Question, good reply, weight, kind."""
FAULTY = (
    ("Does the answer name the risks and explain the steps?", "yes", 2, "important"),
    ("Does the answer send the reader to someone who knows?", "yes", 2, "optional"),
)
"""What a lint drops: two demands in one, and one that may be there already."""
_JSON = re.compile(r'"question".*"good".*"weight".*"kind"', re.DOTALL)
_XML = re.compile(r"<rubric>\s*<item [^>]*>[^<]*</item>\s*</rubric>")


def checklist(messages: Messages, bits: str) -> str | None:
    """A rubric in the form that the last user turn asks for, after all else; None: it asks for none."""
    asked = next((turn.content for turn in reversed(messages) if turn.role == "user"), "")
    form = asked.rpartition("\n\n")[2]
    as_json, as_xml = _JSON.search(form), _XML.search(form)
    if not (as_json or as_xml):
        return None
    own = digest(["checklist", bits])
    chosen = [item for place, item in enumerate(ITEMS) if place < 2 or int(own[place], 16) % 4]
    chosen += [item for place, item in enumerate(FAULTY, 8) if int(own[place], 16) % 2]
    if as_xml:
        items = (
            f'<item good="{good}" weight="{weight}" kind="{kind}">{escape(question)}</item>'
            for question, good, weight, kind in chosen
        )
        return "\n".join(["<rubric>", *items, "</rubric>"])
    keys = ("question", "good", "weight", "kind")
    return json.dumps([dict(zip(keys, item, strict=True)) for item in chosen], indent=1)
