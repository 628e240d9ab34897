"""What reached a provider, read as its own API reads it, and held to what that API's SDK may send."""

from __future__ import annotations

import base64
import copy
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pydantic
from anthropic.types import message_create_params
from google.genai import types as google
from openai.types import responses as openai_responses
from openai.types.chat import completion_create_params


@dataclass(frozen=True)
class Received:
    """One request, in no API's words."""

    model: str
    stream: bool
    system: str
    texts: list[str]
    images: list[tuple[str, bytes]]
    tools: dict[str, Any]
    results: list[str]
    schema: Any
    stop: list[str]
    most_tokens: int | None
    parallel: bool | None
    # `none`, `required`, or the name of the tool that is to be called.
    choice: str | None
    body: dict[str, Any]


PATHS = {
    "openai-chat": re.compile(r"/v1/chat/completions"),
    "openai-responses": re.compile(r"/v1/responses"),
    "anthropic-messages": re.compile(r"/v1/messages"),
    "gemini": re.compile(r"/v1(?:beta)?/models/([^:/]+):(generateContent|streamGenerateContent\?alt=sse)"),
}
CREDENTIALS = {
    "openai-chat": "authorization",
    "openai-responses": "authorization",
    "anthropic-messages": "x-api-key",
    "gemini": "x-goog-api-key",
}


def read(request: Mapping[str, Any], dialect: str, key: str, *, translated: bool = True) -> Received:
    """Checks a request that came to such an API, with that key, and says what it asks. Of one that was not translated the
    body is its SDK's own affair."""
    assert request["method"] == "POST"
    path = PATHS[dialect].fullmatch(request["path"])
    assert path, f"not {dialect}: {request['path']}"
    headers = request["headers"]
    credential = CREDENTIALS[dialect]
    assert headers[credential] == (f"Bearer {key}" if credential == "authorization" else key)
    assert not set(headers) & (set(CREDENTIALS.values()) - {credential}), headers
    assert headers["content-type"] == "application/json"
    assert ("anthropic-version" in headers) == (dialect == "anthropic-messages"), headers
    # No other API's SDK has left its marks.
    for foreign, owner in (("openai-", "openai"), ("anthropic-", "anthropic"), ("x-goog-", "gemini")):
        assert owner in dialect or not [name for name in headers if name.startswith(foreign)], headers
    body = json.loads(request["body"])
    if translated:
        CHECKS[dialect](body)
    reader = {
        "openai-chat": _openai_chat,
        "openai-responses": _openai_responses,
        "anthropic-messages": _anthropic,
        "gemini": lambda body: _gemini(body, path[1], path[2].startswith("stream")),
    }[dialect]
    return reader(body)


# What the official types say. A member that they do not know is dropped by them, and so is missed.


def _plain(value: Any) -> Any:
    """A validated value with its lazy lists read."""
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, (str, bytes, int, float, bool, type(None))):
        return value
    return [_plain(one) for one in value]


def _held_to(adapter: pydantic.TypeAdapter[Any], body: Any) -> None:
    assert _plain(adapter.validate_python(body)) == body


_OPENAI_CHAT = {
    stream: pydantic.TypeAdapter[Any](kind)
    for stream, kind in (
        (False, completion_create_params.CompletionCreateParamsNonStreaming),
        (True, completion_create_params.CompletionCreateParamsStreaming),
    )
}
_OPENAI_RESPONSES = {
    stream: pydantic.TypeAdapter[Any](kind)
    for stream, kind in (
        (False, openai_responses.response_create_params.ResponseCreateParamsNonStreaming),
        (True, openai_responses.response_create_params.ResponseCreateParamsStreaming),
    )
}
_ANTHROPIC = {
    stream: pydantic.TypeAdapter[Any](kind)
    for stream, kind in (
        (False, message_create_params.MessageCreateParamsNonStreaming),
        (True, message_create_params.MessageCreateParamsStreaming),
    )
}


def _check_openai_chat(body: dict[str, Any]) -> None:
    _held_to(_OPENAI_CHAT[body.get("stream", False)], body)
    waiting: set[str] = set()
    for message in body["messages"]:
        if message["role"] == "tool":
            assert message["tool_call_id"] in waiting, message
            waiting.remove(message["tool_call_id"])
            continue
        assert not waiting, f"no result of {waiting}"
        waiting = {call["id"] for call in message.get("tool_calls", [])}
        for call in message.get("tool_calls", []):
            assert isinstance(json.loads(call["function"]["arguments"]), dict)
    assert not waiting
    assert not {"max_tokens", "max_completion_tokens"} <= set(body)


