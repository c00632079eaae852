"""The S3 server of the tests: what its faults look like to a client, and that what it keeps is kept."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import obstore
import pytest
from obstore import exceptions
from obstore.store import from_url
from s3_server import Faults, Request, S3Server

NO_RETRY: Any = {"max_retries": 0}
GET_TIMES_OUT: Any = {"timeout": "300ms", "allow_http": True}


@pytest.fixture(scope="module")
def listening() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


@pytest.fixture
def server(listening: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    for name, value in listening.environment.items():
        monkeypatch.setenv(name, value)
    listening.faults = Faults()
    listening.requests.clear()
    listening.clocks.clear()
    for key in listening.keys:
        listening.delete(key)
    return listening


def once(name: str, method: str = "PUT") -> Faults:
    """The first request by `method` meets the fault, no other."""
    return Faults(chosen=lambda request: name if (request.method, request.number) == (method, 0) else "", timeout_s=0.5)


def store(server: S3Server, **settings: Any) -> Any:
    return from_url(server.url, **settings)


def create(place: Any, key: str, data: bytes) -> Any:
    return obstore.put(place, key, data, mode="create", use_multipart=False)


def test_what_is_put_is_there_by_any_name(server: S3Server) -> None:
    place = store(server)
    for key in ("runs/a.json", "responses/run_id=r-1/part-3of16-12.parquet", "odd/ä b=%20c+d&.txt"):
        create(place, key, key.encode())
        assert server.read(key) == key.encode()
        assert bytes(obstore.get(place, key).bytes()) == key.encode()
    assert len(server.keys) == 3


def test_an_upload_that_its_client_did_not_end_is_none(server: S3Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(
            f"PUT /{server.bucket}/key HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n".encode() + b"x" * 50
        )
        client.shutdown(socket.SHUT_WR)
        assert client.recv(100) == b""
    assert server.keys == []
    assert server.requests[0].status == 0


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_of_many_conditional_puts_at_once_one_wins(server: S3Server, scheme: str) -> None:
    place = from_url(f"{scheme}://{server.bucket}")

    def tries(mode: Any) -> int:
        def one(n: int) -> bool:
            try:
                obstore.put(place, "lock", f"{mode} {n}".encode(), mode=mode)
            except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
                return False
            return True

        with ThreadPoolExecutor(8) as threads:
            return sum(threads.map(one, range(24)))

    assert tries("create") == 1
    head = obstore.head(place, "lock")
    assert tries({name: head[name] for name in ("e_tag", "version") if head[name]}) == 1
    assert server.read("lock").startswith(b"{")
    assert [entry["path"] for page in obstore.list(place) for entry in page] == ["lock"]


@pytest.mark.parametrize("fault", ["slow_down", "internal", "refused", "conflict"])
def test_nothing_is_done_by_a_request_that_is_refused(server: S3Server, fault: str) -> None:
    server.faults = once(fault)
    with pytest.raises((exceptions.BaseError, OSError)):
        create(store(server, retry_config=NO_RETRY), "key", b"data")
    assert server.keys == []
    assert server.requests[0].fault == fault
    create(store(server), "key", b"data")
    assert server.read("key") == b"data"


def test_a_lost_reply_is_followed_by_412_to_the_clients_own_put(server: S3Server) -> None:
    server.faults = once("lost")
    with pytest.raises(exceptions.AlreadyExistsError):
        create(store(server), "key", b"data")
    assert server.read("key") == b"data"
    assert [request.status for request in server.requests] == [200, 412]


@pytest.mark.parametrize(("fault", "kept"), [("timeout", []), ("late", ["key"])])
def test_a_time_out_before_or_after_the_put(server: S3Server, fault: str, kept: list[str]) -> None:
    server.faults = once(fault)
    with pytest.raises((exceptions.BaseError, OSError)):
        create(store(server, retry_config=NO_RETRY, client_options=GET_TIMES_OUT), "key", b"data")
    assert server.keys == kept


def test_a_download_that_is_cut_is_no_shorter_object(server: S3Server) -> None:
    server.write("key", b"x" * 100_000)
    server.faults = Faults(chosen=lambda request: "cut")
    with pytest.raises((exceptions.BaseError, OSError)):
        bytes(obstore.get(store(server, retry_config=NO_RETRY), "key").bytes())
    assert server.count("cut") == 1


def test_a_client_whose_clock_is_ahead_sees_the_stores_times_that_much_earlier(server: S3Server) -> None:
    place = store(server)
    obstore.put(place, "key", b"data")
    was = obstore.head(place, "key")["last_modified"]
    server.clocks["test"] = 3600
    assert (was - obstore.head(place, "key")["last_modified"]).total_seconds() == 3600
    assert (was - obstore.get(place, "key").meta["last_modified"]).total_seconds() == 3600


def test_a_stale_list_is_that_before_the_last_writes(server: S3Server) -> None:
    def listed(prefix: str | None = None) -> dict[str, int]:
        return {entry["path"]: entry["size"] for page in obstore.list(place, prefix) for entry in page}

    place = store(server)
    server.faults = Faults(stale=3)
    for key in ("a/1", "a/2", "b/1", "b/2"):
        obstore.put(place, key, b"12")
    assert listed() == {"a/1": 2}
    obstore.delete(place, "a/1")
    obstore.put(place, "a/2", b"1234")
    assert listed() == {"a/1": 2, "a/2": 2, "b/1": 2}
    assert listed("a") == {"a/1": 2, "a/2": 2}
    server.faults = Faults()
    assert listed() == {"a/2": 4, "b/1": 2, "b/2": 2}


def test_which_request_meets_a_fault_follows_from_the_seed() -> None:
    def met(seed: int) -> list[str]:
        faults = Faults(slow_down=0.2, lost=0.2, cut=0.2, seed=seed)
        return [faults.of(Request(0, "PUT", f"k{n}", "", ""), 1) for n in range(300)]

    assert met(1) == met(1) != met(2)
    assert {name: round(met(1).count(name) / 60) for name in set(met(1))} == {"": 3, "slow_down": 1, "lost": 1}
