"""Failover as the users of OpenAI's SDK see it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Literal

import httpx2
import openai
import pytest
from conftest import BREAKER_THAT_OPENS_SOON, BREAKER_THAT_STAYS_CLOSED, CELLS, Cell
from observed import client, last_exchange
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionMessageParam
from processes import Gateway, Simulated
from pydantic import BaseModel, ConfigDict

MODEL = "gpt-4o"
REQUESTS = 100
AT_ONCE = 10

Messages = list[ChatCompletionMessageParam]
Starter = Callable[..., Gateway]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class GetWeather(Strict):
    city: str
    days: int
    unit: Literal["celsius", "fahrenheit"]


class BookTable(Strict):
    restaurant: str
    guests: int
    allergies: list[str]
    outdoors: bool


class Leg(Strict):
    start: str
    end: str
    kilometres: float


class Itinerary(Strict):
    title: str
    legs: list[Leg]
    season: Literal["summer", "winter"]
    guide: str | None


TOOLS: dict[str, type[Strict]] = {"get_weather": GetWeather, "book_table": BookTable}
TOOL_PARAMETERS = [openai.pydantic_function_tool(model, name=name) for name, model in TOOLS.items()]


def user(text: str) -> Messages:
    return [{"role": "user", "content": text}]


def check_text(text: str | None, prompt: str, provider: str) -> None:
    assert text is not None
    assert text.startswith(f"[{provider}] ")
    # The simulated answer ends with what was asked, so that a text of another request or half a text is noticed.
    assert text.endswith(f'"{prompt}".'), text


def check_calls(calls: list[tuple[str, str, str]]) -> None:
    """Calls are of id, name and arguments: here, one of each tool."""
    assert sorted(name for _, name, _ in calls) == sorted(TOOLS)
    assert len({call_id for call_id, _, _ in calls}) == len(calls)
    for call_id, name, arguments in calls:
        assert call_id
        TOOLS[name].model_validate_json(arguments)


def check_stream_end() -> None:
    assert last_exchange().body.endswith(b"data: [DONE]\n\n"), bytes(last_exchange().body[-200:])


async def text_whole(sdk: AsyncOpenAI, n: int, provider: str) -> None:
    prompt = f"Größe der Zahl {n} – 数字?"
    completion = await sdk.chat.completions.create(model=MODEL, messages=user(prompt))
    assert isinstance(completion, ChatCompletion)
    assert completion.object == "chat.completion"
    assert completion.model == MODEL
    choice = completion.choices[0]
    assert choice.message.role == "assistant"
    check_text(choice.message.content, prompt, provider)
    assert choice.finish_reason == "stop"
    assert completion.usage is not None
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens > 0


async def text_stream(sdk: AsyncOpenAI, n: int, provider: str) -> None:
    prompt = f"Größe der Zahl {n} – 数字?"
    stream = await sdk.chat.completions.create(
        model=MODEL, messages=user(prompt), stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert all(isinstance(chunk, ChatCompletionChunk) for chunk in chunks)
    # One answer by one provider: nothing of the failed one may have slipped in before.
    assert len({chunk.id for chunk in chunks}) == 1
    choices = [choice for chunk in chunks for choice in chunk.choices]
    assert choices[0].delta.role == "assistant"
    check_text("".join(choice.delta.content or "" for choice in choices), prompt, provider)
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["stop"]
    assert choices[-1].finish_reason == "stop"
    assert not chunks[-1].choices
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens > 0
    check_stream_end()


async def tools_whole(sdk: AsyncOpenAI, n: int, provider: str) -> None:
    completion = await sdk.chat.completions.create(
        model=MODEL, messages=user(f"{n}: get_weather, then book_table"), tools=TOOL_PARAMETERS
    )
    choice = completion.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    calls = choice.message.tool_calls or []
    check_calls([(call.id, call.function.name, call.function.arguments) for call in calls if call.type == "function"])


async def tools_stream(sdk: AsyncOpenAI, n: int, provider: str) -> None:
    stream = await sdk.chat.completions.create(
        model=MODEL, messages=user(f"{n}: get_weather, then book_table"), tools=TOOL_PARAMETERS, stream=True
    )
    calls: dict[int, list[str]] = {}
    finished = []
    async for chunk in stream:
        for choice in chunk.choices:
            for delta in choice.delta.tool_calls or []:
                call = calls.setdefault(delta.index, ["", "", ""])
                call[0] += delta.id or ""
                assert delta.function is not None
                call[1] += delta.function.name or ""
                call[2] += delta.function.arguments or ""
            if choice.finish_reason:
                finished.append(choice.finish_reason)
    check_calls([(call_id, name, arguments) for call_id, name, arguments in calls.values()])
    assert finished == ["tool_calls"]
    check_stream_end()


async def structured_whole(sdk: AsyncOpenAI, n: int, provider: str) -> None:
    completion = await sdk.chat.completions.parse(
        model=MODEL, messages=user(f"A walk of {n} km."), response_format=Itinerary
    )
    choice = completion.choices[0]
    assert isinstance(choice.message.parsed, Itinerary)
    assert choice.message.parsed.legs
    assert choice.finish_reason == "stop"


async def structured_stream(sdk: AsyncOpenAI, n: int, provider: str) -> None:
    text = ""
    async with sdk.chat.completions.stream(
        model=MODEL, messages=user(f"A walk of {n} km."), response_format=Itinerary
    ) as stream:
        async for event in stream:
            if event.type == "content.delta":
                text += event.delta
        completion = await stream.get_final_completion()
    choice = completion.choices[0]
    assert isinstance(choice.message.parsed, Itinerary)
    assert Itinerary.model_validate_json(text) == choice.message.parsed
    assert choice.finish_reason == "stop"
    check_stream_end()


Ask = Callable[[AsyncOpenAI, int, str], Awaitable[None]]
MODES: dict[str, Ask] = {
    "text": text_whole,
    "text stream": text_stream,
    "tools": tools_whole,
    "tools stream": tools_stream,
    "structured": structured_whole,
    "structured stream": structured_stream,
}


async def ask_many(gateway: Gateway, ask: Ask, requests: int, provider: str) -> list[Exception]:
    """What went wrong with the requests, of which so many run at once."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(sdk: AsyncOpenAI, n: int) -> None:
        async with slots:
            await ask(sdk, n, provider)
            assert last_exchange().target == f"{provider}/{MODEL}"

    async with client(gateway.url) as sdk:
        results = await asyncio.gather(*(one(sdk, n) for n in range(requests)), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, Exception):
            raise result
    return [result for result in results if isinstance(result, Exception)]


