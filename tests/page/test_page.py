"""The status page in a headless Chromium, in front of the real gateway."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from browser import Browser

QUESTION = {"model": "gpt-4o", "stream": True, "messages": [{"role": "user", "content": "Hello!"}]}
HOSTILE = "<img src=x onerror=\"document.title='taken over'\"><script>document.title='taken over'</script>"


def binary() -> Path:
    root = Path(__file__).resolve().parents[2]
    target = Path(os.environ.get("CARGO_TARGET_DIR", root / "target"))
    return Path(os.environ.get("FAILOVER_GATEWAY", target / "release" / "failover-gateway"))


class Gateway:
    """One `failover-gateway serve`; without a configuration file it has simulated providers."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [binary(), "serve", *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline().decode()
        threading.Thread(target=self._process.stdout.read, daemon=True).start()
        found = re.search(r"listening on (http://\S+)", line)
        assert found, line
        self.url = found[1]

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(10)

    def post(self, path: str, body: object = None) -> tuple[int, bytes]:
        data = b"" if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path, data, {"content-type": "application/json"}, method="POST"
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            answer = opener.open(request, timeout=20)
            return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def ask(self, times: int = 1) -> bytes:
        for _ in range(times):
            _, body = self.post("/v1/chat/completions", QUESTION)
        return body


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    browser = Browser()
    yield browser
    browser.stop()


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    gateway = Gateway("--listen", "127.0.0.1:0")
    yield gateway
    gateway.stop()


def look(browser: Browser, gateway: Gateway, width: int = 1280, height: int = 900, **how: bool) -> None:
    browser.resize(width, height, **how)
    browser.open(gateway.url + "/")
    browser.until_shown("Live")


def test_an_outage_is_shown_while_somebody_looks_and_so_is_its_end(browser: Browser, gateway: Gateway) -> None:
    gateway.ask(3)
    look(browser, gateway)
    browser.until_shown("All healthy")
    assert "Nothing out of the ordinary" in browser.text()
    gateway.post("/simulated/primary/down")
    assert b"[fallback]" in gateway.ask(8)
    began = time.monotonic()
    browser.until_shown("gpt-4o failed over from primary/* to fallback/*: connect")
    browser.until_shown("1 of 2 healthy")
    # It asks once a second.
    assert time.monotonic() - began < 2.5
    assert browser.evaluate("document.title").startswith("◐")
    gateway.post("/simulated/fallback/down")
    gateway.ask(8)
    browser.until_shown("2 routes have no healthy target")
    assert browser.evaluate("document.querySelector('[role=alert]').innerText").count("no healthy target") == 1
    for name in ["primary", "fallback"]:
        gateway.post(f"/simulated/{name}/up")
    browser.click_away("Close primary/*")
    browser.click_away("Close fallback/*")
    browser.until_shown("All healthy")
    browser.until("the banner is gone", lambda: "no healthy target" not in browser.text())
    assert browser.complaints() == []


def test_a_target_is_drained_and_put_back_by_its_buttons(browser: Browser, gateway: Gateway) -> None:
    look(browser, gateway)
    browser.click("Drain primary/*")
    browser.until_shown("Drain primary/*?")
    browser.click("Cancel")
    assert b"[primary]" in gateway.ask()
    browser.click("Drain primary/*")
    browser.until_shown("Drain primary/*?")
    browser.click("Drain")
    browser.until_shown("until it is closed by hand")
    browser.until_shown("primary/* was drained by hand")
    assert b"[fallback]" in gateway.ask()
    browser.click("Close primary/*")
    browser.until_shown("primary/* was put back by hand")
    assert b"[primary]" in gateway.ask()
    assert browser.complaints() == []


@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_wider_than_a_phone(browser: Browser, gateway: Gateway, dark: bool) -> None:
    gateway.post("/simulated/primary/down")
    gateway.ask(8)
    for width in [320, 375, 768, 1024, 1280]:
        look(browser, gateway, width, 800, phone=width < 700, dark=dark)
        browser.until_shown("1 of 2 healthy")
        assert browser.evaluate("document.documentElement.scrollWidth") <= width, width
    ground = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground)[:3])) < 150) == dark, ground


def test_every_button_and_table_has_a_name_and_the_keyboard_reaches_them(browser: Browser, gateway: Gateway) -> None:
    look(browser, gateway, 375, 800)
    tree = browser.call("Accessibility.getFullAXTree")["nodes"]
    names = {
        role: [node["name"]["value"] for node in tree if node["role"]["value"] == role and not node["ignored"]]
        for role in ["button", "table", "columnheader", "region", "log"]
    }
    # Two targets on each of two routes, though a narrow page shows them as cards.
    assert len(names["button"]) == 8 and "Drain primary/*" in names["button"]
    assert "Targets of gpt-4o" in names["table"] and "Route gpt-4o" in names["region"]
    assert "Circuit" in names["columnheader"] and names["log"] == ["What happened"]
    reached = set()
    for _ in range(12):
        for kind in ["keyDown", "keyUp"]:
            browser.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
        reached.add(browser.evaluate("document.activeElement.getAttribute('aria-label')"))
    assert {"Open primary/*", "Drain primary/*", "Open fallback/*", "Drain fallback/*"} <= reached


def test_it_says_so_when_the_gateway_is_gone(browser: Browser) -> None:
    gateway = Gateway("--listen", "127.0.0.1:0")
    look(browser, gateway)
    gateway.stop()
    browser.until_shown("The gateway does not answer this page")
    assert "primary/*" in browser.text()


class Hostile(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps({"error": {"message": HOSTILE, "code": HOSTILE, "type": HOSTILE}}).encode()
        self.send_response(500)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_markup_in_what_a_provider_says_is_text(browser: Browser, tmp_path: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hostile)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = tmp_path / "gateway.toml"
    config.write_text(
        f"""
        listen = "127.0.0.1:0"
        [providers.hostile]
        dialect = "openai-chat"
        base_url = "http://127.0.0.1:{server.server_port}/v1"
        tags = ["<b>tag"]
        [defaults]
        retry = {{ attempts = 1 }}
        [routes."gpt-4o"]
        targets = [{{ provider = "hostile", model = "<i>m</i>" }}, {{ provider = "hostile", model = "b" }}]
        """
    )
    gateway = Gateway("--config", str(config))
    try:
        gateway.ask(3)
        look(browser, gateway)
        browser.until_shown(HOSTILE)
        browser.until_shown("hostile/<i>m</i>")
        browser.until_shown("<b>tag")
        assert browser.evaluate("document.querySelectorAll('main img, main script, main i').length") == 0
        assert browser.evaluate("document.title").endswith("Gateway status")
        assert browser.complaints() == []
        # The policy would stop it, had it become markup after all.
        browser.evaluate(f"document.querySelector('main').innerHTML = {json.dumps(HOSTILE)}")
        time.sleep(0.3)
        assert browser.evaluate("document.title").endswith("Gateway status")
    finally:
        gateway.stop()
        server.shutdown()
