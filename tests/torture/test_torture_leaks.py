"""Keys: a canary that every server repeats in every reply is looked for in all that a run leaves and says."""

from __future__ import annotations

import asyncio
import base64
import html
import json
import os
import subprocess
import sys
import traceback
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from canaries import HF, RECIPE
from conftest import Torture
from fake_hub import FakeHub, running
from run_once import run_once
from small_project import ROOT, small_project
from test_push import laid

from constitution.errors import ConstitutionError
from constitution.export.push import push
from constitution.pipeline.report import report
from constitution.records import Run
from constitution.secrets import Secret
from rehearsal.server import FakeServer, Fault

KEY = 'sk-can&ary+5f3a/9b=77"c1d2\\e4f6'
"""With what JSON, HTML and URLs write in another way."""
MAIN = (sys.executable, "-c", "from constitution.cli import main; main()")


# --- looking


def needles(key: str) -> dict[str, str]:
    """The forms that are looked for, made without the code that hides them."""
    found = {"plain": key, "json": json.dumps(key)[1:-1], "html": html.escape(key), "hex": key.encode().hex()}
    found |= {"url": quote(key, safe=""), "form": quote_plus(key), "path": quote(key)}
    for before in range(3):
        coded = base64.b64encode(b"." * before + key.encode()).decode()
        # Without the first and last four characters, which are also of what stands around the key.
        found |= {f"base64 {before}": coded[4:-4], f"base64url {before}": coded[4:-4].translate({43: "-", 47: "_"})}
    return found


def decoded(path: Path) -> Iterator[str]:
    """A file's contents as texts: its bytes, and a Parquet file's rows and metadata."""
    raw = path.read_bytes()
    yield raw.decode("utf-8", errors="replace")
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        yield "\n".join(str(value) for column in table.columns for value in column.to_pylist())
        yield str(table.schema) + str(table.schema.metadata)


def leaks(key: str, *places: Path | str) -> list[str]:
    """Which form of the key stands in which file or text."""
    files = [path for place in places if isinstance(place, Path) for path in sorted(place.rglob("*")) if path.is_file()]
    texts = [("what was said", text) for text in places if isinstance(text, str)]
    texts += [(str(path), text) for path in files for text in decoded(path)]
    return [f"{form} in {where}" for where, text in texts for form, needle in needles(key).items() if needle in text]


def test_what_leaks_is_found(tmp_path: Path) -> None:
    coded = base64.b64encode(f"Bearer {KEY}".encode()).decode()
    pq.write_table(pa.table({"a": [f"x {KEY} y"]}), tmp_path / "a.parquet", compression="zstd")
    (tmp_path / "b.json").write_text(json.dumps({"said": [KEY]}))
    (tmp_path / "c.html").write_text(html.escape(coded))
    found = leaks(KEY, tmp_path, f"https://host/?key={quote(KEY, safe='')}")
    assert {each.split(" in ")[0].split()[0] for each in found} >= {"plain", "json", "base64", "url"}
    assert {Path(each.split(" in ")[1]).name for each in found} == {"a.parquet", "b.json", "c.html", "what was said"}
    assert leaks("sk-another-key-altogether", tmp_path) == []


# --- a server that repeats the key


class Repeating(FakeServer):
    """Repeats the Authorization header of a request in its reply, each time in another way; every other is sound."""

    def __init__(self) -> None:
        super().__init__(faults=self._plan)
        self._asked = 0
        self.ways: set[int] = set()

    async def _models(self, request: web.Request) -> web.Response:
        self.root = f"weights of {request.headers.get('Authorization', '')}"
        return await super()._models(request)

    def _plan(self, body: Mapping[str, Any]) -> Fault | None:
        self._asked += 1
        if self._asked % 2:
            return None
        header = self.requests[-1].headers.get("Authorization", "")
        faults = list(repetitions(header))
        way = self._asked // 2 % len(faults)
        self.ways.add(way)
        return faults[way]


