"""Data sets of the hub: a folder of their files, or a name that the `datasets` package loads."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from constitution.errors import PromptError
from constitution.prompts.files import ENDINGS, kind_of, read_file
from constitution.prompts.keys import Keys
from constitution.prompts.row import Row, numbered
from constitution.recipe import PromptsSection

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_SHARD = re.compile(r"-(\d+)-of-(\d+)(?:-[0-9a-f]{16})?$")
"""Name of one of several shards; older data sets have a digest behind it."""
_NUMBER = re.compile(r"\d{4,}$")
"""Names of files that are only numbered, as the hub's own conversions to Parquet are."""
_UNREAD = re.compile(
    r"\.(?:arrow|feather|avro|orc|xlsx?|zip|tar|tgz|7z|(?:jsonl?|ndjson|csv|tsv|parquet)\.\w+)\Z",
    re.IGNORECASE,
)
"""Files that hold rows too, in forms that are not read here."""
_ABOUT = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "metadata.json", "config.json"}
"""Files that only say something of the others."""
_SPLITS = {"train", "test", "validation", "valid", "val", "dev", "eval"}
"""What a file's name says against its folder's, where both are a split."""


def rows(section: PromptsSection, base: Path, folders: Sequence[Path], keys: Keys) -> Iterator[Row]:
    """A local folder's files of the split, read here; anything else is the `datasets` package's."""
    name = section.dataset or ""
    if (base / name).is_dir():
        return _folder(base / name, section, keys)
    if not _HUB_NAME.fullmatch(name) or Path(name).exists():
        # Such a name `datasets` would take for a folder of the working directory, an address or a script.
        raise PromptError(f"prompts.dataset {name!r}: neither a folder beside the recipe nor owner/name on the hub")
    try:
        datasets = import_module("datasets")
    except ImportError:
        raise PromptError(
            f"prompts.dataset {name!r}: neither a local folder nor loadable, since `datasets` is not installed",
            hint="pip install 'constitution[hub]', or download the files and name their folder",
        ) from None
    try:
        loaded = datasets.load_dataset(name, section.config, split=section.split, streaming=True)
    except Exception as error:  # whatever another's loader raises, the user reads one sentence
        raise PromptError(
            f"prompts.dataset {name!r}, split {section.split!r}: {error}",
            hint="prompts.config names one of several configs, prompts.split the split",
        ) from error
    path = "/".join(part for part in (name, section.config, section.split) if part)
    return numbered(path, f"{name}, split {section.split}", loaded)


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    name: str
    """From the data set's folder, with slashes."""
    config: str
    """The folder that it is in, without that of the split; `.` is the data set's own."""
    splits: frozenset[str]
    """What its name and its folders may say that its split is."""

    @property
    def stem(self) -> str:
        """The name without what says how it is read."""
        name = self.path.name.lower()
        return next((name.removesuffix(ending) for ending in ENDINGS if name.endswith(ending)), name)


def _folder(folder: Path, section: PromptsSection, keys: Keys) -> Iterator[Row]:
    """The files of one split of one config, by name. A file's split is what comes before `-` or `.` in its name, or a
    folder that it is in."""
    found = [_file(folder, path, section.split) for path in sorted(folder.rglob("*")) if _holds_rows(path)]
    visible = [file for file in found if not any(part.startswith(".") for part in Path(file.name).parts)]
    files = [file for file in visible if section.split in file.splits and not file.path.is_dir()]
    if not any(map(_is_read, files)):
        splits = sorted({split for file in visible for split in file.splits})
        has = f"; it has {', '.join(splits[:20])}" if splits else ""
        has = f", but {files[0].name}" if files else has
        raise PromptError(
            f"{folder}: no file of rows of the split {section.split!r}{has}", hint="correct prompts.split"
        )
    files = _of_config(folder, files, section)
    if unread := next((file.name for file in files if not _is_read(file)), None):
        raise PromptError(
            f"{folder}: {unread} is of the split {section.split!r} too, which is not read",
            hint="move it away, or name one file in prompts.path",
        )
    _check(folder, files, section.split)
    for file in files:
        yield from read_file(file.path, keys, name=file.name, faulty=True)


