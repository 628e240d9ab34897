"""Every SDK answered by providers of every API: what is asked arrives, and what is answered comes back."""

from __future__ import annotations

import itertools
import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import received
from conftest import BREAKER_THAT_STAYS_CLOSED, FALLBACK_KEY, PRIMARY_KEY
from processes import Gateway, Simulated
from pydantic import BaseModel
from received import Received
from sdks import SDKS, Ask, Call, Image, Result, Sdk

# A model of each API that the gateway knows.
MODELS = {
    "openai-chat": "gpt-4o",
    "openai-responses": "gpt-4.1",
    "anthropic-messages": "claude-sonnet-4-5",
    "gemini": "gemini-2.5-flash",
}
PROMPT = "Größe der Zahl – 数字 🙂?"
SYSTEM = "Answer as a sailor – always.\nAnd in short."


class GetWeather(BaseModel):
    city: str
    days: int
    unit: Literal["celsius", "fahrenheit"]


class BookTable(BaseModel):
    restaurant: str
    guests: int
    allergies: list[str]
    outdoors: bool


class Leg(BaseModel):
    start: str
    kilometres: float


class Itinerary(BaseModel):
    title: str
    legs: list[Leg]
    season: Literal["summer", "winter"]


TOOLS: dict[str, type[BaseModel]] = {"get_weather": GetWeather, "book_table": BookTable}


def png() -> bytes:
    """One red pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    pixel = zlib.compress(b"\x00\xff\x00\x00")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixel) + chunk(b"IEND", b"")


IMAGE = Image("image/png", png())

# What all targets of a client fail with: the fault, then the status, class and code that each SDK is to see.
ERRORS = {
    "context-length-exceeded": (400, "BadRequestError", "context_length_exceeded"),
    # Of the gateway's keys, not of the client's.
    "unauthorized": (502, "InternalServerError", "auth_failed"),
    "rate-limited": (429, "RateLimitError", "rate_limited"),
    "overloaded": (503, "InternalServerError", "overloaded"),
    "model-not-found": (502, "InternalServerError", "not_found"),
}
# Anthropic's SDK has a class of its own for some.
ANTHROPIC_CLASSES = {503: "ServiceUnavailableError"}

BREAKS = ("down", "error-first-event", "cut:4")
PAIRS = list(itertools.product(SDKS, MODELS))


def broken_cases() -> list[tuple[str, str, str, str]]:
    """Breaks with clients, primaries and fallbacks of which each meets each, and a fallback of another API than the
    primary's."""
    dialects = list(MODELS)
    cases = []
    for b, broken in enumerate(BREAKS):
        for s, sdk in enumerate(SDKS):
            for p, primary in enumerate(dialects):
                fallback = dialects[(p + 1 + (s + b) % 3) % 4]
                cases.append((broken, sdk, primary, fallback))
    return cases


def provider(name: str, dialect: str, url: str, key: str) -> str:
    base = url if dialect.startswith("openai") else url.removesuffix("/v1")
    return f"""
[providers."{name}"]
dialect  = "{dialect}"
base_url = "{base}"
api_key  = {{ value = "{key}" }}
"""


def route(name: str, *providers: tuple[str, str]) -> str:
    targets = ", ".join(f'{{ provider = "{one}", model = "{MODELS[dialect]}" }}' for one, dialect in providers)
    return f"""
[routes."{name}"]
stream_recovery = "resume"
targets = [{targets}]
"""


def blind(name: str) -> str:
    """A route whose only target sees no images."""
    return f"""
[routes."{name}"]
targets = [{{ provider = "to-openai-chat", model = "gpt-4o-blind", capabilities = {{ image_input = false }} }}]
"""


@dataclass
class Bench:
    """One gateway with a route to whatever these tests need, and the providers behind it."""

    gateway: Gateway
    simulated: Simulated
    # Says what the fallback says, word for word, until it breaks.
    twin: Simulated

    def reset(self) -> None:
        self.simulated.reset()
        self.twin.reset()

    def received(self, sdk: Sdk, dialect: str) -> Received:
        """The one request that reached the primary."""
        (request,) = self.simulated.received("primary")
        return received.read(request, dialect, PRIMARY_KEY, translated=sdk.dialect != dialect)


