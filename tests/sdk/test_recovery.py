"""A stream that breaks and is completed, as OpenAI's SDK puts it together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from observed import client, last_exchange
from processes import Gateway, Simulated
from test_openai_chat import MODEL, TOOL_PARAMETERS, check_calls, check_stream_end, user

Starter = Callable[..., Gateway]
PROMPT = "Größe – 数字, and a question of some length?"
ANSWER = f'[fallback] A simulated answer to "{PROMPT}".'


def resuming(start_gateway: Starter, twin: Simulated, fault: str) -> Gateway:
    """A gateway whose primary breaks so, and would have said what the fallback says."""
    twin.set("fallback", fault)
    return start_gateway(primary_url=twin.base_url("fallback"), defaults='stream_recovery = "resume"')


@pytest.mark.parametrize("fault", ["cut", "end-early", "error-mid-stream", "stall"])
@pytest.mark.parametrize("after", [1, 2, 5, 9, 100])
def test_the_stream_helper_notices_nothing(
    fault: str, after: int, start_gateway: Starter, simulated: Simulated, twin: Simulated
) -> None:
    gateway = resuming(start_gateway, twin, f"{fault}:{after}")

    async def ask() -> None:
        async with client(gateway.url) as sdk:
            async with sdk.chat.completions.stream(
                model=MODEL, messages=user(PROMPT), stream_options={"include_usage": True}
            ) as stream:
                events = [event async for event in stream]
                completion = await stream.get_final_completion()
        chunks = [event.chunk for event in events if event.type == "chunk"]
        assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
        assert "".join(event.delta for event in events if event.type == "content.delta") == ANSWER
        assert [event.content for event in events if event.type == "content.done"] == [ANSWER]
        choice = completion.choices[0]
        assert choice.message.role == "assistant"
        assert choice.message.content == ANSWER
        assert choice.finish_reason == "stop"
        usage = completion.usage
        assert usage is not None
        assert usage.prompt_tokens > 0 and usage.completion_tokens > 0
        assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
        check_stream_end()
        assert last_exchange().target == f"primary/{MODEL}"

    asyncio.run(ask())
    assert (twin.requests("fallback"), simulated.requests("fallback")) == (1, 1)


@pytest.mark.parametrize("after", [1, 3, 6])
def test_the_stream_helper_reads_whole_tool_calls(
    after: int, start_gateway: Starter, simulated: Simulated, twin: Simulated
) -> None:
    gateway = resuming(start_gateway, twin, f"cut:{after}")

    async def ask() -> None:
        async with client(gateway.url) as sdk:
            async with sdk.chat.completions.stream(
                model=MODEL, messages=user("get_weather, then book_table"), tools=TOOL_PARAMETERS
            ) as stream:
                completion = await stream.get_final_completion()
        choice = completion.choices[0]
        assert choice.finish_reason == "tool_calls"
        calls = choice.message.tool_calls or []
        check_calls([(call.id, call.function.name, call.function.arguments) for call in calls])

    asyncio.run(ask())
    assert (twin.requests("fallback"), simulated.requests("fallback")) == (1, 1)
