"""The guard in conftest.py: no test reaches another machine, whichever way it tries."""

from __future__ import annotations

import asyncio
import socket

import aiohttp
import pytest
from conftest import OutsideConnection

FAR = "192.0.2.1"  # TEST-NET-1 (RFC 5737): no such machine


def test_sockets_do_not_leave_this_machine() -> None:
    with socket.socket() as stream, pytest.raises(OutsideConnection):
        stream.connect((FAR, 80))
    with socket.socket(type=socket.SOCK_DGRAM) as datagrams, pytest.raises(OutsideConnection):
        datagrams.sendto(b"x", (FAR, 53))
    with pytest.raises(OutsideConnection):
        socket.getaddrinfo("example.org", 443)


async def test_nor_do_asyncio_and_aiohttp() -> None:
    with pytest.raises(OutsideConnection):
        await asyncio.open_connection(FAR, 80)
    async with aiohttp.ClientSession() as session:
        for host in (FAR, "example.org"):
            with pytest.raises(OutsideConnection):
                await session.get(f"http://{host}/")


async def test_loopback_is_open() -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    assert await reader.read() == b""
    writer.close()
    server.close()