@pytest.fixture(scope="module")
def bench_of_all(host: Simulated, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("dialects")
    other = Gateway(folder / "twin.log", "--listen", "127.0.0.1:0")
    twin = Simulated(other)
    primary, fallback, broken = host.base_url("primary"), host.base_url("fallback"), twin.base_url("fallback")
    text = f"""\
listen = "127.0.0.1:0"

[defaults]
timeout = {{ first_output = "2s", response = "2s", idle = "1s", total = "10s" }}
retry   = {{ attempts = 1 }}
breaker = {BREAKER_THAT_STAYS_CLOSED}
"""
    for dialect in MODELS:
        text += provider(f"to-{dialect}", dialect, primary, PRIMARY_KEY) + route(
            f"to-{dialect}", (f"to-{dialect}", dialect)
        )
        text += provider(f"fallback-{dialect}", dialect, fallback, FALLBACK_KEY)
    # A target that failed in some way is remembered: each test has its own.
    for sdk, dialect, fault in itertools.product(SDKS.values(), MODELS, ERRORS):
        for manner in ("whole", "stream"):
            name = f"{fault}-{sdk.dialect}-{dialect}-{manner}"
            text += provider(name, dialect, primary, PRIMARY_KEY) + route(name, (name, dialect))
    for fault, sdk_name, first, second in broken_cases():
        name = f"{fault.split(':')[0]}-{SDKS[sdk_name].dialect}-{first}-{second}"
        text += provider(name, first, broken, PRIMARY_KEY)
        text += route(name, (name, first), (f"fallback-{second}", second))
    text += blind("blind")
    file = folder / "gateway.toml"
    file.write_text(text)
    gateway = Gateway(folder / "gateway.log", "--config", str(file))
    yield Bench(gateway, host, twin)
    twin.close()
    assert (gateway.stop(), other.stop()) == (0, 0), gateway.log()


@pytest.fixture
def bench(bench_of_all: Bench) -> Iterator[Bench]:
    bench_of_all.reset()
    yield bench_of_all
    bench_of_all.reset()


@pytest.fixture(scope="module")
def clients(bench_of_all: Bench) -> Iterator[dict[str, Sdk]]:
    sdks = {name: sdk(bench_of_all.gateway.url) for name, sdk in SDKS.items()}
    yield sdks
    for sdk in sdks.values():
        sdk.close()


@pytest.fixture
def sdk(request: pytest.FixtureRequest, clients: dict[str, Sdk]) -> Sdk:
    return clients[request.param]


every_pair = pytest.mark.parametrize(("sdk", "target"), PAIRS, indirect=["sdk"], ids=[f"{s}-{t}" for s, t in PAIRS])
both_manners = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


def answered(sdk: Sdk, target: str, ask: Ask, stream: bool) -> Result:
    result = sdk.ask(f"to-{target}", ask, stream)
    assert result.target == f"to-{target}/{MODELS[target]}"
    assert result.attempts == 1
    assert result.tokens_in > 0 and result.tokens_out > 0
    return result


def check_arrived(got: Received, target: str, stream: bool) -> None:
    assert got.model == MODELS[target]
    assert got.stream == stream


def check_calls(calls: list[Call], names: list[str]) -> None:
    assert [call.name for call in calls] == names
    # Google's API once had no ids, and its SDK can do without.
    ids = [call.id for call in calls if call.id is not None]
    assert len(set(ids)) == len(ids) and all(ids)
    for call in calls:
        TOOLS[call.name].model_validate(call.arguments, strict=True)


def said_by(name: str, prompt: str) -> str:
    return f'[{name}] A simulated answer to "{prompt}".'


@both_manners
@every_pair
def test_a_text(sdk: Sdk, target: str, stream: bool, bench: Bench) -> None:
    result = answered(sdk, target, Ask(PROMPT), stream)
    assert result.text == said_by("primary", PROMPT)
    assert result.finish == "stop"
    assert result.calls == []
    got = bench.received(sdk, target)
    check_arrived(got, target, stream)
    assert got.texts == [PROMPT]
    assert (got.system, got.images, got.tools, got.results, got.schema, got.stop) == ("", [], {}, [], None, [])


@every_pair
def test_usage_is_what_the_provider_counted(sdk: Sdk, target: str, bench: Bench) -> None:
    """Whole and streamed alike, and as much as a client of the provider's own API is told."""
    native = next(client for client in SDKS.values() if client.dialect == target)(bench.gateway.url)
    told = {
        (result.tokens_in, result.tokens_out)
        for client, stream in itertools.product((sdk, native), (False, True))
        for result in [answered(client, target, Ask(PROMPT), stream)]
    }
    native.close()
    assert len(told) == 1, told


@both_manners
@every_pair
def test_one_call(sdk: Sdk, target: str, stream: bool, bench: Bench) -> None:
    result = answered(sdk, target, Ask("get_weather, please", tools=TOOLS), stream)
    check_calls(result.calls, ["get_weather"])
    assert result.finish == "tool_calls"
    assert result.text == ""
    got = bench.received(sdk, target)
    check_arrived(got, target, stream)
    assert list(got.tools) == list(TOOLS)
    for name, schema in got.tools.items():
        assert list(schema["properties"]) == list(TOOLS[name].model_fields)
        assert sorted(schema["required"]) == sorted(TOOLS[name].model_fields)


@both_manners
@every_pair
def test_parallel_calls(sdk: Sdk, target: str, stream: bool, bench: Bench) -> None:
    ask = Ask("get_weather, then book_table", tools=TOOLS)
    result = answered(sdk, target, ask, stream)
    check_calls(result.calls, ["get_weather", "book_table"])
    assert result.finish == "tool_calls"
    bench.received(sdk, target)


@both_manners
@every_pair
def test_calls_one_at_a_time(sdk: Sdk, target: str, stream: bool, bench: Bench) -> None:
    if not sdk.can_serialise_calls:
        pytest.skip("its API has no word for it")
    ask = Ask("get_weather, then book_table", tools=TOOLS, parallel=False)
    result = answered(sdk, target, ask, stream)
    got = bench.received(sdk, target)
    if target == "gemini":
        # Its API has no word for it: a loss that is listed as one. All calls come.
        check_calls(result.calls, list(TOOLS))
    else:
        assert len(result.calls) == 1
        assert got.parallel is False


@both_manners
@pytest.mark.parametrize("choice", ["none", "required", "book_table"])
@every_pair
def test_a_choice_of_tools(sdk: Sdk, target: str, choice: str, stream: bool, bench: Bench) -> None:
    result = answered(sdk, target, Ask(PROMPT, tools=TOOLS, choice=choice), stream)
    assert bench.received(sdk, target).choice == choice
    if choice == "none":
        assert (result.text, result.finish) == (said_by("primary", PROMPT), "stop")
    else:
        check_calls(result.calls, ["get_weather" if choice == "required" else choice])
        assert (result.text, result.finish) == ("", "tool_calls")


@both_manners
@every_pair
def test_results_of_tools(sdk: Sdk, target: str, stream: bool, bench: Bench) -> None:
    ask = Ask("get_weather, then book_table", tools=TOOLS, system=SYSTEM)
    first = answered(sdk, target, ask, stream)
    check_calls(first.calls, ["get_weather", "book_table"])
    bench.reset()
    outputs = {"get_weather": "21.5 degrees – sunny", "book_table": "for two"}
    ask.history = [*sdk.opening(ask), *sdk.answered(first, outputs)]
    second = answered(sdk, target, ask, stream)
    assert second.finish == "stop"
    assert second.text.startswith("[primary] The tool")
    got = bench.received(sdk, target)
    check_arrived(got, target, stream)
    assert got.system == SYSTEM
    assert len(got.results) == 2
    for result, output in zip(got.results, outputs.values(), strict=True):
        assert output in json.loads(json.dumps(result)).replace("\\u2013", "–")
    # The last result has to be in the answer, which so shows that it was taken for one.
    assert "for two" in second.text
    # And on, with the answer in the history too.
    ask.history += [*said_before(sdk, second), *sdk.opening(Ask(PROMPT))]
    bench.reset()
    third = answered(sdk, target, Ask(history=ask.history, tools=TOOLS), stream)
    check_calls(third.calls, ["get_weather"])
    assert bench.received(sdk, target).texts[-1] == PROMPT


def said_before(sdk: Sdk, result: Result) -> list[Any]:
    return sdk.answered(result, {})[: 1 if sdk.dialect != "openai-responses" else None]


@both_manners
@every_pair
def test_structured_output(sdk: Sdk, target: str, stream: bool, bench: Bench) -> None:
    result = answered(sdk, target, Ask("A walk, please.", answer=Itinerary), stream)
    assert isinstance(result.parsed, Itinerary)
    assert result.parsed == Itinerary.model_validate_json(result.text)
    assert result.parsed.legs
    assert result.finish == "stop"
    got = bench.received(sdk, target)
    check_arrived(got, target, stream)
    assert list(got.schema["properties"]) == list(Itinerary.model_fields)


@both_manners
@every_pair
def test_an_image(sdk: Sdk, target: str, stream: bool, bench: Bench) -> None:
    result = answered(sdk, target, Ask(PROMPT, image=IMAGE), stream)
    assert result.text == said_by("primary", PROMPT)
    got = bench.received(sdk, target)
    assert got.images == [(IMAGE.media_type, IMAGE.data)]
    assert got.texts == [PROMPT]


@both_manners
@every_pair
def test_a_system_prompt(sdk: Sdk, target: str, stream: bool, bench: Bench) -> None:
    result = answered(sdk, target, Ask(PROMPT, system=SYSTEM), stream)
    assert result.text == said_by("primary", PROMPT)
    got = bench.received(sdk, target)
    assert got.system == SYSTEM
    assert got.texts == [PROMPT]


@both_manners
@every_pair
def test_a_stop_sequence(sdk: Sdk, target: str, stream: bool, bench: Bench) -> None:
    if not sdk.can_stop:
        pytest.skip("its API has no word for it")
    result = answered(sdk, target, Ask(PROMPT, stop=(" answer",)), stream)
    assert result.text == "[primary] A simulated"
    assert result.finish == "stop"
    got = bench.received(sdk, target)
    # Where its API has no word for it, the answer is ended by the gateway.
    assert got.stop == ([] if target == "openai-responses" else [" answer"])


@both_manners
@every_pair
def test_a_limit_of_length(sdk: Sdk, target: str, stream: bool, bench: Bench) -> None:
    prompt = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
    result = answered(sdk, target, Ask(prompt, most_tokens=16), stream)
    assert result.finish == "length"
    assert said_by("primary", prompt).startswith(result.text)
    assert 0 < len(result.text.split()) <= 16
    assert bench.received(sdk, target).most_tokens == 16


@both_manners
@pytest.mark.parametrize("fault", ERRORS)
@every_pair
def test_an_error(sdk: Sdk, target: str, fault: str, stream: bool, bench: Bench) -> None:
    status, kind, code = ERRORS[fault]
    bench.simulated.set("primary", fault)
    route = f"{fault}-{sdk.dialect}-{target}-{'stream' if stream else 'whole'}"
    failure = sdk.failure(route, Ask(PROMPT), stream)
    assert failure.status == status, failure
    if sdk.dialect == "gemini":
        kind = "ClientError" if status < 500 else "ServerError"
    elif sdk.dialect == "anthropic-messages":
        kind = ANTHROPIC_CLASSES.get(status, kind)
    assert failure.kind == kind, failure
    if sdk.dialect != target:
        # In its own dialect the error is the provider's, word for word.
        assert failure.code == code, failure
    assert PRIMARY_KEY not in failure.message
    bench.received(sdk, target)


@both_manners
@pytest.mark.parametrize("sdk", SDKS, indirect=True)
def test_a_model_that_nobody_has(sdk: Sdk, stream: bool, bench: Bench) -> None:
    failure = sdk.failure("no-such-model", Ask(PROMPT), stream)
    kind = "ClientError" if sdk.dialect == "gemini" else "NotFoundError"
    assert (failure.kind, failure.status, failure.code) == (kind, 404, "model_not_found")
    assert "no-such-model" in failure.message


@both_manners
@pytest.mark.parametrize("sdk", SDKS, indirect=True)
def test_a_request_that_no_target_can_serve(sdk: Sdk, stream: bool, bench: Bench) -> None:
    failure = sdk.failure("blind", Ask(PROMPT, image=IMAGE), stream)
    kind = "ClientError" if sdk.dialect == "gemini" else "BadRequestError"
    assert (failure.kind, failure.status, failure.code) == (kind, 400, "no_capable_target")
    assert "image" in failure.message
    assert bench.simulated.requests("primary") == 0


@pytest.mark.parametrize(
    ("broken", "sdk", "first", "second"),
    broken_cases(),
    indirect=["sdk"],
    ids=["-".join(case) for case in broken_cases()],
)
def test_an_answer_by_another_api(broken: str, sdk: Sdk, first: str, second: str, bench: Bench) -> None:
    """Its first provider is down, errs at once or breaks off amid its answer, which another completes."""
    bench.twin.set("fallback", broken)
    route = f"{broken.split(':')[0]}-{sdk.dialect}-{first}-{second}"
    # Of an answer in one piece nobody has seen anything before it is whole: cut off, it is asked for anew.
    for stream in (True, False):
        result = sdk.ask(route, Ask(PROMPT, system=SYSTEM), stream)
        assert result.text == said_by("fallback", PROMPT)
        assert result.finish == "stop"
        # Whose head it was.
        name, dialect = (route, first) if stream and broken.startswith("cut") else (f"fallback-{second}", second)
        assert result.target == f"{name}/{MODELS[dialect]}"
        assert result.tokens_in > 0 and result.tokens_out > 0
        if broken != "down":
            (begun,) = bench.twin.received("fallback")
            assert received.read(begun, first, PRIMARY_KEY, translated=sdk.dialect != first).system == SYSTEM
        (completed,) = bench.simulated.received("fallback")
        got = received.read(completed, second, FALLBACK_KEY, translated=sdk.dialect != second)
        assert got.system.startswith(SYSTEM)
        assert got.texts[0] == PROMPT
        bench.simulated.reset()
        bench.twin.forget()
