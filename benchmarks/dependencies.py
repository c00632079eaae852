"""Known faults of the packages that are pinned, by pip-audit (https://github.com/pypa/pip-audit) and its service.

    make audit-dependencies

Exit code 1 where a package has one. Where pip-audit cannot be had or its service not be reached, one line says so, and
that nothing was looked at, with exit code 0: it is no finding.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

PIP_AUDIT = "pip-audit>=2.9,<3"
SECONDS = 600


class NotAudited(Exception):
    """Why nothing was looked at."""


@dataclass(frozen=True)
class Audited:
    packages: int
    """Looked up."""
    skipped: dict[str, str]
    """Package → why the service says nothing of it."""
    faults: list[str]
    """One line each: package, version, fault, versions that mend it."""


def pins(lock: Path) -> str:
    """The lock as pip-audit takes it: every version that any machine gets, each on a line, without hashes."""
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\+]+)", lock.read_text(encoding="utf-8"), re.MULTILINE)
    return "".join(f"{name}=={version}\n" for name, version in dict.fromkeys(found))


def audit(lock: Path, command: Sequence[str]) -> Audited:
    """What pip-audit says of `lock`. `command` runs it. Raises NotAudited."""
    packages: dict[str, dict[str, object]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for part in _apart(pins(lock)):
            file = Path(folder) / "requirements.txt"
            file.write_text(part, encoding="utf-8")
            options = [
                "--requirement",
                str(file),
                "--no-deps",
                "--disable-pip",
                "--format",
                "json",
                "--progress-spinner=off",
            ]
            packages |= _asked([*command, *options])
    skipped = {name: str(entry["skip_reason"]) for name, entry in packages.items() if "skip_reason" in entry}
    if len(skipped) == len(packages):
        raise NotAudited(f"its service knows none of the packages: {next(iter(skipped.values()), 'there are none')}")
    return Audited(
        len(packages) - len(skipped), skipped, [line for entry in packages.values() for line in _faults(entry)]
    )


def _apart(pinned: str) -> list[str]:
    """Where a package has two versions, by platform, each in its own file: pip-audit takes one a file."""
    files: list[dict[str, str]] = []
    for line in pinned.splitlines():
        name = line.partition("==")[0]
        free = next((file for file in files if name not in file), None)
        if free is None:
            files.append(free := {})
        free[name] = line
    return ["\n".join(file.values()) + "\n" for file in files]


def _asked(command: Sequence[str]) -> dict[str, dict[str, object]]:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise NotAudited(f"no answer within {SECONDS} s") from None
    try:
        found = json.loads(done.stdout)["dependencies"]
        return {f"{entry['name']} {entry.get('version', '')}": entry for entry in found}
    except (ValueError, LookupError, TypeError):
        said = [line for line in done.stderr.strip().splitlines() if line.strip()]
        raise NotAudited(said[-1].strip() if said else f"pip-audit ended with code {done.returncode}") from None


def _faults(entry: dict[str, object]) -> list[str]:
    found = entry.get("vulns", [])
    assert isinstance(found, list)
    name = f"{entry['name']} {entry.get('version', '')}"
    return [f"{name}: {fault['id']}, mended in {', '.join(fault['fix_versions']) or 'no version'}" for fault in found]


@click.command()
@click.argument("locks", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(locks: tuple[Path, ...]) -> None:
    """Audit LOCKS, files of pins."""
    uv = str(Path(sys.executable).parent / "uv")
    faults = 0
    for lock in locks:
        try:
            found = audit(lock, [uv, "tool", "run", "--from", PIP_AUDIT, "pip-audit"])
        except (NotAudited, OSError) as reason:
            click.echo(f"{lock}: NOT audited, nothing was looked at: {reason}")
            continue
        for line in found.faults:
            click.echo(f"{lock}: {line}")
        for name, why in found.skipped.items():
            click.echo(f"{lock}: {name}: not looked at: {why}")
        click.echo(f"{lock}: {found.packages} packages looked up, {len(found.faults)} known faults")
        faults += len(found.faults)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
