"""A hub on 127.0.0.1 that speaks what huggingface_hub asks of one when a data set is pushed, and keeps what it gets.

Data files come by Git LFS, so Xet is to be switched off (HF_HUB_DISABLE_XET); other files come within the commit.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import yaml  # type: ignore[import-untyped]
from aiohttp import web

TOKEN = "hf_right"
OWNER = "someone"


@dataclass
class Repository:
    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)


@dataclass
class FakeHub:
    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    tokens: list[str] = field(default_factory=list)
    """The Authorization header of each request that must have one."""
    asked: list[str] = field(default_factory=list)
    """Method and path of each request."""
    broken: str = ""
    """Requests whose path has this in it fail with status 500."""
    large: dict[str, bytes] = field(default_factory=dict)
    """By sha256."""

    def application(self) -> web.Application:
        application = web.Application(middlewares=[self._guard], client_max_size=2**26)
        name = "{owner}/{name}"
        application.add_routes(
            [
                web.post("/api/validate-yaml", self.validate),
                web.post("/api/repos/create", self.create),
                web.get(f"/api/datasets/{name}", self.info),
                web.post(f"/api/datasets/{name}/preupload/main", self.preupload),
                web.post(f"/datasets/{name}.git/info/lfs/objects/batch", self.batch),
                web.put("/large/{oid}", self.put),
                web.post(f"/api/datasets/{name}/commit/main", self.commit),
            ]
        )
        return application

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path}")
        if self.broken and self.broken in request.path:
            return _refuse(500, "Internal Error")
        if "/datasets/" in request.path or "/repos/" in request.path:
            self.tokens.append(request.headers.get("Authorization", ""))
            if self.tokens[-1] != f"Bearer {TOKEN}":
                return _refuse(401, "Invalid username or password.")
        answer: web.StreamResponse = await handler(request)
        return answer

    async def validate(self, request: web.Request) -> web.Response:
        asked = await request.json()
        assert asked["repoType"] == "dataset"
        header = yaml.safe_load(asked["content"].split("---\n")[1])
        if header["license"] not in ("unknown", "apache-2.0"):
            return web.json_response({"errors": [{"message": '"license" must be one of [apache-2.0]'}]}, status=400)
        return web.json_response({"errors": [], "warnings": []})

    async def create(self, request: web.Request) -> web.Response:
        asked = await request.json()
        assert asked["type"] == "dataset"
        owner = asked.get("organization") or OWNER
        name = f"{owner}/{asked['name']}"
        if owner != OWNER:
            return _refuse(403, f'You don\'t have the rights to create a dataset under the namespace "{owner}"')
        if name in self.repositories:
            return web.json_response({"url": f"{self.url}/datasets/{name}"}, status=409)
        private = asked.get("private") or asked.get("visibility") == "private"
        self.repositories[name] = Repository(bool(private), {".gitattributes": b"*.parquet filter=lfs\n"})
        return web.json_response({"url": f"{self.url}/datasets/{name}"})

    async def info(self, request: web.Request) -> web.Response:
        name = _name(request)
        if name not in self.repositories:
            return _refuse(404, "Repository not found", "RepoNotFound")
        there = self.repositories[name]
        siblings = [{"rfilename": path} for path in there.files]
        return web.json_response({"id": name, "sha": "0" * 40, "private": there.private, "siblings": siblings})

    async def preupload(self, request: web.Request) -> web.Response:
        asked = await request.json()
        modes = {True: "lfs", False: "regular"}
        files = [
            {"path": path, "uploadMode": modes[path.endswith(".parquet")], "shouldIgnore": False}
            for path in (file["path"] for file in asked["files"])
        ]
        return web.json_response({"files": files})

    async def batch(self, request: web.Request) -> web.Response:
        asked = await request.json()
        assert asked["operation"] == "upload"
        objects = [
            one
            | ({} if one["oid"] in self.large else {"actions": {"upload": {"href": f"{self.url}/large/{one['oid']}"}}})
            for one in asked["objects"]
        ]
        return web.json_response({"transfer": "basic", "objects": objects})

    async def put(self, request: web.Request) -> web.Response:
        content = await request.read()
        oid = request.match_info["oid"]
        assert hashlib.sha256(content).hexdigest() == oid
        self.large[oid] = content
        return web.Response()

    async def commit(self, request: web.Request) -> web.Response:
        there = self.repositories[_name(request)]
        files = dict(there.files)
        for line in (await request.text()).splitlines():
            step = json.loads(line)
            value = step["value"]
            if step["key"] == "header":
                message = value["summary"]
            elif step["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif step["key"] == "lfsFile":
                files[value["path"]] = self.large[value["oid"]]
            else:
                assert step["key"] == "deletedFile"
                del files[value["path"]]
        there.files = files
        there.messages.append(message)
        url = f"{self.url}/datasets/{_name(request)}/commit/{'1' * 40}"
        return web.json_response({"commitUrl": url, "commitOid": "1" * 40})


def _name(request: web.Request) -> str:
    return f"{request.match_info['owner']}/{request.match_info['name']}"


def _refuse(status: int, message: str, code: str = "") -> web.Response:
    headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
    return web.json_response({"error": message}, status=status, headers=headers)


@contextmanager
def running() -> Iterator[FakeHub]:
    """A fake hub that answers, in its own thread."""
    hub, loop, started = FakeHub(), asyncio.new_event_loop(), threading.Event()

    async def start() -> web.AppRunner:
        runner = web.AppRunner(hub.application())
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        hub.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        started.set()
        return runner

    def serve() -> None:
        runner = loop.run_until_complete(start())
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    assert started.wait(10)
    try:
        yield hub
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
