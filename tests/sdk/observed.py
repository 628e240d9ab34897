"""An SDK client whose exchanges can be looked at."""

from __future__ import annotations

import contextvars
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

import httpx2
from openai import AsyncOpenAI


@dataclass
class Exchange:
    """One response as it came, beneath the SDK."""

    headers: Mapping[str, str]
    body: bytearray = field(default_factory=bytearray)

    @property
    def target(self) -> str | None:
        return self.headers.get("x-failover-target")

    @property
    def attempts(self) -> int:
        return int(self.headers["x-failover-attempts"])


# A task has its own context, and so sees its own exchange.
_last: contextvars.ContextVar[Exchange] = contextvars.ContextVar("last exchange")


def last_exchange() -> Exchange:
    """The exchange that this task has begun last."""
    return _last.get()


class _Body(httpx2.AsyncByteStream):
    def __init__(self, inner: httpx2.AsyncByteStream, exchange: Exchange) -> None:
        self._inner = inner
        self._exchange = exchange

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._inner:
            self._exchange.body += piece
            yield piece

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Transport(httpx2.AsyncHTTPTransport):
    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await super().handle_async_request(request)
        exchange = Exchange(response.headers)
        _last.set(exchange)
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _Body(response.stream, exchange)
        return response


def client(url: str, **options: object) -> AsyncOpenAI:
    """A client of the gateway that never tries anything twice by itself."""
    settings: dict[str, object] = {"api_key": "sk-client", "max_retries": 0, "timeout": 20.0, **options}
    # An own transport also keeps proxies of the environment out.
    http_client = httpx2.AsyncClient(transport=_Transport())
    return AsyncOpenAI(base_url=f"{url}/v1", http_client=http_client, **settings)  # type: ignore[arg-type]
