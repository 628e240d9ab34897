"""Runs what the README and the guides tell people to run: their commands, and their Python.

Each page is followed from its top in a folder of its own, as a reader would: a block that is a file (`# gateway.toml` in its
first line) is written to it, a command that serves goes on serving, and whatever stands below talks to it. Only where things
are is changed: the gateway's port, and the providers' addresses, which are those of simulated providers.
"""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from processes import Gateway, binary

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\S+)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
CARGO = "cargo run --release --features gateway"
# What `.ci/run` has run already when it comes here.
ALREADY_RUN = re.compile(r"^(cargo (test|bench|add|install|build|fmt|clippy|run --example|fuzz|\+nightly)|\.ci/run|UPDATE_DOCS|RUSTFLAGS)")
# What needs a machine of another kind: it is shown for those who have one.
ELSEWHERE = re.compile(r"^(docker|systemctl|sudo|journalctl|kubectl|promtool|amtool|useradd|install|export|kill|git|pip|openssl|source)\b")
# The providers that pages name, and the address that stands in for each.
HOSTS = re.compile(
    r"https://(?:api\.openai\.com/v1|api\.anthropic\.com|generativelanguage\.googleapis\.com|api\.groq\.com/openai/v1"
    r"|openrouter\.ai/api/v1|[A-Z]+\.openai\.azure\.com/openai/deployments/\{model\})"
)
PATIENCE = 60.0


@dataclass
class Block:
    page: Path
    line: int
    language: str
    code: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    return [Block(page, text.count("\n", 0, found.start()) + 1, found[1], found[2]) for found in FENCE.finditer(text)]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Reader:
    """Follows one page."""

    def __init__(self, folder: Path, simulated: list[str]) -> None:
        self.folder = folder
        self.simulated = simulated
        self.port = free_port()
        self.serving: subprocess.Popen[bytes] | None = None
        self.served: list[str] = []

    def here(self, text: str) -> str:
        """With the addresses of this machine."""
        text = text.replace("127.0.0.1:8080", f"127.0.0.1:{self.port}").replace("localhost:8080", f"127.0.0.1:{self.port}")

        def stand_in(found: re.Match[str]) -> str:
            version = "/v1" if re.search(r"/v1$|deployments", found[0]) else ""
            return self.simulated[0 if "openai.com" in found[0] else 1] + version

        return HOSTS.sub(stand_in, text)

    def environment(self) -> dict[str, str]:
        keys = set(re.findall(r'env = "(\w+)"', " ".join(page.read_text() for page in PAGES)))
        return {**os.environ, "NO_COLOR": "1", **{key: f"sk-{key.lower()}" for key in keys | {"ADMIN_KEY", "GATEWAY_KEY"}}}

    def follow(self, block: Block) -> bool:
        """Does what a block says; whether it said something to be done."""
        if block.language == "toml":
            named = re.match(r"# (\S+\.toml)\n", block.code)
            if named or "[providers." in block.code:
                (self.folder / (named[1] if named else "gateway.toml")).write_text(self.here(block.code))
            return bool(named)
        if block.language in ("sh", "bash", "console"):
            return any([self.command(block, line) for line in commands(block.code)])
        if block.language == "python":
            self.serve_if_none(block)
            self.run(block, [sys.executable, "-c", self.here(block.code)])
            return True
        return False

    def command(self, block: Block, line: str) -> bool:
        if ALREADY_RUN.match(line) or ELSEWHERE.match(line):
            return False
        if line.startswith(CARGO) or line.startswith("failover-gateway"):
            rest = line.removeprefix(CARGO).removeprefix("failover-gateway").strip().removeprefix("--").strip()
            arguments = shlex.split(self.here(rest), comments=True)
            if not arguments or arguments[0] in ("serve", "--config", "--listen"):
                self.serve(block, arguments)
            elif "--every" in arguments:
                self.run_once(block, [str(binary()), *arguments])
            else:
                self.run(block, [str(binary()), *arguments])
            return True
        if line.startswith("curl"):
            self.serve_if_none(block)
        self.run(block, ["bash", "-euo", "pipefail", "-c", self.here(line)])
        return True

    def run(self, block: Block, command: list[str]) -> None:
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment(), stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE
        )
        shown = f"{block}: {shlex.join(command)}\n{done.stdout.decode()}{done.stderr.decode()}"
        assert done.returncode == 0, shown

    def run_once(self, block: Block, command: list[str]) -> None:
        """What goes on until it is stopped: once it has printed something, it is."""
        with subprocess.Popen(
            command, cwd=self.folder, env=self.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            printed = process.stdout.readline()
            process.terminate()
            assert process.wait(20) == 0 and printed, f"{block}: {shlex.join(command)}\n{printed.decode()}"

    def serve(self, block: Block, arguments: list[str]) -> None:
        self.stop()
        if "--config" not in arguments and "--listen" not in arguments:
            arguments = [*(arguments or ["serve"]), "--listen", f"127.0.0.1:{self.port}"]
        log = (self.folder / "serving.log").open("wb")
        self.serving = subprocess.Popen(
            [binary(), *arguments], cwd=self.folder, env=self.environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            if self.serving.poll() is not None:
                break
            time.sleep(0.05)
        pytest.fail(f"{block}: does not serve:\n{(self.folder / 'serving.log').read_text()}")

    def serve_if_none(self, block: Block) -> None:
        """Where a page leaves that out: its last configuration, or the one without any."""
        if self.serving is None:
            config = self.folder / "gateway.toml"
            self.serve(block, ["serve", "--config", str(config), "--listen", f"127.0.0.1:{self.port}"] if config.exists() else [])

    def stop(self) -> None:
        if self.serving is not None:
            self.serving.terminate()
            assert self.serving.wait(20) == 0
            self.serving = None


def commands(code: str) -> Iterator[str]:
    """The commands of a block, with continued lines joined."""
    for line in code.replace("\\\n", " ").splitlines():
        line = line.removeprefix("$ ").strip()
        if line and not line.startswith("#"):
            yield line


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The addresses of two simulated providers, without a version."""
    import httpx2

    gateway = Gateway(tmp_path_factory.mktemp("providers") / "log", "--listen", "127.0.0.1:0")
    listed = httpx2.get(f"{gateway.url}/simulated").json()
    yield [provider["base_url"].removesuffix("/v1") for provider in listed]
    gateway.stop()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_says_works_from_top_to_bottom(page: Path, tmp_path: Path, simulated: list[str]) -> None:
    reader = Reader(tmp_path, simulated)
    try:
        done = [reader.follow(block) for block in blocks(page)]
    finally:
        if reader.serving is not None:
            reader.serving.terminate()
            reader.serving.wait(20)
    if not any(done):
        pytest.skip("there is nothing to be done on it")
