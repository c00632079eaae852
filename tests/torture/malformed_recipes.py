"""Recipes, and what is given beside them, that cannot be used."""

from __future__ import annotations

import os
from collections.abc import Sequence

from malformed import RECIPE, Case, Content


def changed(old: str, new: str) -> dict[str, Content]:
    assert old in RECIPE
    return {"r.toml": RECIPE.replace(old, new)}


def more(text: str) -> dict[str, Content]:
    return {"r.toml": RECIPE + text}


def case(name: str, files: dict[str, Content], *must_say: str, words: Sequence[str] = ("run", "r.toml")) -> Case:
    return Case(f"recipe, {name}", files, words, ("r.toml", *must_say))


def override(name: str, *settings: str, say: Sequence[str]) -> Case:
    words = [word for setting in settings for word in ("--set", setting)]
    return Case(f"--set, {name}", {}, ("run", "r.toml", *words), say)


TYPES = [
    case("name of a number", changed('name = "r"', "name = 3"), "name"),
    case("name with blanks", changed('name = "r"', 'name = "my run"'), "name"),
    case("name that is a path", changed('name = "r"', 'name = "../r"'), "name"),
    case("name of 100,000 letters", changed('name = "r"', f'name = "{"r" * 100_000}"'), "name"),
    case("name with an escape", changed('name = "r"', r'name = "\u001b[31mred"'), "name"),
    case("no name", changed('name = "r"\n', ""), "name"),
    case("name is a list", changed('name = "r"', 'name = ["r"]'), "name"),
    case("unknown field", changed('name = "r"', 'name = "r"\nnmae = "s"'), "nmae", "did you mean name"),
    case("unknown field of 50,000 letters", changed('name = "r"', f'name = "r"\n{"x" * 50_000} = 1'), "unknown field"),
    case("unknown field with an escape", changed('name = "r"', 'name = "r"\n"a\\u001b[2J" = 1'), "unknown field"),
    case("unknown section", more("[prompt]\n"), "prompt", "did you mean prompts"),
    case("section is a list", more("[[revise]]\nrounds = 1\n"), "revise"),
    case("section is a text", changed('[prompts]\npath = "prompts.jsonl"', 'prompts = "prompts.jsonl"'), "prompts"),
    case("no prompts", changed('[prompts]\npath = "prompts.jsonl"\n', ""), "prompts"),
    case("no model", changed('[model.policy]\nengine = "fake"', ""), "model"),
    case("unknown engine", changed('engine = "fake"', 'engine = "gpt"'), "model.policy", "openai"),
    case("no engine", changed('engine = "fake"', 'model = "fake"'), "model.policy"),
    case("field of another engine", more("tensor_parallel_size = 2\n"), "model.policy.tensor_parallel_size"),
    case("negative seed", changed('name = "r"', 'name = "r"\nseed = -1'), "seed"),
    case("fractional seed", changed('name = "r"', 'name = "r"\nseed = 1.5'), "seed"),
    case("seed of 400 digits", changed('name = "r"', f'name = "r"\nseed = {"9" * 400}'), "seed"),
    case("seed of 10,000 digits", changed('name = "r"', f'name = "r"\nseed = {"9" * 10_000}')),
    case("seed is a text", changed('name = "r"', 'name = "r"\nseed = "one"'), "seed"),
    case("rounds negative", more("[revise]\nrounds = -1\n"), "revise.rounds"),
    case("rounds of a million", more("[revise]\nrounds = 1000000\n"), "revise.rounds"),
    case("temperature not a number", more("[revise.initial]\ntemperature = nan\n"), "temperature"),
    case("temperature infinite", more("[revise.initial]\ntemperature = inf\n"), "temperature"),
    case("temperature too high", more("[revise.initial]\ntemperature = 7\n"), "temperature"),
    case("top_p of nothing", more("[revise.initial]\ntop_p = 0\n"), "top_p"),
    case("max_tokens of nothing", more("[revise.initial]\nmax_tokens = 0\n"), "max_tokens"),
    case("max_tokens of 30 digits", more(f"[revise.initial]\nmax_tokens = {'9' * 30}\n"), "max_tokens"),
    case("empty stop", more('[revise.initial]\nstop = [""]\n'), "stop"),
    case("stop of numbers", more("[revise.initial]\nstop = [1]\n"), "stop"),
    case("margin beyond a half", more("[judge]\nmargin = 0.7\n"), "judge.margin"),
    case("margin not a number", more("[judge]\nmargin = nan\n"), "judge.margin"),
    case("unknown method", more('[judge]\nmethod = "vibes"\n'), "judge.method"),
    case("clamp the wrong way round", more("[judge]\nclamp = [0.9, 0.1]\n"), "judge.clamp"),
    case("quorum beyond the jury", more("[judge]\nquorum = 3\n"), "judge.quorum"),
    case("no principles to judge by", more("[judge]\nprinciples = 0\n"), "judge.principles"),
    case("pairs that cannot be", more('[revise]\nrounds = 0\n[judge]\npairs = ["parent"]\n'), "judge.pairs"),
    case("pairs of given answers without any", more('[judge]\npairs = ["given"]\n'), "judge.pairs"),
    case("unknown pairs", more('[judge]\npairs = ["best"]\n'), "judge.pairs"),
    case("a judge and a jury", more('[model.judge]\nengine = "fake"\n[model.jury.a]\nengine = "fake"\n'), "jury"),
    case("a juror's name of a path", more('[model.jury."../a"]\nengine = "fake"\n'), "model.jury"),
    case("window of nothing", more("[output]\nwindow = 0\n"), "output.window"),
    case("flush of not a number", more("[output]\nflush_seconds = nan\n"), "output.flush_seconds"),
    case("stop at no failures", more("[output]\nstop_at_failures = 0\n"), "output.stop_at_failures"),
    case("budget without a price", more("[budget]\nlimit = 3\n"), "budget"),
    case("budget of nothing", more("price = { input = 1 }\n[budget]\nlimit = 0\n"), "budget.limit"),
    case("budget not a number", more("price = { input = 1 }\n[budget]\nlimit = nan\n"), "budget.limit"),
    case("currency of words", more('price = { input = 1 }\n[budget]\nlimit = 1\ncurrency = "dollars"\n'), "currency"),
    case("price negative", more("price = { input = -1 }\n"), "price"),
    case(
        "limit of no prompts", changed('path = "prompts.jsonl"', 'path = "prompts.jsonl"\nlimit = 0'), "prompts.limit"
    ),
    case(
        "format unknown", changed('path = "prompts.jsonl"', 'format = "xml"\npath = "prompts.jsonl"'), "prompts.format"
    ),
    case("sql without a query", changed('path = "prompts.jsonl"', 'format = "sql"'), "prompts", "query"),
    case("gold of no answer", changed('path = "prompts.jsonl"', 'path = "prompts.jsonl"\ngold = "x"'), "gold"),
    Case(
        "recipe, principles nobody has", more('[revise]\nprinciples = ["no-such"]\n'), must_say=("revise.principles",)
    ),
]