def _check_openai_responses(body: dict[str, Any]) -> None:
    body = copy.deepcopy(body)
    for item in body["input"]:
        # What the model said is taken with its text alone; the SDK only knows it as it came, with an id.
        if item.get("role") == "assistant" and isinstance(item["content"], list):
            assert all(set(part) == {"type", part["type"].removeprefix("output_")} for part in item["content"]), item
            item["content"] = "".join(part.get("text", "") for part in item["content"])
    _held_to(_OPENAI_RESPONSES[body.get("stream", False)], body)
    items = body["input"]
    calls = [item["call_id"] for item in items if item.get("type") == "function_call"]
    results = [item["call_id"] for item in items if item.get("type") == "function_call_output"]
    assert sorted(calls) == sorted(results)
    assert len(set(calls)) == len(calls)


def _check_anthropic(body: dict[str, Any]) -> None:
    _held_to(_ANTHROPIC[body.get("stream", False)], body)
    assert body["messages"][0]["role"] == "user"
    roles = [message["role"] for message in body["messages"]]
    assert all(one != next_one for one, next_one in zip(roles, roles[1:], strict=False)), roles


class _GeminiRequest(google._common.BaseModel):
    contents: list[google.Content]
    system_instruction: google.Content | None = None
    tools: list[google.Tool] | None = None
    tool_config: google.ToolConfig | None = None
    generation_config: google.GenerationConfig | None = None
    safety_settings: list[google.SafetySetting] | None = None


def _check_gemini(body: dict[str, Any]) -> None:
    # These models forbid what they do not know; so does the API, which refuses unknown members.
    _GeminiRequest.model_validate(body)
    waiting: list[str] = []
    for content in body["contents"]:
        assert content["role"] in ("user", "model")
        assert content["parts"], content
        calls = [part["functionCall"]["name"] for part in content["parts"] if "functionCall" in part]
        results = [part["functionResponse"]["name"] for part in content["parts"] if "functionResponse" in part]
        for part in content["parts"]:
            # An object: lists and texts are refused.
            assert isinstance(part.get("functionResponse", {}).get("response", {}), dict), part
        assert results == waiting or not waiting, f"{results} for {waiting}"
        waiting = calls
    assert not waiting
    schema_words = json.dumps(body.get("generationConfig", {}).get("responseSchema", {}))
    for word in ("additionalProperties", "$ref", "$defs", "$schema"):
        assert word not in schema_words, "not of Google's subset of JSON schema"


CHECKS = {
    "openai-chat": _check_openai_chat,
    "openai-responses": _check_openai_responses,
    "anthropic-messages": _check_anthropic,
    "gemini": _check_gemini,
}


# What they ask.


def _data_url(url: str) -> tuple[str, bytes]:
    match = re.fullmatch(r"data:([^;,]+);base64,(.*)", url)
    assert match, url
    return match[1], base64.b64decode(match[2], validate=True)


def _content_texts(content: Any) -> list[str]:
    if isinstance(content, str):
        return [content]
    return [part["text"] for part in content or [] if "text" in part]


def _openai_choice(choice: Any) -> str | None:
    """Both of OpenAI's ways to put it."""
    if isinstance(choice, dict):
        return str(choice.get("function", choice)["name"])
    return None if choice == "auto" else choice


def _openai_chat(body: dict[str, Any]) -> Received:
    messages = body["messages"]
    system = [message for message in messages if message["role"] in ("system", "developer")]
    said = [message for message in messages if message["role"] in ("user", "assistant")]
    parts = [part for message in said if isinstance(message.get("content"), list) for part in message["content"]]
    schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
    stop = body.get("stop") or []
    return Received(
        model=body["model"],
        stream=body.get("stream", False),
        system="\n".join(text for message in system for text in _content_texts(message["content"])),
        texts=[text for message in said for text in _content_texts(message.get("content"))],
        images=[_data_url(part["image_url"]["url"]) for part in parts if part["type"] == "image_url"],
        tools={tool["function"]["name"]: tool["function"]["parameters"] for tool in body.get("tools", [])},
        results=["".join(_content_texts(m["content"])) for m in messages if m["role"] == "tool"],
        schema=schema,
        stop=[stop] if isinstance(stop, str) else stop,
        most_tokens=body.get("max_completion_tokens", body.get("max_tokens")),
        parallel=body.get("parallel_tool_calls"),
        choice=_openai_choice(body.get("tool_choice")),
        body=body,
    )


