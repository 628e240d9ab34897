"""Whose key reaches whom."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable

import httpx2
import openai
import pytest
from conftest import FALLBACK_KEY, PRIMARY_KEY
from observed import client, last_exchange
from openai import AsyncOpenAI
from processes import Gateway, Simulated
from raw_provider import RawProvider, chunk, chunked_head, response

CLIENT_KEY = f"sk-client-secret-{secrets.token_hex(8)}"
KEYS = {"client": CLIENT_KEY, "primary": PRIMARY_KEY, "fallback": FALLBACK_KEY}

# Everywhere that one API or another looks for a key.
SPREAD_OUT = {
    "x-api-key": CLIENT_KEY,
    "api-key": CLIENT_KEY,
    "x-goog-api-key": CLIENT_KEY,
    "proxy-authorization": f"Basic {CLIENT_KEY}",
    "cookie": f"session={CLIENT_KEY}; theme=dark",
}

# Of a rejected key the breaker thinks for long, so it comes last.
FAULTS = ["none", "reset", "rate-limited", "overloaded", "error-first-event", "down", "unauthorized"]


def assert_without(text: str, *owners: str) -> None:
    for owner in owners:
        # Not the text itself: it would be printed.
        assert (KEYS[owner] in text) is False, f"the key of {owner}"


def client_with_keys(gateway: Gateway) -> AsyncOpenAI:
    return client(
        gateway.url,
        api_key=CLIENT_KEY,
        default_headers=SPREAD_OUT,
        default_query={"key": CLIENT_KEY, "api-version": "7"},
    )


async def ask(sdk: AsyncOpenAI, stream: bool) -> None:
    answer = await sdk.chat.completions.create(
        model="gpt-4o", messages=[{"role": "user", "content": "Hi"}], stream=stream
    )
    if isinstance(answer, openai.AsyncStream):
        assert [chunk async for chunk in answer]
    exchange = last_exchange()
    assert_without(str(exchange.headers) + exchange.body.decode(), *KEYS)


def test_each_key_reaches_its_owner_only(start_gateway: Callable[..., Gateway], simulated: Simulated) -> None:
    gateway = start_gateway()

    async def run() -> None:
        async with client_with_keys(gateway) as sdk:
            for fault in FAULTS:
                simulated.set("primary", fault)
                await ask(sdk, stream=False)
                await ask(sdk, stream=True)
            # Nor does an error tell a key, whoever made it.
            for fault in ["unauthorized", "down"]:
                simulated.set("fallback", fault)
                with pytest.raises(openai.APIStatusError) as raised:
                    await ask(sdk, stream=False)
                assert_without(f"{raised.value!r}{raised.value.response.headers}{raised.value.response.text}", *KEYS)

    asyncio.run(run())

    for name, key in [("primary", PRIMARY_KEY), ("fallback", FALLBACK_KEY)]:
        others = [owner for owner in KEYS if owner != name]
        received = simulated.received(name)
        assert len(received) >= 5, "or this would prove nothing"
        for request in received:
            assert_without(json.dumps(request), *others)
            authorization = request["headers"].pop("authorization")
            assert (authorization == f"Bearer {key}") is True, "the key of the provider itself"
            assert_without(json.dumps(request), name)
            assert not SPREAD_OUT.keys() & request["headers"].keys()
            # What is no key stays.
            assert request["path"].endswith("/chat/completions?api-version=7"), request["path"]

    assert gateway.stop() == 0
    log = gateway.log()
    assert "TRACE" in log and "fallback" in log, "or this would prove nothing"
    assert_without(log, *KEYS)


# About something else than the key, or it would be the gateway's matter. The second is so long that what is kept of
# it for the log ends within the key.
TOLD = {
    "short": f"Invalid 'temperature'. We got 'Authorization: Bearer {PRIMARY_KEY}', {PRIMARY_KEY}.",
    "long": "Invalid 'temperature'. ".ljust(1024 - len(PRIMARY_KEY) + 1, ".") + PRIMARY_KEY,
}


def told_as_an_error(message: str, *headers: str) -> list[bytes]:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": "odd"}
    body = json.dumps({"error": error}).encode()
    return [response(body, "application/json", *headers, status="400 Bad Request")]


def told_in_a_stream(message: str) -> list[bytes]:
    choice = {"index": 0, "delta": {"role": "assistant", "content": "Well"}, "finish_reason": None}
    said = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    error = {"error": {"message": message, "type": "server_error", "param": None, "code": "odd"}}
    events = [b"data: %b\n\n" % json.dumps(event).encode() for event in (said, error)]
    return [chunked_head("text/event-stream"), *map(chunk, events), chunk(b"")]


@pytest.mark.parametrize(
    ("answer", "stream"),
    [
        pytest.param(told_as_an_error(TOLD["short"]), False, id="error"),
        pytest.param(told_as_an_error(TOLD["long"]), False, id="long error"),
        pytest.param(told_as_an_error("Invalid 'temperature'.", f"x-debug: key={PRIMARY_KEY}"), False, id="header"),
        pytest.param(told_in_a_stream(TOLD["short"]), True, id="event"),
        pytest.param(told_in_a_stream(TOLD["long"]), True, id="long event"),
    ],
)
def test_a_key_that_a_provider_repeats_goes_no_further(
    answer: list[bytes], stream: bool, start_gateway: Callable[..., Gateway], simulated: Simulated
) -> None:
    async def run(gateway: Gateway) -> str:
        async with client_with_keys(gateway) as sdk:
            with pytest.raises(openai.APIError) as raised:
                await ask(sdk, stream)
        exchange = last_exchange()
        return f"{raised.value!r}{raised.value.body}{exchange.headers}{exchange.body.decode()}"

    # A moment apart, so that the error comes when the stream has begun for the client.
    with RawProvider(*answer, moment=0.1) as provider:
        gateway = start_gateway(primary_url=provider.base_url)
        shown = asyncio.run(run(gateway))
        (received,) = provider.received
        assert_without((received.head + received.body).decode(), "client", "fallback")
    assert gateway.stop() == 0
    for text in (shown, gateway.log()):
        assert_without(text, *KEYS)
        # Nor most of one.
        assert (PRIMARY_KEY[:-8] in text) is False


def test_a_key_is_not_shown_by_the_gateway_itself(gateway: Gateway, simulated: Simulated) -> None:
    simulated.set("primary", "unauthorized")
    with httpx2.Client(base_url=gateway.url, trust_env=False) as http:
        bearer = {"authorization": f"Bearer {CLIENT_KEY}"}
        body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}
        assert http.post("/v1/chat/completions", headers=bearer, json=body).status_code == 200
        for path in ["/", "/healthz", "/readyz", "/metrics", "/status.json", "/v1/models", "/simulated"]:
            page = http.get(path, headers=bearer)
            assert_without(str(page.headers) + page.text, *KEYS)
