"""A headless Chromium, driven over its debugging protocol."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import websocket

START_SECONDS = 30.0
PATIENCE_SECONDS = 15.0


def binary() -> str | None:
    names = [os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome"]
    return next(filter(None, map(shutil.which, filter(None, names))), None)


class Browser:
    """One Chromium with an empty profile, and one page in it."""

    def __init__(self) -> None:
        path = binary()
        if path is None:
            raise FileNotFoundError("no chromium: install Debian's, or set CHROMIUM")
        self._profile = tempfile.mkdtemp()
        self._process = subprocess.Popen(
            [
                path,
                "--headless=new",
                # A container has neither its user namespaces nor much shared memory; only our own page is loaded.
                "--no-sandbox",
                "--disable-dev-shm-usage",
                "--disable-gpu",
                "--hide-scrollbars",
                "--no-first-run",
                "--no-proxy-server",
                "--remote-debugging-port=0",
                "--remote-allow-origins=*",
                f"--user-data-dir={self._profile}",
                "about:blank",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._ids = itertools.count(1)
        self.messages: list[dict[str, Any]] = []
        address = f"http://127.0.0.1:{self._port()}/json"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        pages = [page for page in json.load(opener.open(address, timeout=10)) if page["type"] == "page"]
        self._socket = websocket.create_connection(
            pages[0]["webSocketDebuggerUrl"], timeout=PATIENCE_SECONDS, http_no_proxy=["127.0.0.1"]
        )
        for domain in ["Page", "Runtime", "Log", "Network"]:
            self.call(f"{domain}.enable")

    def _port(self) -> str:
        file = Path(self._profile, "DevToolsActivePort")
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if file.exists() and (lines := file.read_text().splitlines()):
                return lines[0]
            time.sleep(0.05)
        self.stop()
        raise RuntimeError("chromium did not start")

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        shutil.rmtree(self._profile, ignore_errors=True)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]
            self.messages.append(message)

    def evaluate(self, expression: str) -> Any:
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def resize(self, width: int, height: int, phone: bool = False, dark: bool = False) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, url: str) -> None:
        self.messages.clear()
        self.call("Page.navigate", url=url)

    def text(self) -> str:
        return self.evaluate("document.body ? document.body.innerText : ''") or ""

    def until(self, what: str, holds: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> Any:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if value := holds():
                return value
            time.sleep(0.05)
        raise AssertionError(f"not within {seconds} s: {what}. The page:\n{self.text()}")

    def until_shown(self, text: str) -> None:
        self.until(f"the page shows {text!r}", lambda: text in self.text())

    def click(self, label: str) -> None:
        """Clicks the button of that accessible name, as a mouse does."""
        find = f"[...document.querySelectorAll('button')].find(b => (b.getAttribute('aria-label') || b.textContent) === {json.dumps(label)} && b.checkVisibility())"
        self.until(f"there is a button {label!r}", lambda: self.evaluate(f"!!({find})"))
        place = self.evaluate(
            f"(() => {{ const b = {find}; b.scrollIntoView({{block: 'center'}}); const r = b.getBoundingClientRect();"
            " return [r.x + r.width / 2, r.y + r.height / 2] })()"
        )
        for kind in ["mousePressed", "mouseReleased"]:
            self.call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)

    def click_away(self, label: str) -> None:
        """Clicks a button that goes away when it has done its work: until then the page may move it from under the mouse."""
        self.click(label)
        find = f"[...document.querySelectorAll('button')].some(b => (b.getAttribute('aria-label') || b.textContent) === {json.dumps(label)} && b.checkVisibility())"
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.evaluate(find) and time.monotonic() < deadline:
            time.sleep(1.5)
            if self.evaluate(find):
                self.click(label)

    def complaints(self) -> list[str]:
        """What the browser logged as an error: an exception, or something that the content security policy forbids."""
        self.evaluate("1")
        found = []
        for message in self.messages:
            entry = message.get("params", {}).get("entry", {})
            if message["method"] == "Runtime.exceptionThrown" or entry.get("level") == "error":
                found.append(json.dumps(message["params"]))
        return found

    def screenshot(self, path: Path, whole: bool = True) -> None:
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(answer["data"]))
