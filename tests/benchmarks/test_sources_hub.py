"""The hub is asked where no folder has the data, once; offline, what is missing is said.

A server on the loopback address speaks as much of the hub's protocol as a download takes.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from source_files import draw, encode, parquet_bytes, thirds

pytest.importorskip("huggingface_hub", reason="huggingface-hub is not installed")

COMMIT = "c" * 40
REPOSITORY = "uoft-cs/cifar10"
LOAD = """
import sys
from pathlib import Path
from benchmarks.errors import DataError
from benchmarks.progress import Silent
from benchmarks.sources.lookup import open_source
from benchmarks.store import Store
try:
    data = open_source("cifar10").load(Store(Path(sys.argv[1])), Silent())
except DataError as error:
    sys.exit(f"DataError: {error}")
print(len(data.train), len(data.test), *data.class_names, data.rule, sep="|")
"""


def parquet(count: int) -> bytes:
    images = [encode(image) for image in draw(count)]
    return parquet_bytes(images, thirds(count), image_column="img")


class Hub(ThreadingHTTPServer):
    """One data set repository; `asked` keeps the paths that were requested."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.asked: list[str] = []
        self.files = {
            "README.md": b"about",
            "plain_text/train-00000-of-00001.parquet": parquet(30),
            "plain_text/test-00000-of-00001.parquet": parquet(9),
        }

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        self.server.asked.append(f"{self.command} {path}")
        files = self.server.files
        body: bytes | None = None
        if path.startswith(f"/api/datasets/{REPOSITORY}/tree/"):
            listing = [
                {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for name, data in files.items()
            ]
            body = json.dumps(listing).encode()
        elif path in (f"/api/datasets/{REPOSITORY}", f"/api/datasets/{REPOSITORY}/revision/main"):
            about = {"id": REPOSITORY, "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}
            body = json.dumps(about).encode()
        elif path.startswith(f"/datasets/{REPOSITORY}/resolve/{COMMIT}/"):
            body = files.get(path.split(f"{COMMIT}/")[1])
        self.send_response(200 if body is not None else 404)
        self.send_header("Content-Length", str(len(body or b"")))
        self.send_header("ETag", f'"{hashlib.sha1(body or b"").hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET" and body:
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def load(store: Path, home: Path, endpoint: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """`cifar10` loaded by a fresh process, as the hub's settings are read when it is imported."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "CARRYOVER_"))}
    clean = {name: value for name, value in clean.items() if "proxy" not in name.lower()}
    environment = clean | {"HF_HOME": str(home), "HF_ENDPOINT": endpoint} | settings
    command = [sys.executable, "-c", LOAD, str(store)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


def test_the_hub_is_asked_once_and_a_half_download_is_not_taken_for_a_data_set(
    hub: Hub, tmp_path: Path
) -> None:
    said = load(tmp_path / "store", tmp_path / "home", hub.address)
    assert said.stdout.strip() == "30|9|ant|bee|cat|official train and test", said.stderr
    assert not [path for path in hub.asked if "README" in path], "only the parquet files are fetched"

    hub.asked.clear()
    said = load(tmp_path / "another", tmp_path / "home", hub.address, HF_HUB_OFFLINE="1")
    assert said.stdout.startswith("30|9|"), said.stderr
    assert not hub.asked, "what is there is not asked for"

    (snapshot,) = (tmp_path / "home").glob("hub/datasets--*/snapshots/*")
    (snapshot / "plain_text/test-00000-of-00001.parquet").unlink()
    said = load(tmp_path / "another", tmp_path / "home", hub.address, HF_HUB_OFFLINE="1")
    assert said.returncode == 1
    assert said.stderr.startswith("DataError: cifar10 "), said.stderr
    said = load(tmp_path / "another", tmp_path / "home", hub.address)
    assert said.stdout.startswith("30|9|"), said.stderr


def test_offline_says_what_is_missing_where_it_was_looked_for_and_how_to_get_it(
    hub: Hub, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    said = load(
        tmp_path, tmp_path / "home", hub.address, HF_HUB_OFFLINE="1", CARRYOVER_DATA=str(tmp_path / "data")
    )
    assert said.stderr.count("\n") == 1
    for words in (
        "cifar10",
        str(tmp_path / "data/cifar10"),
        str(tmp_path / "home"),
        "HF_HUB_OFFLINE",
        REPOSITORY,
    ):
        assert words in said.stderr
    assert not hub.asked


def test_a_hub_that_does_not_answer_is_named(tmp_path: Path) -> None:
    said = load(tmp_path, tmp_path / "home", "http://127.0.0.1:9")
    assert said.stderr.startswith("DataError: cifar10 is not there"), said.stderr
    assert "http://127.0.0.1:9" in said.stderr
