"""The gateway as a child process, and the controls of the simulated providers."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import httpx2

START_SECONDS = 15.0
STOP_SECONDS = 10.0
LISTENING = re.compile(r"listening on (http://\S+)")


def binary() -> Path:
    root = Path(__file__).resolve().parents[2]
    target = Path(os.environ.get("CARGO_TARGET_DIR", root / "target"))
    path = Path(os.environ.get("FAILOVER_GATEWAY", target / "release" / "failover-gateway")).absolute()
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: build it with `cargo build --release --features gateway`, or set FAILOVER_GATEWAY"
        )
    return path


class Gateway:
    """One `failover-gateway serve`, with everything that it prints at trace level in one file."""

    def __init__(self, log: Path, *arguments: str) -> None:
        self._log = log
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [binary(), "serve", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=file,
                env={**os.environ, "RUST_LOG": "trace", "NO_COLOR": "1"},
            )
        self.url = ""
        self._started = threading.Event()
        self._printed: list[bytes] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._started.wait(START_SECONDS) or not self.url:
            self.stop()
            raise RuntimeError(f"the gateway did not start:\n{self.log()}")

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._printed.append(line)
            found = LISTENING.search(line.decode(errors="replace"))
            if found and not self.url:
                self.url = found[1].rstrip("/")
                self._started.set()
        self._started.set()

    def log(self) -> str:
        """What it has printed so far, on either stream; all of it once it has stopped."""
        return b"".join(self._printed).decode(errors="replace") + self._log.read_text(errors="replace")

    def stop(self) -> int:
        """Ends it as an operator does, and gives its exit status."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            status = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        self._reader.join(STOP_SECONDS)
        return status


class Simulated:
    """The simulated providers of a gateway that runs without a configuration."""

    NAMES = ("primary", "fallback")

    def __init__(self, gateway: Gateway) -> None:
        self._http = httpx2.Client(base_url=gateway.url, trust_env=False)

    def _ask(self, method: str, path: str) -> Any:
        response = self._http.request(method, path)
        assert response.status_code in (200, 204), f"{method} {path}: {response.status_code} {response.text}"
        return response.json() if response.content else None

    def provider(self, name: str) -> dict[str, Any]:
        return next(entry for entry in self._ask("GET", "/simulated") if entry["name"] == name)

    def base_url(self, name: str) -> str:
        return str(self.provider(name)["base_url"])

    def requests(self, name: str) -> int:
        return int(self.provider(name)["requests"])

    def set(self, name: str, fault: str) -> None:
        self._ask("POST", f"/simulated/{name}/{fault}")

    def received(self, name: str) -> list[dict[str, Any]]:
        return list(self._ask("GET", f"/simulated/{name}/received"))

    def reset(self) -> None:
        """All healthy, nothing remembered."""
        for name in self.NAMES:
            self.set(name, "none")
        self.forget()

    def forget(self) -> None:
        """Nothing remembered; what is broken stays so."""
        for name in self.NAMES:
            self._ask("DELETE", f"/simulated/{name}/received")

    def close(self) -> None:
        self._http.close()
