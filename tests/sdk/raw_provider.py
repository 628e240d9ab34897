"""A provider that answers every request with the same bytes, and keeps the bytes that it got."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

PATIENCE = 10.0


@dataclass(frozen=True)
class RawRequest:
    head: bytes
    body: bytes


class RawProvider:
    """Listens while its `with` block runs. The pieces of the answer are sent one by one, a moment apart."""

    def __init__(self, *answer: bytes, moment: float = 0.0) -> None:
        self.answer: Sequence[bytes] = answer
        self.received: list[RawRequest] = []
        # When each piece went out, by `time.monotonic`.
        self.sent: list[float] = []
        self._moment = moment
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"

    def __enter__(self) -> RawProvider:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join(PATIENCE)
        self._listener.close()

    def _run(self) -> None:
        # Closing a listener does not wake its `accept`.
        self._listener.settimeout(0.05)
        while not self._stopped.is_set():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            with connection:
                connection.settimeout(PATIENCE)
                # A gateway that leaves is no trouble here.
                with contextlib.suppress(OSError):
                    self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data = b""
        while b"\r\n\r\n" not in data:
            received = connection.recv(65536)
            if not received:
                return
            data += received
        head, body = data.split(b"\r\n\r\n", 1)
        length = next(
            int(value)
            for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:])
            if name.lower() == b"content-length"
        )
        while len(body) < length:
            body += connection.recv(65536)
        self.received.append(RawRequest(head, body))
        for piece in self.answer:
            self.sent.append(time.monotonic())
            connection.sendall(piece)
            time.sleep(self._moment)


def response(body: bytes, content_type: str, *headers: str, status: str = "200 OK") -> bytes:
    """A response with the body's length, after which the connection closes."""
    lines = [f"HTTP/1.1 {status}", f"content-type: {content_type}", f"content-length: {len(body)}", "connection: close"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


def chunked_head(content_type: str, *headers: str) -> bytes:
    """The head of a response whose body follows in chunks."""
    lines = ["HTTP/1.1 200 OK", f"content-type: {content_type}", "transfer-encoding: chunked", "connection: close"]
    return "\r\n".join([*lines, *headers, "", ""]).encode()


def chunk(data: bytes) -> bytes:
    """A chunk; an empty one ends the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)