def server(lines: str) -> dict[str, Content]:
    return changed('engine = "fake"', f'engine = "openai"\nmodel = "m"\n{lines}')


SERVERS = [
    case("no address", server(""), "base_url"),
    case("an empty fleet", server("base_url = []"), "base_url"),
    case("address of a file", server('base_url = "file:///etc/passwd"'), "base_url"),
    case("address without a host", server('base_url = "http://"'), "base_url"),
    case("address with a port of letters", server('base_url = "http://h:x/v1"'), "base_url"),
    case("address with a password", server('base_url = "http://me:hunter2@h/v1"'), "base_url"),
    case("one address twice", server('base_url = ["http://h/v1", "http://h/v1/"]'), "base_url"),
    case("time-out of nothing", server('base_url = "http://h/v1"\ntimeout_s = 0'), "timeout_s"),
    case("time-out not a number", server('base_url = "http://h/v1"\ntimeout_s = nan'), "timeout_s"),
    case("concurrency of nothing", server('base_url = "http://h/v1"\nconcurrency = 0'), "concurrency"),
    case("retries negative", server('base_url = "http://h/v1"\nretries = -1'), "retries"),
]

FILES = [
    case("empty file", {"r.toml": b""}, "is missing"),
    case("only a BOM", {"r.toml": b"\xef\xbb\xbf"}, "is missing"),
    case("invalid UTF-8", {"r.toml": b'name = "\xff"'}, "UTF-8"),
    case("UTF-16", {"r.toml": RECIPE.encode("utf-16")}, "UTF-8"),
    case("NUL", {"r.toml": RECIPE.encode() + b'description = "a\x00b"'}, "not valid TOML"),
    case("a control character", {"r.toml": RECIPE + 'description = "a\x07b"'}, "not valid TOML"),
    case("no TOML", {"r.toml": "{not toml"}, "not valid TOML"),
    case("JSON", {"r.toml": '{"name": "r"}'}, "not valid TOML"),
    case("a key twice", changed('name = "r"', 'name = "r"\nname = "s"'), "not valid TOML", "line 3"),
    case("a section twice", more('[prompts]\npath = "b"\n'), "not valid TOML"),
    case("an unclosed text", changed('name = "r"', 'name = "r'), "not valid TOML"),
    case("half of a surrogate pair", changed('name = "r"', r'name = "\ud800"'), "not valid TOML"),
    case("nested 20,000 deep", more(f"x = {'[' * 20_000}{']' * 20_000}\n")),
    case("20 MB", {"r.toml": RECIPE + f'description = "{"x" * 20_000_000}"\n'}),
    case("a folder", {"r.toml": lambda path: path.mkdir()}),
    case("a pipe", {"r.toml": os.mkfifo}),
    case("a device", {"r.toml": lambda path: path.symlink_to("/dev/zero")}),
    case("a link to itself", {"r.toml": lambda path: path.symlink_to(path)}),
    Case("recipe, none", {}, ("run", "none.toml"), ("none.toml", "no such file")),
    Case("recipe, a name with an escape", {}, ("run", "a\x1b[31m.toml"), ("no such file",)),
    Case("recipe, a name with a line break", {}, ("run", "a\nb.toml"), ("no such file",)),
    Case("recipe, a name of 5,000 letters", {}, ("run", "x" * 5000 + ".toml")),
    Case("recipe, constitution nobody has", changed("general@1.1.0", "genral@1.1.0"), must_say=("principles/",)),
    Case("recipe, constitution of no version", changed("general@1.1.0", "general@9.9.9"), must_say=("principles/",)),
    Case(
        "recipe, constitution that is a path", changed("general@1.1.0", "../general@1.1.0"), must_say=("principles/",)
    ),
    Case(
        "recipe, constitution with an escape", changed("general@1.1.0", r"\u001b[2J@1.0.0"), must_say=("principles/",)
    ),
]
OVERRIDES = [
    override("no equals sign", "revise.rounds", say=["--set revise.rounds", "a.b=value"]),
    override("nothing before it", "=3", say=["--set"]),
    override("two dots", "revise..rounds=3", say=["--set"]),
    override("unknown", "revise.rouns=3", say=["revise.rouns", "did you mean rounds"]),
    override("below a value", "name.x=3", say=["--set", "name"]),
    override("another type", "revise.rounds=two", say=["revise.rounds"]),
    override("an escape", "revise.\x1b[31m=3", say=["unknown field"]),
    override("200,000 letters", "description=" + "x" * 200_000, "revise.rounds=x", say=["revise.rounds"]),
    override("a window of 30 digits", f"output.window={'9' * 30}", say=["output.window"]),
    override("a limit of 30 digits", f"prompts.limit={'9' * 30}", say=["prompts.limit"]),
    override("a path that is not there", "prompts.path=nowhere.jsonl", say=["nowhere.jsonl"]),
    override("a NUL in a path", "prompts.path=a\x00b.jsonl", say=["prompts.path"]),
    Case("--limit of nothing", {}, ("run", "r.toml", "--limit", "0"), ("--limit",)),
    Case("--limit of words", {}, ("run", "r.toml", "--limit", "all"), ("--limit",)),
    Case("an option nobody has", {}, ("run", "r.toml", "--fast"), ("--fast",)),
    Case("a warehouse that is a file", {}, ("run", "r.toml", "--warehouse", "prompts.jsonl"), ("prompts.jsonl",)),
]

CASES = [*TYPES, *SERVERS, *FILES, *OVERRIDES]
