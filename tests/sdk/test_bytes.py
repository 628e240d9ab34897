"""What the gateway must not change: bytes between a client and a provider of the same API."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from processes import Gateway, Simulated
from raw_provider import RawProvider, chunk, chunked_head, response

Starter = Callable[..., Gateway]

# White space, numbers, escapes and fields that any parser would write otherwise; `model` in places that are not it.
REQUEST = (
    r"""{ "temperature":1.0e+02 ,"x_model":"gpt-4o", "seed":123456789012345678901234567890,
  "x_unknown" : {"model":"gpt-4o", "n":[1e3, -0.0, 1E-7, 0.10, 1.0]},"model" : "gpt-4o" ,
  "messages":[{"role":"user","content":"caf\u00e9 \ud83d\ude00 \/ größe 数字 \"model\":\"gpt-4o\""}],
  "user":"a\u0000b", "stop":null,"z":1,"z":2}""".encode()
    + b"\t \n"
)

RESPONSE = r"""
{"id":"chatcmpl-odd","object":"chat.completion","created":1.7e9 ,  "model":"of-the-provider","choices":[ {"index":0,
"message":{"role":"assistant","content":"caf\u00e9 \ud83d\ude00 \/ größe","x":[1.0e+02,-0.0]},
"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3,
"big":123456789012345678901234567890},"z":null, "z":1e3}
""".replace("\n", "\r\n").encode()


def stream_chunk(delta: str, finish: str = "null") -> str:
    return (
        '{"id":"chatcmpl-odd","object":"chat.completion.chunk","created":1.7e9,  "model":"of-the-provider","x":1.0e+02,'
        '"choices":[{"index":0,"delta":' + delta + ',"finish_reason":' + finish + "}]}"
    )


# Comments, both kinds of line ends, fields that no client of this API reads, an event of two data lines.
STREAM = (
    ": welcome\r\n\r\n"
    "retry: 3000\r\nid: 7\r\ndata:" + stream_chunk('{"role":"assistant","content":""}') + "\r\n\r\n"
    ": still thinking\n\n"
    "event: message\r\ndata: " + stream_chunk('{"content":"gr\\u00f6ße "}') + "\r\n\r\n"
    "x-odd: 1\ndata:   " + stream_chunk('{"content":"数字 😀","x":null}') + "  \n\n"
    ":\r\n\r\n"
    "data: " + stream_chunk('{"content":" in two"}').replace(',"choices"', ',\ndata: "choices"') + "\n\n"
    "data: " + stream_chunk("{}", '"stop"') + "\r\n\r\n"
    "data: [DONE]\r\n\r\n"
).encode()


def settings(provider: RawProvider) -> dict[str, str]:
    # Nothing here is about time, but a busy machine may take some to send a stream byte by byte.
    return {"primary_url": provider.base_url, "patience": "15s"}


def post(url: str, body: bytes, **headers: str) -> httpx2.Response:
    with httpx2.Client(trust_env=False, timeout=20) as http:
        content_type = {"content-type": "application/json", "authorization": "Bearer sk-client"}
        return http.post(f"{url}/chat/completions", content=body, headers={**content_type, **headers})


@pytest.mark.parametrize("model", [None, 'a/model \u00fc "x"'], ids=["passed through", "replaced"])
def test_of_a_request_only_the_model_changes(model: str | None, start_gateway: Starter) -> None:
    with RawProvider(response(RESPONSE, "application/json")) as provider:
        if model is None:
            gateway, expected = start_gateway(**settings(provider)), [REQUEST]
        else:
            gateway = start_gateway(**settings(provider), primary=f"model = '{model}'")
            # However the name itself is written, which JSON leaves open.
            written = [b'"a/model \xc3\xbc \\"x\\""', b'"a/model \\u00fc \\"x\\""']
            expected = [REQUEST.replace(b'"model" : "gpt-4o" ,', b'"model" : ' + name + b" ,") for name in written]
        answer = post(f"{gateway.url}/v1", REQUEST, **{"x-of-the-client": "kept", "openai-organization": "org-1"})
        assert answer.status_code == 200, answer.text
        (received,) = provider.received
    assert received.body in expected, received.body
    head = received.head.lower()
    assert head.startswith(b"post /v1/chat/completions http/1.1\r\n")
    assert b"\r\nx-of-the-client: kept" in head
    assert b"\r\nopenai-organization: org-1" in head


def test_a_whole_answer_is_not_touched(start_gateway: Starter) -> None:
    headers = ["x-of-the-provider: kept", "set-cookie: a=b", "x-ratelimit-remaining-requests: 17"]
    with RawProvider(response(RESPONSE, "application/json; odd=1", *headers)) as provider:
        gateway = start_gateway(**settings(provider))
        answer = post(f"{gateway.url}/v1", REQUEST)
    assert answer.status_code == 200, answer.text
    assert answer.content == RESPONSE
    assert answer.headers["content-type"] == "application/json; odd=1"
    assert answer.headers["content-length"] == str(len(RESPONSE))
    assert answer.headers["x-of-the-provider"] == "kept"
    assert answer.headers["x-ratelimit-remaining-requests"] == "17"
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("size", [1, 7, 100, len(STREAM)])
def test_a_stream_is_not_touched(size: int, start_gateway: Starter) -> None:
    # The sizes cut events, line ends and characters in all places.
    pieces = [STREAM[at : at + size] for at in range(0, len(STREAM), size)]
    sent = [chunked_head("text/event-stream", "x-of-the-provider: kept"), *map(chunk, pieces), chunk(b"")]
    with RawProvider(*sent) as provider:
        gateway = start_gateway(**settings(provider))
        answer = post(f"{gateway.url}/v1", REQUEST.replace(b'"z":1,', b'"stream":true,'))
    assert answer.status_code == 200, answer.text
    assert answer.content == STREAM
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["x-of-the-provider"] == "kept"


def test_an_event_does_not_wait_for_the_next(start_gateway: Starter) -> None:
    events = [event + b"\n\n" for event in STREAM.replace(b"\r\n", b"\n").split(b"\n\n") if event]
    sent = [chunked_head("text/event-stream"), *map(chunk, events), chunk(b"")]
    with RawProvider(*sent, moment=0.1) as provider, httpx2.Client(trust_env=False, timeout=20) as http:
        url = f"{start_gateway(**settings(provider)).url}/v1/chat/completions"
        with http.stream("POST", url, json={"model": "m", "messages": [], "stream": True}) as answer:
            arrived = [(time.monotonic(), piece) for piece in answer.iter_raw()]
    assert b"".join(piece for _, piece in arrived) == b"".join(events)
    # The head went out before the first event, so that `sent[n]` is when the nth event did.
    first_word = 4
    assert arrived[0][0] > provider.sent[first_word]
    events_seen = 0
    for seconds, piece in arrived:
        events_seen += piece.count(b"\n\n")
        assert seconds < provider.sent[max(events_seen, first_word) + 1]


def test_an_error_of_the_request_is_not_touched(start_gateway: Starter) -> None:
    body = rb'{"error" : {"message":"caf\u00e9 \/ is too hot","type":"invalid_request_error","param":"x","code":1e3}}'
    with RawProvider(response(body, "application/json", status="422 Unprocessable Entity")) as provider:
        gateway = start_gateway(**settings(provider))
        answer = post(f"{gateway.url}/v1", REQUEST)
    assert answer.status_code == 422
    assert answer.content == body


TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {"type": "string"}}}},
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("tools", [[], [TOOL]], ids=["text", "tools"])
def test_the_same_with_and_without_the_gateway(
    tools: list[dict[str, Any]], stream: bool, gateway: Gateway, simulated: Simulated
) -> None:
    asked = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}], "stream": stream}
    request = httpx2.Request("POST", "http://x", json=asked | ({"tools": tools} if tools else {})).read()
    direct = post(simulated.base_url("primary"), request)
    through = post(f"{gateway.url}/v1", request)
    assert through.headers["x-failover-target"] == "primary/gpt-4o"

    def without_stamps(body: bytes) -> bytes:
        return re.sub(rb'"created":\d+|"id":"(chatcmpl|call)[^"]*"', b"_", body)

    assert without_stamps(through.content) == without_stamps(direct.content)
    for name in ["content-type", "openai-processing-ms", "openai-version", "x-ratelimit-remaining-tokens"]:
        assert through.headers[name] == direct.headers[name]