def _holds_rows(path: Path) -> bool:
    return path.name not in _ABOUT and (kind_of(path.name) is not None or _UNREAD.search(path.name) is not None)


def _is_read(file: _File) -> bool:
    return kind_of(file.path.name) is not None


def _file(folder: Path, path: Path, split: str) -> _File:
    relative = path.relative_to(folder)
    folders = list(relative.parent.parts)
    of_name = re.split(r"[-.]", path.name)[0]
    splits = {of_name, *folders[-1:]}
    if split in folders:
        place = len(folders) - 1 - folders[::-1].index(split)
        splits.add(split)
        folders = folders[:place]
        if of_name != split and of_name in _SPLITS:
            raise PromptError(
                f"{path}: is of the split {split!r} by its folder and of {of_name!r} by its name", hint="rename one"
            )
    return _File(path, relative.as_posix(), "/".join(folders) or ".", frozenset(splits))


def _of_config(folder: Path, files: Sequence[_File], section: PromptsSection) -> list[_File]:
    configs = sorted({file.config for file in files})
    named = ", ".join(configs)
    if section.config is None:
        if len(configs) > 1:
            raise PromptError(
                f"{folder}: the split {section.split!r} is in several configs: {named}",
                hint=f'name one, for example prompts.config = "{configs[0]}"',
            )
        return list(files)
    chosen = [file for file in files if file.config == section.config]
    if not chosen:
        raise PromptError(
            f"{folder}: there is no config {section.config!r} with the split {section.split!r}; it has {named}",
            hint="correct prompts.config",
        )
    return chosen


def _check(folder: Path, files: Sequence[_File], split: str) -> None:
    """Raises PromptError where the files hold rows twice, or where one is missing."""
    one = "move the copies away, or name one file in prompts.path"
    kinds = sorted({str(kind_of(file.path.name)) for file in files})
    if len(kinds) > 1:
        raise PromptError(f"{folder}: the split {split!r} is there as {' and as '.join(kinds)}", hint=one)
    shards: dict[tuple[Path, str], list[tuple[int, int]]] = {}
    whole: dict[tuple[Path, str], str] = {}
    for file in files:
        parent, stem = file.path.parent, file.stem
        if match := _SHARD.search(stem):
            shards.setdefault((parent, stem[: match.start()]), []).append((int(match[1]), int(match[2])))
        elif (other := whole.setdefault((parent, stem), file.name)) != file.name:
            raise PromptError(f"{folder}: {other} and {file.name} are copies of one another", hint=one)
    for (place, stem), parts in shards.items():
        counts = {count for _, count in parts}
        if len(counts) > 1 or len(set(parts)) < len(parts) or (place, stem) in whole:
            raise PromptError(f"{folder}: {stem} is there in several copies, cut in other ways", hint=one)
        if len(parts) < (count := counts.pop()):
            raise PromptError(
                f"{folder}: of the {count} files of {stem}, {len(parts)} are there", hint="fetch the rest"
            )
    _check_numbers(folder, whole)


def _check_numbers(folder: Path, whole: Iterable[tuple[Path, str]]) -> None:
    """Files that are numbered from 0 or 1 on, with zeros before the number, are all there."""
    series: dict[tuple[Path, str], dict[int, str]] = {}
    for place, stem in whole:
        if match := _NUMBER.search(stem):
            series.setdefault((place, stem[: match.start()]), {})[int(match[0])] = match[0]
    for (_, stem), numbers in series.items():
        if not any(number.startswith("0") for number in numbers.values()):
            continue
        missing = next((number for number in range(min(1, *numbers), max(numbers)) if number not in numbers), None)
        if missing is not None:
            raise PromptError(
                f"{folder}: of the numbered files {stem}…, number {missing} is not there", hint="fetch the rest"
            )
