"""A small hub on loopback: repositories in memory, served as the public hub serves its own.

It answers the requests that ``huggingface_hub`` makes for a snapshot: a repository's commit, its tree, and
its files, whose ``HEAD`` names commit, hash and size and whose ``GET`` honours ``Range``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread

__all__ = ["INVALID_TOKEN", "Repository", "StandInHub", "serve_hub"]

INVALID_TOKEN = "hf_invalid"
"""A token of no account."""

_API = re.compile(
    r"/api/models/(?P<name>[^/]+/[^/]+)(/(?P<what>revision|tree)/(?P<revision>[^/?]+))?(\?.*)?$"
)
_FILE = re.compile(r"/(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>[^?]+)$")


@dataclass
class Repository:
    """``files`` by path; ``token`` is what it takes to read it, ``gated`` whether that is by consent.

    ``break_after`` bytes a file's connection breaks off, as often as ``breaks`` says; ``status`` is what
    requests are answered with, where it is not 200.
    """

    files: dict[str, bytes]
    commit: str = "c" * 40
    branches: tuple[str, ...] = ("main",)
    token: str | None = None
    gated: bool = False
    break_after: int = 0
    breaks: int = 0
    status: int = 200


@dataclass
class StandInHub:
    """The repositories, and the requests so far: method, path, and the ``Range`` asked for."""

    address: str
    repositories: dict[str, Repository]
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)

    def fetched(self) -> set[str]:
        """Paths of the files whose bytes were asked for."""
        files = (_FILE.match(path) for method, path, _ in self.requests if method == "GET")
        return {match["path"] for match in files if match}

    def ranges(self) -> list[str]:
        """The ranges asked for."""
        return [wanted for _, _, wanted in self.requests if wanted]


@contextmanager
def serve_hub(repositories: dict[str, Repository]) -> Iterator[StandInHub]:
    """A hub that runs until the block ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    hub = StandInHub(f"http://127.0.0.1:{server.server_address[1]}", repositories)
    server.hub = hub  # type: ignore[attr-defined]
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> StandInHub:
        hub: StandInHub = self.server.hub  # type: ignore[attr-defined]
        return hub

    def log_message(self, format: str, *arguments: object) -> None:
        """Keep the tests' output clean."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        with self.hub.lock:
            self.hub.requests.append((self.command, self.path, self.headers.get("Range")))
        match = _API.match(self.path) or _FILE.match(self.path)
        parts = match.groupdict() if match else {}
        repository = self.hub.repositories.get(parts.get("name", ""))
        authorization = self.headers.get("Authorization")
        if authorization == f"Bearer {INVALID_TOKEN}":
            return self._refuse(401, "", "Invalid credentials in Authorization header")
        if repository is None:
            return self._refuse(401 if authorization is None else 404, "RepoNotFound")
        if repository.token is not None and authorization != f"Bearer {repository.token}":
            if not repository.gated:
                return self._refuse(401 if authorization is None else 404, "RepoNotFound")
            if "path" in parts:  # what a gated repository holds is public, what is in its files is not
                return self._refuse(401 if authorization is None else 403, "GatedRepo")
        if repository.status != 200:
            return self._refuse(repository.status, "")
        revision = parts["revision"] or "main"
        if revision not in (*repository.branches, repository.commit):
            return self._refuse(404, "RevisionNotFound")
        if "path" in parts:
            return self._send_file(repository, parts["path"])
        if parts["what"] == "tree":
            return self._send(200, json.dumps([_entry(*item) for item in repository.files.items()]).encode())
        siblings = [{"rfilename": path} for path in repository.files]
        about = {
            "id": parts["name"],
            "modelId": parts["name"],
            "sha": repository.commit,
            "siblings": siblings,
        }
        return self._send(200, json.dumps(about).encode())

    def _refuse(self, status: int, code: str, message: str = "") -> None:
        self._send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": message or code})

    def _send_file(self, repository: Repository, path: str) -> None:
        if path not in repository.files:
            self._refuse(404, "EntryNotFound")
            return
        content = repository.files[path]
        headers = {
            "ETag": f'"{_hash(content)}"',
            "X-Repo-Commit": repository.commit,
            "Accept-Ranges": "bytes",
        }
        wanted = re.match(r"bytes=(\d+)-", self.headers.get("Range") or "")
        start = int(wanted[1]) if wanted else 0
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        with self.hub.lock:
            long_enough = self.command == "GET" and len(content) - start > repository.break_after
            breaks = long_enough and repository.breaks > 0
            repository.breaks -= breaks
        cut = repository.break_after if breaks else None
        self._send(206 if start else 200, content[start:], headers, cut=cut)

    def _send(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, *, cut: int | None = None
    ) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")  # or the connection would outlive the server
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[:cut])


def _hash(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


def _entry(path: str, content: bytes) -> dict[str, object]:
    return {"type": "file", "path": path, "size": len(content), "oid": _hash(content)}
