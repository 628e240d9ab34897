"""What the gateway says to those whom it does not serve, as each SDK's users see it; and streams that are kept alive."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import sdks
from processes import Gateway, Simulated
from sdks import SDKS, Ask, Sdk

KEY = "sk-of-the-gateway-0123456789"
LIMITED = "sk-of-the-gateway-limited-0123"
AUTH = f"""
[auth]
keys = [
  {{ value = "{KEY}" }},
  {{ value = "{LIMITED}", routes = ["limited"], requests_per_minute = 1 }},
]
[routes."limited"]
targets = [{{ provider = "primary" }}]
"""
ASK = Ask(prompt="Say something.", most_tokens=100)


@pytest.fixture
def guarded(start_gateway: Callable[..., Gateway]) -> Gateway:
    return start_gateway(defaults=AUTH, patience="5s")


@pytest.fixture(params=SDKS.values(), ids=lambda sdk: sdk.dialect)
def connect(
    request: pytest.FixtureRequest, guarded: Gateway, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], Sdk]]:
    """Gives the SDK's client with a key."""
    clients: list[Sdk] = []

    def with_key(key: str) -> Sdk:
        monkeypatch.setattr(sdks, "CLIENT_KEY", key)
        clients.append(request.param(guarded.url))
        return clients[-1]

    yield with_key
    for client in clients:
        client.close()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_the_right_key_is_taken_where_the_sdk_puts_it(connect: Callable[[str], Sdk], stream: bool) -> None:
    assert "[primary]" in connect(KEY).ask("any-model", ASK, stream).text


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_each_refusal_is_the_error_that_the_sdk_has_for_it(
    connect: Callable[[str], Sdk], simulated: Simulated, stream: bool
) -> None:
    failure = connect("sk-of-nobody").failure("any-model", ASK, stream)
    assert (failure.kind, failure.status) in [("AuthenticationError", 401), ("ClientError", 401)]
    assert "sk-of-nobody" not in failure.message

    limited = connect(LIMITED)
    failure = limited.failure("any-model", ASK, stream)
    assert (failure.kind, failure.status) in [("PermissionDeniedError", 403), ("ClientError", 403)]
    assert simulated.requests("primary") == 0

    assert "[primary]" in limited.ask("limited", ASK, stream).text
    failure = limited.failure("limited", ASK, stream)
    assert (failure.kind, failure.status) in [("RateLimitError", 429), ("ClientError", 429)]
    assert simulated.requests("primary") == 1


@pytest.mark.parametrize("sdk_of", SDKS.values(), ids=lambda sdk: sdk.dialect)
def test_every_sdk_reads_past_what_keeps_a_stream_alive(
    sdk_of: type[Sdk], start_gateway: Callable[..., Gateway], simulated: Simulated
) -> None:
    simulated.set("primary", "slow-first-token:400ms")
    gateway = start_gateway(defaults='keep_alive = "50ms"', patience="5s")
    sdk = sdk_of(gateway.url)
    # Not known when the stream began.
    sdk._http.event_hooks["response"].append(lambda response: response.headers.setdefault("x-failover-target", ""))
    result = sdk.ask("any-model", ASK, stream=True)
    assert "[primary]" in result.text
    assert sdk._last is not None
    assert sdk._last.headers["x-failover-target"] == "", "it did not begin before its answer"
    sdk.close()