# With the circuit closed every single request meets the failing primary; with one that opens, few do.
@pytest.mark.parametrize("circuit", ["closed", "opens"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fault", ["down", "reset", "silent", "rate-limited", "overloaded", "error-first-event"])
def test_every_request_is_answered(
    fault: str, mode: str, circuit: str, start_gateway: Starter, simulated: Simulated, pytestconfig: pytest.Config
) -> None:
    if circuit == "closed":
        gateway = start_gateway(breaker=BREAKER_THAT_STAYS_CLOSED)
    else:
        gateway = start_gateway(breaker=BREAKER_THAT_OPENS_SOON, attempts=2)
    simulated.set("primary", fault)

    began = time.monotonic()
    failures = asyncio.run(ask_many(gateway, MODES[mode], REQUESTS, "fallback"))
    seconds = time.monotonic() - began

    reached = simulated.requests("primary")
    cell = Cell(circuit, fault, mode, REQUESTS, REQUESTS - len(failures), seconds, reached)
    pytestconfig.stash[CELLS].append(cell)
    assert not failures, f"{len(failures)} of {REQUESTS}, the first: {failures[0]!r}"
    if fault == "down":
        assert reached == 0
    elif circuit == "closed" and fault == "rate-limited":
        # It says that it has nothing left, and is tried last from then on.
        assert 0 < reached <= REQUESTS
    elif circuit == "closed":
        assert reached == REQUESTS
    else:
        # Those that were on their way before the circuit opened, twice each at most, and the odd probe.
        assert 0 < reached <= 2 * AT_ONCE + 5
    assert simulated.requests("fallback") == REQUESTS


@pytest.mark.parametrize("mode", MODES)
def test_a_healthy_primary_answers(mode: str, gateway: Gateway, simulated: Simulated) -> None:
    failures = asyncio.run(ask_many(gateway, MODES[mode], 20, "primary"))
    assert not failures, failures[0]
    assert simulated.requests("primary") == 20
    assert simulated.requests("fallback") == 0


def test_headers_of_an_answer(gateway: Gateway, simulated: Simulated) -> None:
    async def ask() -> None:
        async with client(gateway.url) as sdk:
            completion = await sdk.chat.completions.create(model="any-model", messages=user("Hi"))
            assert last_exchange().target == "primary/any-model"
            assert last_exchange().attempts == 1
            # The SDK takes it from `x-request-id`.
            assert completion._request_id

            simulated.set("primary", "overloaded")
            named = {"x-request-id": "a-name-of-the-client"}
            completion = await sdk.chat.completions.create(model=MODEL, messages=user("Hi"), extra_headers=named)
            assert last_exchange().target == f"fallback/{MODEL}"
            assert last_exchange().attempts == 2
            assert completion._request_id == "a-name-of-the-client"

    asyncio.run(ask())


def test_the_sync_client_fails_over(gateway: Gateway, simulated: Simulated) -> None:
    simulated.set("primary", "reset")
    with sync_client(gateway) as sdk:
        completion = sdk.chat.completions.create(model=MODEL, messages=user("Hi"))
        check_text(completion.choices[0].message.content, "Hi", "fallback")
        chunks = list(sdk.chat.completions.create(model=MODEL, messages=user("Hi"), stream=True))
        text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
        check_text(text, "Hi", "fallback")


def sync_client(gateway: Gateway) -> OpenAI:
    http_client = httpx2.Client(trust_env=False)
    return OpenAI(base_url=f"{gateway.url}/v1", api_key="sk-client", max_retries=0, timeout=20, http_client=http_client)


def ask_and_fail(gateway: Gateway, stream: bool, model: str = MODEL) -> openai.APIStatusError:
    with sync_client(gateway) as sdk, pytest.raises(openai.APIStatusError) as raised:
        sdk.chat.completions.create(model=model, messages=user("Hi"), stream=stream)
    # An error in the words of OpenAI's API, and one that can be found again in a log.
    assert isinstance(raised.value.body, dict), raised.value.body
    assert raised.value.body.get("message")
    assert raised.value.body.get("type")
    assert raised.value.request_id
    return raised.value


both_kinds = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


@both_kinds
@pytest.mark.parametrize(
    ("fault", "error", "status"),
    [
        ("rate-limited", openai.RateLimitError, 429),
        ("quota-exhausted", openai.RateLimitError, 429),
        ("down", openai.InternalServerError, 502),
        ("reset", openai.InternalServerError, 502),
        # Of the gateway's keys, not of the client's.
        ("unauthorized", openai.InternalServerError, 502),
        ("model-not-found", openai.InternalServerError, 502),
        ("overloaded", openai.InternalServerError, 503),
        ("error-first-event", openai.InternalServerError, 503),
        ("html-ok", openai.InternalServerError, 503),
        ("silent", openai.InternalServerError, 504),
    ],
)
def test_the_error_when_all_fail(
    fault: str, error: type[openai.APIStatusError], status: int, stream: bool, gateway: Gateway, simulated: Simulated
) -> None:
    for name in simulated.NAMES:
        simulated.set(name, fault)
    raised = ask_and_fail(gateway, stream)
    assert raised.status_code == status, raised
    assert type(raised) is error
    if fault not in ("down",):
        assert simulated.requests("primary") == 1
        assert simulated.requests("fallback") == 1


@both_kinds
def test_the_soonest_retry_after_is_told(stream: bool, gateway: Gateway, simulated: Simulated) -> None:
    simulated.set("primary", "rate-limited:40s")
    simulated.set("fallback", "rate-limited:7s")
    raised = ask_and_fail(gateway, stream)
    assert isinstance(raised, openai.RateLimitError)
    assert 5 <= float(raised.response.headers["retry-after"]) <= 7
    # Whoever asks at once all the same is told the same.
    again = ask_and_fail(gateway, stream)
    assert again.status_code in (429, 503)
    assert 5 <= float(again.response.headers["retry-after"]) <= 8


@both_kinds
def test_an_unknown_model(stream: bool, start_gateway: Starter, simulated: Simulated) -> None:
    gateway = start_gateway(route=MODEL)
    raised = ask_and_fail(gateway, stream, model="gpt-4o-latest")
    assert type(raised) is openai.NotFoundError
    assert raised.code == "model_not_found"
    assert "gpt-4o-latest" in raised.message
    assert simulated.requests("primary") == 0


@both_kinds
@pytest.mark.parametrize(
    ("fault", "code", "param"),
    [
        ("bad-request", "decimal_above_max_value", "temperature"),
        ("content-filtered", "content_policy_violation", None),
    ],
)
def test_a_fault_of_the_request_stays_its_own(
    fault: str, code: str, param: str | None, stream: bool, gateway: Gateway, simulated: Simulated
) -> None:
    simulated.set("primary", fault)
    raised = ask_and_fail(gateway, stream)
    assert type(raised) is openai.BadRequestError
    assert raised.code == code
    assert raised.param == param
    assert simulated.requests("primary") == 1
    assert simulated.requests("fallback") == 0


@both_kinds
def test_a_context_that_is_too_long(stream: bool, start_gateway: Starter, simulated: Simulated) -> None:
    simulated.set("primary", "context-length-exceeded")
    window = "capabilities = {{ context_window = {} }}".format

    gateway = start_gateway(primary=window(128_000), fallback=window(128_000))
    raised = ask_and_fail(gateway, stream)
    assert type(raised) is openai.BadRequestError
    assert raised.code == "context_length_exceeded"
    assert simulated.requests("fallback") == 0

    gateway = start_gateway(primary=window(128_000), fallback=window(1_000_000))
    ask = text_stream if stream else text_whole
    failures = asyncio.run(ask_many(gateway, ask, 1, "fallback"))
    assert not failures, failures[0]


@both_kinds
def test_a_request_that_is_no_request(stream: bool, gateway: Gateway, simulated: Simulated) -> None:
    with sync_client(gateway) as sdk, pytest.raises(openai.BadRequestError):
        sdk.chat.completions.create(model=MODEL, messages=[], stream=stream)
    assert simulated.requests("fallback") == 0


@pytest.mark.parametrize("fault", ["cut:3", "end-early:3", "stall:3", "error-mid-stream:3"])
def test_a_broken_stream_is_an_error(fault: str, gateway: Gateway, simulated: Simulated) -> None:
    simulated.set("primary", fault)
    prompt = "Tell me something of more than three words."

    async def ask() -> str:
        text = ""
        async with client(gateway.url) as sdk:
            stream = await sdk.chat.completions.create(model=MODEL, messages=user(prompt), stream=True)
            # A short text without an error would be worse than none.
            with pytest.raises((openai.APIError, httpx2.HTTPError)):
                async for chunk in stream:
                    for choice in chunk.choices:
                        text += choice.delta.content or ""
                        assert choice.finish_reason is None
        assert b"[DONE]" not in last_exchange().body
        return text

    text = asyncio.run(ask())
    # What had come is what the primary had said, and nothing of the fallback was glued to it.
    assert f'[primary] A simulated answer to "{prompt}".'.startswith(text)
    assert len(text.split()) == 3
    assert simulated.requests("fallback") == 0


@pytest.mark.parametrize("fault", ["cut:3", "end-early:3", "stall:3", "error-mid-stream:3"])
def test_a_broken_stream_ends_with_an_error_event_and_not_cleanly(
    fault: str, gateway: Gateway, simulated: Simulated
) -> None:
    simulated.set("primary", fault)
    asked = {"model": MODEL, "messages": user("Tell me something of more than three words."), "stream": True}
    received = b""
    with httpx2.Client(trust_env=False, timeout=20) as http:
        with http.stream("POST", f"{gateway.url}/v1/chat/completions", json=asked) as response:
            assert response.status_code == 200
            # For clients that know nothing of error events the connection breaks.
            with pytest.raises(httpx2.RemoteProtocolError):
                for piece in response.iter_raw():
                    received += piece
    *_, last, rest = received.split(b"\n\n")
    assert rest == b""
    error = json.loads(last.removeprefix(b"data: "))["error"]
    assert error["message"] and error["type"]


def test_a_broken_stream_is_an_error_for_the_stream_helper_too(gateway: Gateway, simulated: Simulated) -> None:
    simulated.set("primary", "cut:3")

    async def ask() -> None:
        async with client(gateway.url) as sdk:
            with pytest.raises((openai.APIError, httpx2.HTTPError)):
                async with sdk.chat.completions.stream(
                    model=MODEL, messages=user("A walk."), response_format=Itinerary
                ) as stream:
                    await stream.get_final_completion()

    asyncio.run(ask())


@pytest.mark.parametrize("fault", ["cut:3", "end-early:3", "stall:3", "error-mid-stream:3", "empty-stream", "html-ok"])
@pytest.mark.parametrize("mode", ["text", "tools", "structured"])
def test_a_broken_whole_answer_is_answered_by_the_fallback(
    fault: str, mode: str, gateway: Gateway, simulated: Simulated
) -> None:
    simulated.set("primary", fault)
    failures = asyncio.run(ask_many(gateway, MODES[mode], 1, "fallback"))
    assert not failures, failures[0]
    assert simulated.requests("primary") == 1


@pytest.mark.parametrize("fault", ["cut:0", "end-early:0", "stall:0", "error-mid-stream:0", "empty-stream", "html-ok"])
@pytest.mark.parametrize("mode", ["text stream", "tools stream", "structured stream"])
def test_a_stream_that_breaks_before_its_first_word_is_answered_by_the_fallback(
    fault: str, mode: str, gateway: Gateway, simulated: Simulated
) -> None:
    simulated.set("primary", fault)
    failures = asyncio.run(ask_many(gateway, MODES[mode], 1, "fallback"))
    assert not failures, failures[0]
    assert simulated.requests("primary") == 1


def test_a_conversation_goes_on_elsewhere(gateway: Gateway, simulated: Simulated) -> None:
    """A tool call by the primary, its result answered by the fallback."""

    async def ask() -> None:
        async with client(gateway.url) as sdk:
            messages = user("get_weather")
            first = await sdk.chat.completions.create(
                model=MODEL, messages=messages, tools=TOOL_PARAMETERS, parallel_tool_calls=False
            )
            assert last_exchange().target == f"primary/{MODEL}"
            (call,) = first.choices[0].message.tool_calls or []
            messages += [
                first.choices[0].message.to_dict(),  # type: ignore[list-item]
                {"role": "tool", "tool_call_id": call.id, "content": json.dumps({"degrees": 21.5})},
            ]
            simulated.set("primary", "down")
            second = await sdk.chat.completions.create(model=MODEL, messages=messages, tools=TOOL_PARAMETERS)
            assert last_exchange().target == f"fallback/{MODEL}"
            assert second.choices[0].message.content == '[fallback] The tool answered "{"degrees": 21.5}".'

    asyncio.run(ask())


def test_models(start_gateway: Starter) -> None:
    with sync_client(start_gateway(route=MODEL)) as sdk:
        assert [model.id for model in sdk.models.list()] == [MODEL]
        assert sdk.models.retrieve(MODEL).id == MODEL
        with pytest.raises(openai.NotFoundError) as raised:
            sdk.models.retrieve("gpt-5-unknown")
        assert raised.value.code == "model_not_found"


def wait_for_abort(simulated: Simulated, times: int) -> None:
    # Sooner than any timeout of the gateway's would end the request.
    deadline = time.monotonic() + 0.3
    while simulated.provider("primary")["aborted"] < times:
        assert time.monotonic() < deadline, "the provider goes on for nobody"
        time.sleep(0.01)


def test_a_client_that_leaves_is_nobodys_failure(gateway: Gateway, simulated: Simulated) -> None:
    simulated.set("primary", "silent")
    with sync_client(gateway) as sdk:
        # More often than failures open the circuit.
        for n in range(5):
            with pytest.raises(openai.APITimeoutError):
                sdk.chat.completions.create(model=MODEL, messages=user("Hi"), stream=bool(n % 2), timeout=0.1)
            wait_for_abort(simulated, n + 1)
        simulated.set("primary", "none")
        completion = sdk.chat.completions.create(model=MODEL, messages=user("Hi"))
    check_text(completion.choices[0].message.content, "Hi", "primary")
    assert simulated.requests("fallback") == 0


def test_a_stream_that_its_client_leaves_is_left(gateway: Gateway, simulated: Simulated) -> None:
    simulated.set("primary", "stall:3")
    with sync_client(gateway) as sdk:
        with sdk.chat.completions.create(model=MODEL, messages=user("Tell me more."), stream=True) as stream:
            text = ""
            for chunk in stream:
                text += chunk.choices[0].delta.content or ""
                if len(text.split()) == 3:
                    break
        wait_for_abort(simulated, 1)


def test_a_conversation_longer_than_a_socket_takes_at_once(gateway: Gateway, simulated: Simulated) -> None:
    simulated.set("primary", "reset")
    prompt = "größe " * 300_000
    with sync_client(gateway) as sdk:
        messages: Messages = [{"role": "system", "content": prompt}, *user("Hi")]
        completion = sdk.chat.completions.create(model=MODEL, messages=messages)
    check_text(completion.choices[0].message.content, "Hi", "fallback")
    (received,) = simulated.received("fallback")
    assert json.loads(received["body"])["messages"] == messages
