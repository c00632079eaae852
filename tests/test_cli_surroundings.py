"""Proxies before this machine's own server, and homes that take no files: neither stops a command."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from constitution.cli._surroundings import NOWHERE, lend_home, prepare, reach_loopback
from constitution.errors import InputError

ROOT = Path(__file__).parents[1]
START = "from constitution.cli import main; main()"
HTTP = "http://proxy.example:3128"


def proxied(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, *urls: str) -> list[bool]:
    """Whether httpx, with this environment, asks a proxy for each of the addresses."""
    import httpx

    with monkeypatch.context() as patch:
        for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
            patch.delenv(name)
        for name, value in environ.items():
            patch.setenv(name, value)
        with httpx.Client() as client:
            direct = client._transport
            return [client._transport_for_url(httpx.URL(url)) is not direct for url in urls]


LOCAL = ("http://127.0.0.1:4200/api", "http://localhost:8080", "http://[::1]:80", "https://127.0.0.1")
AWAY = ("http://10.0.0.7:8000/v1", "https://hub.example/x", "http://127.0.0.1.example/")


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "Http_Proxy", "ALL_PROXY", "all_proxy"])
def test_a_proxy_is_not_asked_for_this_machine_and_for_all_else_as_before(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = {name: HTTP, "HTTPS_PROXY": "https://proxy.example"}
    assert all(proxied(environ, monkeypatch, *LOCAL))
    before = proxied(environ, monkeypatch, *AWAY)
    reach_loopback(environ)
    assert not any(proxied(environ, monkeypatch, *LOCAL))
    assert proxied(environ, monkeypatch, *AWAY) == before == [True] * 3
    assert environ[name] == HTTP


@pytest.mark.parametrize("given", [{"NO_PROXY": "corp.example"}, {"no_proxy": " corp.example ,"}, {"No_Proxy": "x"}])
def test_what_the_user_excepts_stays_excepted(given: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {"HTTP_PROXY": HTTP, **given}
    host = next(iter(given.values())).strip(" ,")
    reach_loopback(environ)
    assert proxied(environ, monkeypatch, f"http://{host}/", *LOCAL) == [False] * 5
    assert environ[next(iter(given))].startswith(host)
    once = dict(environ)
    reach_loopback(environ)
    assert environ == once


def test_where_there_is_no_proxy_nothing_is_changed() -> None:
    for environ in ({}, {"NO_PROXY": "a"}, {"HTTP_PROXY": ""}):
        given = dict(environ)
        reach_loopback(environ)
        assert environ == given


@pytest.mark.parametrize("proxy", ["socks5://proxy.example:1080", "socks4://proxy.example", "gopher://proxy.example"])
def test_a_proxy_that_httpx_cannot_use_keeps_this_machine_in_reach_and_is_not_gone_round(
    proxy: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environ = {"ALL_PROXY": proxy}
    with pytest.raises((ImportError, ValueError)):
        proxied(environ, monkeypatch, *LOCAL)
    reach_loopback(environ)
    assert proxied(environ, monkeypatch, *LOCAL, *AWAY) == [False] * 4 + [True] * 3
    assert environ["ALL_PROXY"] == NOWHERE
    assert "ALL_PROXY: httpx cannot use a proxy of " in capsys.readouterr().err


@pytest.mark.parametrize("home", ["/dev/null", "/dev/null/home", "/proc/no/such/home"])
def test_a_home_that_takes_no_files_is_lent_one(
    home: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", home)
    environ = {"HOME": home, "MPLCONFIGDIR": "/mine"}
    lend_home(environ)
    lent = Path(environ["PREFECT_HOME"]).parent
    assert lent.is_dir()
    assert (environ["HOME"], environ["MPLCONFIGDIR"]) == (home, "/mine")
    assert Path(environ["XDG_CACHE_HOME"]).parent == lent
    assert f"{home} cannot be written" in capsys.readouterr().err
    shutil.rmtree(lent)


def test_a_home_that_takes_files_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    environ = {"HOME": str(tmp_path)}
    lend_home(environ)
    assert environ == {"HOME": str(tmp_path)}
    assert not list(tmp_path.iterdir())


def test_a_folder_for_prefect_that_cannot_be_written_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_HOME", "/dev/null/prefect")
    with pytest.raises(InputError, match=r"^PREFECT_HOME: /dev/null/prefect cannot be written \("):
        prepare("run")
    prepare("sql")  # which does not need it


def test_a_run_behind_a_proxy_and_without_a_home(tmp_path: Path) -> None:
    names = ("HTTP_PROXY", "https_proxy", "ALL_PROXY")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT")}
    environ |= dict.fromkeys(names, "http://127.0.0.1:9") | {"HOME": "/dev/null", "TMPDIR": str(tmp_path)}
    recipe, warehouse = str(ROOT / "recipes" / "fake.toml"), str(tmp_path / "w")
    command = [sys.executable, "-c", START, "run", recipe, "--limit", "1", "--warehouse", warehouse]
    done = subprocess.run(command, check=False, env=environ, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "/dev/null cannot be written" in done.stderr
    assert "finished" in done.stdout
    assert not list(tmp_path.glob("constitution-home-*"))