def repetitions(header: str) -> Iterator[Fault]:
    coded = base64.b64encode(header.encode()).decode()
    escaped = "".join(f"\\u{ord(char):04x}" for char in header)
    told = {"X-Your-Key": header, "X-Coded": coded}

    def says(text: str) -> dict[str, Any]:
        return {"message": {"role": "assistant", "content": f"You sent {text}, and said no more."}}

    yield Fault(status=500, headers=told, body=json.dumps({"error": {"message": f"bad gateway for {header}"}}))
    yield Fault(status=500, headers=told, body=f"<p>no JSON, {html.escape(header)}</p>")
    yield Fault(status=400, body=json.dumps({"error": {"message": f"refused: {coded}"}}))
    yield Fault(status=400, body=f'{{"error": {{"message": "refused: {escaped}"}}}}')
    yield Fault(status=400, body=f'{{"detail": "refused: {escaped}"}}')
    yield Fault(status=400, body=json.dumps({"error": f"refused: {quote(header)}"}))
    yield Fault(status=302, headers={"Location": f"http://127.0.0.1/?key={quote_plus(header)}"}, body="")
    yield Fault(status=429, headers={"Retry-After": header}, body=json.dumps({"error": {"message": header}}))
    yield Fault(changes=says(header))
    yield Fault(changes=says(coded))
    yield Fault(changes=says(header.removeprefix("Bearer ").encode().hex()))
    yield Fault(changes=says(quote(header, safe="")))
    yield Fault(changes={"finish_reason": header})
    yield Fault(changes=says(header * 40), truncate=True)
    yield Fault(reply={"choices": [{header: header}], "usage": {header: 1}})


async def test_no_form_of_the_key_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torture: Torture) -> None:
    """In this process and without Prefect; the long version is the command itself."""
    monkeypatch.setenv("CANARY_KEY", KEY)
    server = Repeating()
    async with server:
        recipe = small_project(tmp_path, 40, RECIPE.format(url=server.base_url))
        run = await run_once(recipe, tmp_path / "warehouse", [])
        ways = len(list(repetitions("")))
        assert server.ways == set(range(ways))
        assert {received.headers.get("Authorization") for received in server.requests} == {f"Bearer {KEY}"}
    assert leaks(KEY, tmp_path, report(run), str(run)) == []
    assert_hidden(run, tmp_path / "warehouse")
    torture.count("attacks on the rest", ways)


def assert_hidden(run: Run, warehouse: Path) -> None:
    """What the servers said was stored: with *** for the key."""
    assert "***" in run.models["policy"]["server_model"]
    texts = {
        name: "\n".join(text for path in (warehouse / name).rglob("part-*.parquet") for text in decoded(path))
        for name in ("responses", "failures")
    }
    assert texts["responses"].count("You sent") >= 3
    assert "You sent Bearer ***, and said no more." in texts["responses"]
    assert "refused: Bearer ***" in texts["failures"]


