"""Models: whatever lies in a model's folder or stands in its section, none of it runs. What would run writes a file."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Torture
from tiny import save_tiny_model

from constitution.engines.vllm_args import check, serve_command
from constitution.engines.weights import find, find_adapter, folder_digest
from constitution.errors import ConstitutionError, ModelLoadError, RecipeError
from constitution.recipe import OpenAIModel, TransformersModel, VLLMModel
from constitution.records import Message


class Planted:
    """Pickled, it writes the file as soon as it is read."""

    def __init__(self, sentinel: Path) -> None:
        self._sentinel = sentinel

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return _write, (str(self._sentinel), "ran")


def _write(path: str, text: str) -> None:
    Path(path).write_text(text, encoding="utf-8")


def code(sentinel: Path) -> str:
    return f"open({str(sentinel)!r}, 'w').write('ran')\nclass C: pass\nM = T = P = C\ndef generate(*a, **k): pass\n"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("sound"), hidden=16)


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "model"))


def change(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


MAPS = {"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M", "AutoTokenizer": ["own.T", "own.T"]}


def _own_kind(folder: Path, sentinel: Path) -> None:
    change(folder / "config.json", model_type="own", architectures=["M"], auto_map=MAPS)


def _own_classes(folder: Path, sentinel: Path) -> None:
    change(folder / "config.json", auto_map=MAPS)


def _own_classes_of_the_hub(folder: Path, sentinel: Path) -> None:
    change(folder / "config.json", auto_map={name: f"someone/evil--{MAPS[name]}" for name in MAPS})


def _own_tokenizer(folder: Path, sentinel: Path) -> None:
    change(folder / "tokenizer_config.json", tokenizer_class="T", auto_map={"AutoTokenizer": ["own.T", "own.T"]})


def _own_processor(folder: Path, sentinel: Path) -> None:
    fields = {"processor_class": "P", "auto_map": {"AutoProcessor": "own.P"}}
    (folder / "processor_config.json").write_text(json.dumps(fields))
    (folder / "preprocessor_config.json").write_text(json.dumps(fields))


def _own_generation(folder: Path, sentinel: Path) -> None:
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(code(sentinel))
    change(folder / "generation_config.json", custom_generate=str(folder))


def _trusting_settings(folder: Path, sentinel: Path) -> None:
    _own_kind(folder, sentinel)
    change(folder / "config.json", trust_remote_code=True)
    change(folder / "tokenizer_config.json", trust_remote_code=True)


def _kernel(folder: Path, sentinel: Path) -> None:
    change(folder / "config.json", attn_implementation="someone/kernel:forward")


def _kernel_hidden(folder: Path, sentinel: Path) -> None:
    change(folder / "config.json", text_config={"_attn_implementation": {"": "someone/kernel"}})


def _pickle(folder: Path, sentinel: Path, name: str = "pytorch_model.bin") -> None:
    (folder / name).write_bytes(pickle.dumps(Planted(sentinel)))


def _pickle_alone(folder: Path, sentinel: Path) -> None:
    (folder / "model.safetensors").unlink()
    _pickle(folder, sentinel)


def _pickle_beside_a_decoy(folder: Path, sentinel: Path) -> None:
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    _pickle(folder, sentinel)


def _pickle_as_safetensors(folder: Path, sentinel: Path) -> None:
    _pickle(folder, sentinel, "model.safetensors")


def _pickle_in_the_index(folder: Path, sentinel: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "decoy.safetensors").write_bytes(b"")
    _pickle(folder, sentinel)
    index = {"metadata": {"total_size": 1}, "weight_map": {"lm_head.weight": "pytorch_model.bin"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _gguf(folder: Path, sentinel: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model.gguf")


def _pickled_tokenizer(folder: Path, sentinel: Path) -> None:
    for name in ("tokenizer.pkl", "vocab.pkl", "tokenizer.bin", "vocab.bin", "special_tokens.pt"):
        _pickle(folder, sentinel, name)
    (folder / "tokenizer.json").unlink()


def _everything_pickled_beside(folder: Path, sentinel: Path) -> None:
    for name in ("pytorch_model.bin", "model.pt", "model.ckpt", "training_args.bin", "optimizer.pt", "scheduler.pkl"):
        _pickle(folder, sentinel, name)


def _adapter_in_the_folder(folder: Path, sentinel: Path) -> None:
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": "x/y"}))
    _pickle(folder, sentinel, "adapter_model.bin")


def _templates(attack: str) -> Callable[[Path, Path], None]:
    def put(folder: Path, sentinel: Path) -> None:
        (folder / "chat_template.jinja").write_text(attack.replace("SENTINEL", str(sentinel)))

    return put


REFUSED: dict[str, Callable[[Path, Path], None]] = {
    "a kind of its own": _own_kind,
    "a tokenizer of its own": _own_tokenizer,
    "settings that trust": _trusting_settings,
    "a kernel of the hub's": _kernel,
    "a kernel of the hub's, within": _kernel_hidden,
    "a pickle alone": _pickle_alone,
    "a pickle beside a decoy": _pickle_beside_a_decoy,
    "a pickle called safetensors": _pickle_as_safetensors,
    "a pickle in the index": _pickle_in_the_index,
    "a gguf file": _gguf,
    "a pickled tokenizer": _pickled_tokenizer,
    "an adapter in the folder": _adapter_in_the_folder,
    "a template that opens files": _templates("{{ cycler.__init__.__globals__.os.system('touch SENTINEL') }}"),
    "a template that finds classes": _templates(
        "{% for c in ''.__class__.__mro__[1].__subclasses__() %}{% if 'Popen' in c.__name__ %}"
        "{{ c('touch SENTINEL', shell=True) }}{% endif %}{% endfor %}{{ ''.__class__.__mro__[1] }}"
    ),
    "a template with attr": _templates("{{ (''|attr('__class__')|attr('__mro__'))[1]|attr('__subclasses__')() }}"),
    "a template with a format": _templates("{{ '{0.__class__.__init__.__globals__}'.format(cycler) }}{{ 1 / 0 }}"),
    "a template of a function": _templates("{{ raise_exception.__globals__['os'].system('touch SENTINEL') }}"),
    "a template that includes": _templates("{% include '/etc/passwd' %}"),
}
HARMLESS: dict[str, Callable[[Path, Path], None]] = {
    "classes of its own": _own_classes,
    "classes of the hub's": _own_classes_of_the_hub,
    "a processor of its own": _own_processor,
    "a way of generating": _own_generation,
    "pickles beside": _everything_pickled_beside,
}
"""What is passed over: the folder has all that is needed without."""


def tried(folder: Path) -> None:
    """Loads the model and renders a conversation."""
    from constitution.engines.weights import load

    model = load(TransformersModel(engine="transformers", model=str(folder)))
    model.chat.encode((Message("user", "How?"),))


def test_what_would_run_writes_the_file(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Planted(tmp_path / "pickled")))
    exec(code(tmp_path / "coded"), {})
    assert (tmp_path / "pickled").exists()
    assert (tmp_path / "coded").exists()


@pytest.mark.parametrize("attack", [*REFUSED, *HARMLESS])
def test_nothing_in_a_models_folder_runs(attack: str, folder: Path, tmp_path: Path, torture: Torture) -> None:
    sentinel = tmp_path / "ran"
    (folder / "own.py").write_text(code(sentinel))
    (REFUSED | HARMLESS)[attack](folder, sentinel)
    if attack in REFUSED:
        with pytest.raises(ConstitutionError) as caught:
            tried(folder)
        assert "\n" not in str(caught.value)
        assert "weights_only" not in str(caught.value)  # torch refused the pickle, and ought not to have been asked
    else:
        tried(folder)
    assert not sentinel.exists()
    torture.count("attacks on the rest")


ADAPTERS = {
    "a pickle": ("adapter_model.bin",),
    "a pickle beside a decoy": ("adapter_model.bin", "decoy.safetensors"),
    "a pickle of another name": ("adapter_model.pt",),
}


@pytest.mark.parametrize("files", ADAPTERS.values(), ids=ADAPTERS)
def test_no_pickled_adapter(files: tuple[str, ...], tmp_path: Path, torture: Torture) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    for name in files:
        _pickle(tmp_path, tmp_path / "ran", name)
    with pytest.raises(ModelLoadError, match="pickles"):
        find_adapter(VLLMModel(engine="vllm", model="pocket", adapter=str(tmp_path)))
    assert not (tmp_path / "ran").exists()
    torture.count("attacks on the rest")


ARGUMENTS: dict[str, Any] = {
    "trust_remote_code": True,
    "trust_remote": True,
    "speculative_config": {"model": "x", "trust_remote_code": True},
    "hf_overrides": {"text_config": [{"trust-remote-code": True}]},
    "load_format": "pt",
    "load_form": "pt",
    "speculative_config.load_format": "auto",
    "model_loader_extra_config": {"load_format": "npcache"},
    "logits_processors": ["evil.module:Class"],
    "logits_proc": ["evil.module:Class"],
    "middleware": ["evil.module.run"],
    "worker_cls": "evil.Worker",
    "worker": "evil.Worker",
    "scheduler_cls": "evil.Scheduler",
    "tool_parser_plugin": "/tmp/evil.py",
    "tool_parser_plug": "/tmp/evil.py",
    "reasoning_parser_plugin": "/tmp/evil.py",
    "kv_transfer_config": {"kv_connector": "X", "kv_connector_module_path": "evil.module"},
    "distributed_executor_backend": "evil.Executor",
    "config": "/tmp/evil.yaml",
    "chat_template_content_format": "--trust-remote-code",
    "allowed_origins": ["*", "--trust-remote-code"],
    "Trust-Remote-Code": True,
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_no_argument_of_vllms_brings_code(name: str, torture: Torture) -> None:
    for section in (
        VLLMModel(engine="vllm", model="pocket", vllm={name: ARGUMENTS[name]}),
        OpenAIModel(engine="openai", model="m", base_url="http://127.0.0.1:1/v1", vllm={name: ARGUMENTS[name]}),
    ):
        with pytest.raises(RecipeError):
            check(section)
        with pytest.raises(RecipeError):
            serve_command(section)
    torture.count("attacks on the rest")


def test_what_is_served_is_served_without_code() -> None:
    words = serve_command(VLLMModel(engine="vllm", model="pocket", vllm={"distributed_executor_backend": "mp"}))
    assert words[words.index("--load-format") + 1] == "safetensors"
    assert not any("trust" in word for word in words)


def test_a_sound_folder_is_loaded(folder: Path) -> None:
    tried(folder)
    section = TransformersModel(engine="transformers", model=str(folder))
    assert find(section) == folder
    assert len(folder_digest(folder)) == 64
