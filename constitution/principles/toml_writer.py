"""A constitution as TOML: the one shape that we need to write (the standard library only reads TOML).

    tomllib.loads(write_toml(constitution))  → the same content, whatever the texts hold

Long texts become multi-line strings, folded at spaces with a backslash, so that a change of one word is a change of one
line.
"""

from __future__ import annotations

from constitution.records import Constitution, Criterion, Example, Exemplar, Messages, Principle

WIDTH = 100
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}


def write_toml(constitution: Constitution) -> str:
    lines = [_pair("name", constitution.name), _pair("version", constitution.version)]
    lines.append(_pair("description", constitution.description))
    for name in ("source", "license"):
        if getattr(constitution, name):
            lines.append(_pair(name, getattr(constitution, name)))
    for exemplar in constitution.exemplars:
        lines += ["", "[[exemplars]]", *_exemplar(exemplar)]
    for principle in constitution.principles:
        lines += ["", "[[principles]]", *_principle(principle)]
    return "\n".join(lines) + "\n"


def _principle(principle: Principle) -> list[str]:
    lines = [_pair("id", principle.id)]
    for name in ("critique_request", "revision_request", "comparison_question"):
        if getattr(principle, name):
            lines.append(_pair(name, getattr(principle, name)))
    if principle.weight != 1:
        lines.append(f"weight = {float(principle.weight)!r}")
    if principle.tags:
        lines.append(f"tags = [{', '.join(basic_string(tag) for tag in principle.tags)}]")
    if principle.source:
        lines.append(_pair("source", principle.source))
    for exemplar in principle.exemplars:
        lines += ["", "[[principles.exemplars]]", *_exemplar(exemplar)]
    for example in principle.examples:
        lines += ["", "[[principles.examples]]", *_example(example)]
    for criterion in principle.criteria:
        lines += ["", "[[principles.criteria]]", *_criterion(criterion)]
    return lines


def _exemplar(exemplar: Exemplar) -> list[str]:
    lines = [*_conversation(exemplar.messages), _pair("response", exemplar.response)]
    if exemplar.critique_request:
        lines.append(_pair("critique_request", exemplar.critique_request))
    lines.append(_pair("critique", exemplar.critique))
    if exemplar.revision_request:
        lines.append(_pair("revision_request", exemplar.revision_request))
    return [*lines, _pair("revision", exemplar.revision)]


def _example(example: Example) -> list[str]:
    return [*_conversation(example.messages), _pair("better", example.better), _pair("worse", example.worse)]


def _criterion(criterion: Criterion) -> list[str]:
    lines = [_pair("question", criterion.question)]
    if criterion.good != "yes":
        lines.append(_pair("good", criterion.good))
    if criterion.weight != 1:
        lines.append(f"weight = {float(criterion.weight)!r}")
    return lines


def _conversation(messages: Messages) -> list[str]:
    if len(messages) == 1 and messages[0].role == "user":
        return [_pair("prompt", messages[0].content)]
    rows = [f'  {{ role = "{m.role}", content = {basic_string(m.content)} }},' for m in messages]
    return ["messages = [", *rows, "]"]


def _pair(key: str, text: str) -> str:
    line = f"{key} = {basic_string(text)}"
    return line if len(line) <= WIDTH and "\n" not in text else f"{key} = {multiline_string(text)}"


def _escape(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    return f"\\u{ord(char):04x}" if ord(char) < 32 or ord(char) == 127 else char


def basic_string(text: str) -> str:
    """`text` as a one-line TOML string, quotes included."""
    return '"' + "".join(map(_escape, text)) + '"'


def multiline_string(text: str) -> str:
    """`text` as a multi-line TOML string. Line ends stay line ends; long lines are folded at single spaces."""
    body = "\n".join(_fold(line) for line in text.split("\n"))
    return f'"""\\\n{body}"""' if body[:1].strip() else f'"""\n{body}"""'


def _fold(line: str) -> str:
    """One line, escaped, in pieces of at most WIDTH where spaces allow; a piece ends in space and backslash."""
    first, *words = (_escape_quoted(word) for word in line.split(" "))
    pieces, current = [], first
    for word in words:
        # TOML drops the white space after a folded line end, so a piece must begin with something visible
        if len(current) + 1 + len(word) > WIDTH and current and word:
            pieces.append(current + " \\")
            current = word
        else:
            current += " " + word
    return "\n".join([*pieces, current])


def _escape_quoted(word: str) -> str:
    """A word of a multi-line string: single quotation marks stay, runs of them and one at the end are escaped."""
    escaped = "".join(char if char == '"' else _escape(char) for char in word)
    if '""' in escaped or escaped.endswith('"'):
        return "".join(map(_escape, word))
    return escaped
