"""Takes the hashes of some packages out of a lock: `python requirements/unhash.py requirements/lock.txt`."""

from __future__ import annotations

import sys
from pathlib import Path

WITHOUT = ("torch", "triton")
WHY = """\
# No hashes: {name} comes as another file from torch's own index (one for each accelerator) or from a folder of wheels
# than from the registry, and either may be what fits the machine."""


def unhashed(text: str) -> str:
    """`text` with a reason in place of the hashes of WITHOUT."""
    lines: list[str] = []
    dropping = False
    for line in text.splitlines():
        if not line.startswith(" "):
            name = line.partition("==")[0]
            dropping = name in WITHOUT
            if dropping:
                lines.append(WHY.format(name=name))
            lines.append(line.removesuffix(" \\") if dropping else line)
        elif not dropping:
            lines.append(line)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        path.write_text(unhashed(path.read_text(encoding="utf-8")), encoding="utf-8")
