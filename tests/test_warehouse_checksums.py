"""SHA256SUMS: named before it is there, true of what is there, as sha256sum itself says."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from warehouse_rows import CONSTITUTION, RUN, chain, failure, fill, prompt

from constitution.errors import DamagedPart, WarehouseError
from constitution.records import Annotation
from constitution.warehouse import Warehouse, checksums, convert, files


def sound(folder: Path) -> int:
    """How many parts sha256sum finds to be as they were written; it must find nothing else to say."""
    command = ["sha256sum", "--check", "--strict", str(checksums.aside(folder.absolute()) / "SHA256SUMS")]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return len(done.stdout.splitlines())


@pytest.mark.skipif(not shutil.which("sha256sum"), reason="coreutils are not installed")
def test_every_part_is_named_whatever_wrote_it(tmp_path: Path) -> None:
    warehouse = fill(tmp_path)
    warehouse.write_part("failures", RUN, [failure(90)])
    warehouse.write_part("failures", RUN, [failure(91)])
    warehouse.write_prompts(RUN, 0, [prompt(number) for number in range(6)])
    warehouse.write_annotations(RUN, [Annotation("l", RUN, prompt(0).id, "ann", 1.0, "ann.csv", pair_id="p")])
    warehouse.write_annotations(RUN, [Annotation("m", RUN, prompt(0).id, "ben", 1.0, "ben.csv", pair_id="p")])
    folders = [tmp_path / path.parent.relative_to(tmp_path / "checksums") for path in tmp_path.rglob("SHA256SUMS")]
    made = {"responses", "judgements", "preferences", "failures"}
    assert {folder.parent.name for folder in folders} == {"principles", "prompts", "annotations", *made}
    for folder in folders:
        assert sound(folder) == len(files.parts(folder))
    assert warehouse.compact(RUN) == 2
    assert sound(warehouse.folder("failures", RUN)) == 1
    warehouse.replace_rows("failures", RUN, [failure(92)])
    assert sound(warehouse.folder("failures", RUN)) == 1


def test_a_part_that_is_kept_in_a_compaction_keeps_its_sum(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path)
    warehouse.write_part("failures", RUN, [failure(n) for n in range(2000)])
    for n in (5000, 5001, 5002):
        warehouse.write_part("failures", RUN, [failure(n)])
    folder = warehouse.folder("failures", RUN)
    before = checksums.read(folder)["part-0.parquet"]
    assert warehouse.compact(RUN, target_bytes=(folder / "part-0.parquet").stat().st_size) == 2
    assert checksums.read(folder).keys() == {"part-0.parquet", "part-4.parquet"}
    assert checksums.read(folder)["part-0.parquet"] == before
    assert checksums.check(folder) == {}


def test_a_compaction_gives_no_new_sum_to_what_is_damaged(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path)
    path = warehouse.write_part("failures", RUN, [failure(1)])
    warehouse.write_part("failures", RUN, [failure(2)])
    content = bytearray(path.read_bytes())
    content[4] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedPart, match=r"part-0\.parquet: is not what was written"):
        warehouse.compact(RUN)
    assert len(warehouse.parts("failures", RUN)) == 2


def test_a_folder_of_an_older_version_is_unchecked_until_it_is_written_to(tmp_path: Path) -> None:
    warehouse = fill(tmp_path)
    for table in ("failures", "principles"):
        (checksums.aside(warehouse.folder(table, RUN)) / "SHA256SUMS").unlink()
        assert checksums.unchecked(warehouse.folder(table, RUN)) == ["part-0.parquet"]
    warehouse.write_part("failures", RUN, [failure(90)])
    warehouse.write_principles(RUN, CONSTITUTION)
    for table, parts in (("failures", 2), ("principles", 1)):
        folder = warehouse.folder(table, RUN)
        assert (checksums.unchecked(folder), checksums.check(folder)) == ([], {})
        assert [len(sums) for sums in checksums.read(folder).values()] == [1] * parts


def test_a_write_that_fails_is_not_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    warehouse = Warehouse(tmp_path)
    warehouse.write_part("failures", RUN, [failure(1)])
    folder = warehouse.folder("failures", RUN)
    sums = checksums.aside(folder) / "SHA256SUMS"
    before = sums.read_bytes()

    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refuse)
        with pytest.raises(WarehouseError, match="Permission denied"):
            warehouse.write_part("failures", RUN, [failure(2)])
    assert sums.read_bytes() == before
    assert checksums.check(folder) == {}


def test_a_line_that_a_kill_cut_short_takes_no_other_with_it(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path)
    warehouse.write_part("failures", RUN, [failure(1)])
    folder = warehouse.folder("failures", RUN)
    with (checksums.aside(folder) / "SHA256SUMS").open("ab") as file:
        file.write(b"# 123 part-1.parquet\n0123abc")
    warehouse.write_part("failures", RUN, [failure(2)])
    assert checksums.read(folder).keys() == {"part-0.parquet", "part-1.parquet"}
    assert checksums.check(folder) == {}


def test_a_kill_between_name_and_part_is_no_damage(tmp_path: Path) -> None:
    """The temporary file tells it from a part that was deleted; clearing it away clears the name."""
    warehouse = Warehouse(tmp_path)
    folder = warehouse.write_part("failures", RUN, [failure(1)]).parent
    warehouse.write_part("failures", RUN, [failure(2)]).rename(checksums.aside(folder) / ".part-1.parquet.tmp")
    assert checksums.check(folder) == {}
    warehouse.recover(RUN)
    assert checksums.read(folder).keys() == {"part-0.parquet"}
    warehouse.write_part("failures", RUN, [failure(2)]).unlink()
    assert checksums.check(folder) == {"part-1.parquet": checksums.MISSING}


def test_a_kill_while_a_part_takes_anothers_place_leaves_either_sound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse = Warehouse(tmp_path)
    path = warehouse.write_prompts(RUN, 0, [prompt(1)])

    class Killed(BaseException):
        pass

    def kill(self: Path, target: Path) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", kill)
        with pytest.raises(Killed):
            warehouse.write_prompts(RUN, 0, [prompt(1), prompt(2)])
    assert len(checksums.read(path.parent)[path.name]) == 2
    assert checksums.check(path.parent) == {}
    assert warehouse.read_prompts(path) == [prompt(1)]
    warehouse.write_prompts(RUN, 0, [prompt(1), prompt(2)])
    assert len(checksums.read(path.parent)[path.name]) == 1
    assert checksums.check(path.parent) == {}


def test_chains_are_checked_as_they_are_written(tmp_path: Path) -> None:
    """Hashed on the way out, and equal to what a second read finds."""
    warehouse = Warehouse(tmp_path)
    rows = [row for number in range(50) for row in chain(number)]
    for kind, table in convert.TABLE_OF.items():
        if found := [row for row in rows if isinstance(row, kind)]:
            path = warehouse.write_part(table, RUN, found)
            assert checksums.read(path.parent)[path.name] == [checksums.sum_of(path)]