def command(*words: str, home: Path, key: str) -> tuple[int, str]:
    """Exit code, and all that was said."""
    unset = ("PREFECT_API_URL", "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment |= {"CANARY_KEY": key, "PREFECT_HOME": str(home / "prefect"), "PREFECT_LOGGING_LEVEL": "DEBUG"}
    environment |= {"PREFECT_LOCAL_STORAGE_PATH": str(home / "prefect" / "results"), "HOME": str(home)}
    done = subprocess.run(
        [*MAIN, *words], cwd=home, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.torture
async def test_no_form_of_the_key_leaves_the_command(tmp_path: Path, torture: Torture) -> None:
    """`constitution run` with Prefect's own database, with --debug; then the audit's page, an export, tables."""
    said = []

    async def ask(*words: str, codes: tuple[int, ...] = (0,)) -> str:
        code, text = await asyncio.to_thread(command, *words, home=tmp_path, key=KEY)
        assert code in codes, text
        said.append(text)
        return text

    server = Repeating()
    async with server:
        recipe = small_project(tmp_path, 40, RECIPE.format(url=server.base_url))
        (tmp_path / "flows").symlink_to(ROOT / "flows")
        for _ in range(2):  # the second resumes with what failed
            await ask("run", str(recipe), "--prefect", "--debug", codes=(0, 1))
        assert len(server.ways) == len(list(repetitions("")))
    # No server any more, and then one that does not take the key: errors that Prefect logs, with a traceback.
    await ask("run", str(recipe), "--fresh", "--prefect", "--debug", "--set", "model.policy.retries=0", codes=(1, 2))
    header = f"Bearer {KEY}"
    async with refusing() as url:
        text = await ask(
            "run", str(recipe), "--fresh", "--prefect", "--debug", "--set", f"model.policy.base_url={url}", codes=(1, 2)
        )
        assert "***" in text
        assert header not in text
    shown = await ask("runs")
    run_id = next(word for word in shown.split() if word.startswith("leaks-"))
    await ask("runs", run_id)
    await ask("sql", "--format", "json", "FROM failures")
    await ask("audit", run_id, "--replicates", "100")
    await ask("export", run_id, "--format", "sft", "--out", "data")
    database = tmp_path / "prefect" / "prefect.db"
    assert database.stat().st_size > 100_000
    assert any(run_id.encode() in path.read_bytes() for path in database.parent.glob("prefect.db*"))
    assert (tmp_path / "report.html").stat().st_size > 10_000
    assert leaks(KEY, tmp_path, *said) == []
    torture.count("attacks on the rest", len(said))


@asynccontextmanager
async def refusing() -> AsyncIterator[str]:
    """The address of a server that takes no key, and repeats the key as it refuses."""

    async def refuse(request: web.Request) -> web.Response:
        message = f"the key {request.headers.get('Authorization')} is not known"
        return web.json_response({"error": {"message": message}}, status=401, headers={"WWW-Authenticate": message})

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", refuse)
    async with TestServer(application) as server:
        yield str(server.make_url("/v1"))


def test_an_answer_stays_as_it_is_where_there_is_no_key_in_it() -> None:
    reply = {"choices": [{"message": {"content": 'EMPTY \\ / "quotes" ü 😀 sk-'}}], "n": [1, None, True, 0.5]}
    for key in ("", "EMPTY", KEY):
        for raw in (json.dumps(reply), json.dumps(reply, ensure_ascii=False).replace("/", "\\/")):
            assert Secret(key).hide_in(raw.encode(), reply) == reply
    # A short key stands in texts by chance; in errors it is hidden all the same.
    assert Secret("EMPTY").hide("the key EMPTY") == "the key ***"


# --- the hub's token


class Parrot(FakeHub):
    """Repeats the token in its refusals: bodies and headers, plain and coded."""

    status = 403
    where = ""

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        token = request.headers.get("Authorization", "")
        if token and self.where in request.path:
            self.tokens.append(token)
            coded = base64.b64encode(token.encode()).decode()
            said = {"error": f"{token} may not; {coded}", "errors": [{"message": token}]}
            return web.json_response(said, status=self.status, headers={"X-Error-Message": f"{token}; {coded}"})
        answer: web.StreamResponse = await handler(request)
        return answer


@contextmanager
def parrot(status: int, where: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    from huggingface_hub import constants

    monkeypatch.setattr("fake_hub.FakeHub", Parrot)
    monkeypatch.setattr(Parrot, "status", status)
    monkeypatch.setattr(Parrot, "where", where)
    with running() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", HF)
        yield hub


@pytest.mark.parametrize("where", ["/repos/create", "/api/datasets"])
@pytest.mark.parametrize("status", [400, 401, 403, 404, 418, 500])
def test_the_hubs_token_is_in_no_error(
    status: int, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torture: Torture
) -> None:
    out = laid(tmp_path / "out", 1)
    with parrot(status, where, monkeypatch) as hub:
        if where != "/repos/create":
            monkeypatch.setattr("huggingface_hub.HfApi.create_repo", lambda *_, **__: _Made("someone/x"))
        with pytest.raises(ConstitutionError) as caught:
            push(out, "someone/x")
        assert hub.tokens[0] == f"Bearer {HF}"
    # As --debug and Prefect's log tell it, with all that it came of.
    told = "".join(traceback.format_exception(caught.value)) + caught.value.hint
    assert leaks(HF, tmp_path, told) == []
    torture.count("attacks on the rest")


class _Made:
    def __init__(self, repo_id: str) -> None:
        self.repo_id = repo_id