def _openai_responses(body: dict[str, Any]) -> Received:
    items = body["input"]
    if isinstance(items, str):
        items = [{"role": "user", "content": items}]
    messages = [item for item in items if item.get("type", "message") == "message"]
    system = [item for item in messages if item["role"] in ("system", "developer")]
    said = [item for item in messages if item["role"] in ("user", "assistant")]
    parts = [part for item in said if isinstance(item["content"], list) for part in item["content"]]
    outputs = [item["output"] for item in items if item.get("type") == "function_call_output"]
    instructions = [body["instructions"]] if body.get("instructions") else []
    return Received(
        model=body["model"],
        stream=body.get("stream", False),
        system="\n".join(instructions + [text for item in system for text in _content_texts(item["content"])]),
        texts=[text for item in said for text in _content_texts(item["content"])],
        images=[_data_url(part["image_url"]) for part in parts if part["type"] == "input_image"],
        tools={tool["name"]: tool["parameters"] for tool in body.get("tools", [])},
        results=["".join(_content_texts(output)) for output in outputs],
        schema=body.get("text", {}).get("format", {}).get("schema"),
        stop=[],
        most_tokens=body.get("max_output_tokens"),
        parallel=body.get("parallel_tool_calls"),
        choice=_openai_choice(body.get("tool_choice")),
        body=body,
    )


def _anthropic(body: dict[str, Any]) -> Received:
    blocks = [
        block
        for message in body["messages"]
        for block in ([{"type": "text", "text": message["content"]}] if isinstance(message["content"], str) else message["content"])
    ]
    images = [block["source"] for block in blocks if block["type"] == "image"]
    choice = body.get("tool_choice", {})
    one_by_one = choice.get("disable_parallel_tool_use")
    return Received(
        model=body["model"],
        stream=body.get("stream", False),
        system="\n".join(_content_texts(body.get("system"))),
        texts=[block["text"] for block in blocks if block["type"] == "text"],
        images=[(source["media_type"], base64.b64decode(source["data"], validate=True)) for source in images],
        tools={tool["name"]: tool["input_schema"] for tool in body.get("tools", [])},
        results=["".join(_content_texts(block.get("content"))) for block in blocks if block["type"] == "tool_result"],
        schema=body.get("output_config", {}).get("format", {}).get("schema"),
        stop=body.get("stop_sequences", []),
        most_tokens=body["max_tokens"],
        parallel=None if one_by_one is None else not one_by_one,
        choice={"any": "required", "tool": choice.get("name"), "none": "none"}.get(choice.get("type")),
        body=body,
    )


def _camel(value: Any) -> Any:
    """Google's APIs take each name in either way, and its SDK mixes them."""
    if isinstance(value, dict):
        return {re.sub("_([a-z])", lambda m: m[1].upper(), key): _camel(one) for key, one in value.items()}
    return [_camel(one) for one in value] if isinstance(value, list) else value


def _gemini(body: dict[str, Any], model: str, stream: bool) -> Received:
    body = _camel(body)
    parts = [part for content in body["contents"] for part in content["parts"]]
    settings = body.get("generationConfig", {})
    declarations = [
        declaration for tool in body.get("tools", []) for declaration in tool.get("functionDeclarations", [])
    ]
    calling = body.get("toolConfig", {}).get("functionCallingConfig", {})
    allowed = calling.get("allowedFunctionNames")
    images = [part["inlineData"] for part in parts if "inlineData" in part]
    return Received(
        model=model,
        stream=stream,
        system="\n".join(_content_texts(body.get("systemInstruction", {}).get("parts"))),
        texts=[part["text"] for part in parts if "text" in part],
        images=[(image["mimeType"], base64.b64decode(image["data"], altchars=b"-_")) for image in images],
        tools={one["name"]: one.get("parametersJsonSchema", one.get("parameters")) for one in declarations},
        results=[json.dumps(part["functionResponse"]["response"]) for part in parts if "functionResponse" in part],
        schema=settings.get("responseJsonSchema", settings.get("responseSchema")),
        stop=settings.get("stopSequences", []),
        most_tokens=settings.get("maxOutputTokens"),
        parallel=None,
        choice=allowed[0] if allowed else {"ANY": "required", "NONE": "none"}.get(calling.get("mode")),
        body=body,
    )
