"""One client a SDK, each asked in the same words and answering in the same: what differs is what lies between."""

from __future__ import annotations

import base64
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import anthropic
import httpx2
import openai
from google import genai
from google.genai import errors as google_errors
from google.genai import types as google
from pydantic import BaseModel

CLIENT_KEY = "sk-client"
TIMEOUT_SECONDS = 20.0


@dataclass(frozen=True)
class Image:
    media_type: str
    data: bytes

    @property
    def base64(self) -> str:
        return base64.b64encode(self.data).decode()


@dataclass(frozen=True)
class Call:
    """A call that a model asks for."""

    id: str | None
    name: str
    arguments: dict[str, Any]


@dataclass
class Ask:
    """What is asked. `history` is what was said before, as this SDK puts it; from `Sdk.opening` and `Sdk.answered`."""

    prompt: str = ""
    history: list[Any] = field(default_factory=list)
    system: str | None = None
    image: Image | None = None
    tools: Mapping[str, type[BaseModel]] = field(default_factory=dict)
    parallel: bool | None = None
    # `none`, `required`, or the name of the tool that is to be called.
    choice: str | None = None
    answer: type[BaseModel] | None = None
    stop: tuple[str, ...] = ()
    most_tokens: int | None = None


@dataclass(frozen=True)
class Result:
    """An answer, in no SDK's words. `finish` is one of `stop`, `length`, `tool_calls`, `filtered`."""

    text: str
    calls: list[Call]
    finish: str
    tokens_in: int
    tokens_out: int
    parsed: BaseModel | None
    target: str
    attempts: int
    raw: Any


@dataclass(frozen=True)
class Failure:
    """What was raised: `kind` is the class's name, `code` what the body says in this API's place for one."""

    kind: str
    status: int
    code: str | None
    message: str


class Sdk(ABC):
    """One SDK that speaks to the gateway. It tries nothing twice."""

    #: The dialect that it speaks.
    dialect: str
    #: Whether its API has a parameter for stop sequences.
    can_stop = True
    #: Whether a request can ask that tools be called one at a time.
    can_serialise_calls = True

    def __init__(self, url: str) -> None:
        self._last: httpx2.Response | None = None
        self._http = httpx2.Client(
            trust_env=False, timeout=TIMEOUT_SECONDS, event_hooks={"response": [self._came]}, follow_redirects=True
        )
        self.connect(url)

    def _came(self, response: httpx2.Response) -> None:
        self._last = response

    def _result(self, **parts: Any) -> Result:
        assert self._last is not None
        headers = self._last.headers
        parts["finish"] = str(parts["finish"])
        return Result(target=headers["x-failover-target"], attempts=int(headers["x-failover-attempts"]), **parts)

    def close(self) -> None:
        self._http.close()

    @abstractmethod
    def connect(self, url: str) -> None: ...

    @abstractmethod
    def ask(self, model: str, ask: Ask, stream: bool) -> Result:
        """The whole answer, of a stream as the SDK puts it together."""

    @abstractmethod
    def opening(self, ask: Ask) -> list[Any]:
        """What the user says, as this SDK's users write it."""

    @abstractmethod
    def answered(self, result: Result, outputs: Mapping[str, str]) -> list[Any]:
        """The model's turn as it came, and what its tools gave, by name."""

    @abstractmethod
    def failure(self, model: str, ask: Ask, stream: bool) -> Failure:
        """What is raised instead of an answer."""


def _strict_tools(ask: Ask) -> list[Any]:
    return [openai.pydantic_function_tool(model, name=name) for name, model in ask.tools.items()]


class OpenAiChat(Sdk):
    dialect = "openai-chat"

    def connect(self, url: str) -> None:
        self.sdk = openai.OpenAI(base_url=f"{url}/v1", api_key=CLIENT_KEY, max_retries=0, http_client=self._http)

    def opening(self, ask: Ask) -> list[Any]:
        if ask.image is None:
            return [{"role": "user", "content": ask.prompt}]
        url = f"data:{ask.image.media_type};base64,{ask.image.base64}"
        parts = [{"type": "text", "text": ask.prompt}, {"type": "image_url", "image_url": {"url": url}}]
        return [{"role": "user", "content": parts}]

    def answered(self, result: Result, outputs: Mapping[str, str]) -> list[Any]:
        message = result.raw.choices[0].message
        results = [
            {"role": "tool", "tool_call_id": call.id, "content": outputs[call.name]} for call in result.calls
        ]
        return [message.to_dict(), *results]

    def parameters(self, model: str, ask: Ask) -> dict[str, Any]:
        system = [{"role": "system", "content": ask.system}] if ask.system else []
        parameters: dict[str, Any] = {"model": model, "messages": system + (ask.history or self.opening(ask))}
        if ask.tools:
            parameters["tools"] = _strict_tools(ask)
        if ask.parallel is not None:
            parameters["parallel_tool_calls"] = ask.parallel
        if ask.choice in ask.tools:
            parameters["tool_choice"] = {"type": "function", "function": {"name": ask.choice}}
        elif ask.choice:
            parameters["tool_choice"] = ask.choice
        if ask.answer:
            parameters["response_format"] = ask.answer
        if ask.stop:
            parameters["stop"] = list(ask.stop)
        if ask.most_tokens is not None:
            parameters["max_completion_tokens"] = ask.most_tokens
        return parameters

    def ask(self, model: str, ask: Ask, stream: bool) -> Result:
        parameters = self.parameters(model, ask)
        completion: Any
        if stream:
            with self.sdk.chat.completions.stream(**parameters, stream_options={"include_usage": True}) as events:
                try:
                    completion = events.get_final_completion()
                except openai.LengthFinishReasonError as ended:
                    # To the helper the end of what a stream may have is an error, which has all that came.
                    completion = ended.completion
        elif ask.answer:
            completion = self.sdk.chat.completions.parse(**parameters)
        else:
            completion = self.sdk.chat.completions.create(**parameters)
        assert completion.object == "chat.completion"
        (choice,) = completion.choices
        assert choice.message.role == "assistant"
        calls = [
            Call(call.id, call.function.name, json.loads(call.function.arguments))
            for call in choice.message.tool_calls or []
        ]
        assert completion.usage is not None
        assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens
        return self._result(
            text=choice.message.content or "",
            calls=calls,
            finish={"content_filter": "filtered"}.get(choice.finish_reason, choice.finish_reason),
            tokens_in=completion.usage.prompt_tokens,
            tokens_out=completion.usage.completion_tokens,
            parsed=choice.message.parsed if ask.answer else None,
            raw=completion,
        )

    def failure(self, model: str, ask: Ask, stream: bool) -> Failure:
        return _failure_of(openai.APIStatusError, lambda: self.ask(model, ask, stream))


def _failure_of(base: type[Any], call: Any) -> Failure:
    try:
        result = call()
    except base as raised:
        body = raised.body
        assert isinstance(body, dict), body
        # Anthropic's SDK keeps the envelope, OpenAI's does not.
        body = body.get("error", body)
        assert body["type"] and body["message"], body
        return Failure(type(raised).__name__, raised.status_code, body.get("code"), body["message"])
    raise AssertionError(f"answered: {result}")


class OpenAiResponses(Sdk):
    dialect = "openai-responses"
    can_stop = False

    def connect(self, url: str) -> None:
        self.sdk = openai.OpenAI(base_url=f"{url}/v1", api_key=CLIENT_KEY, max_retries=0, http_client=self._http)

    def opening(self, ask: Ask) -> list[Any]:
        if ask.image is None:
            return [{"role": "user", "content": ask.prompt}]
        url = f"data:{ask.image.media_type};base64,{ask.image.base64}"
        parts = [
            {"type": "input_text", "text": ask.prompt},
            {"type": "input_image", "image_url": url, "detail": "auto"},
        ]
        return [{"role": "user", "content": parts}]

    def answered(self, result: Result, outputs: Mapping[str, str]) -> list[Any]:
        # As the SDK parsed them, less what only the SDK added.
        items = [item.to_dict() for item in result.raw.output]
        for item in items:
            item.pop("parsed_arguments", None)
        results = [
            {"type": "function_call_output", "call_id": call.id, "output": outputs[call.name]} for call in result.calls
        ]
        return [*items, *results]

    def parameters(self, model: str, ask: Ask) -> dict[str, Any]:
        parameters: dict[str, Any] = {"model": model, "input": ask.history or self.opening(ask), "store": False}
        if ask.system:
            parameters["instructions"] = ask.system
        if ask.tools:
            parameters["tools"] = [{"type": "function", **tool["function"]} for tool in _strict_tools(ask)]
        if ask.parallel is not None:
            parameters["parallel_tool_calls"] = ask.parallel
        if ask.choice in ask.tools:
            parameters["tool_choice"] = {"type": "function", "name": ask.choice}
        elif ask.choice:
            parameters["tool_choice"] = ask.choice
        if ask.answer:
            parameters["text_format"] = ask.answer
        if ask.most_tokens is not None:
            parameters["max_output_tokens"] = ask.most_tokens
        return parameters

    def ask(self, model: str, ask: Ask, stream: bool) -> Result:
        parameters = self.parameters(model, ask)
        response: Any
        if stream:
            with self.sdk.responses.stream(**parameters) as events:
                last = None
                numbers = []
                for event in events:
                    last = event
                    numbers.append(event.sequence_number)
                assert numbers == list(range(len(numbers))), numbers
                # The helper only knows of responses that were completed.
                if last is not None and last.type == "response.incomplete":
                    response = last.response
                else:
                    response = events.get_final_response()
        elif ask.answer:
            response = self.sdk.responses.parse(**parameters)
        else:
            response = self.sdk.responses.create(**parameters)
        assert response.object == "response"
        calls = [
            Call(item.call_id, item.name, json.loads(item.arguments))
            for item in response.output
            if item.type == "function_call"
        ]
        if response.status == "incomplete":
            finish = {"max_output_tokens": "length", "content_filter": "filtered"}[response.incomplete_details.reason]
        else:
            assert response.status == "completed", response.status
            finish = "tool_calls" if calls else "stop"
        assert response.usage is not None
        assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens
        return self._result(
            text=response.output_text,
            calls=calls,
            finish=finish,
            tokens_in=response.usage.input_tokens,
            tokens_out=response.usage.output_tokens,
            parsed=response.output_parsed if ask.answer else None,
            raw=response,
        )

    def failure(self, model: str, ask: Ask, stream: bool) -> Failure:
        return _failure_of(openai.APIStatusError, lambda: self.ask(model, ask, stream))


class Anthropic(Sdk):
    dialect = "anthropic-messages"

    def connect(self, url: str) -> None:
        self.sdk = anthropic.Anthropic(base_url=url, api_key=CLIENT_KEY, max_retries=0, http_client=self._http)

    def opening(self, ask: Ask) -> list[Any]:
        if ask.image is None:
            return [{"role": "user", "content": ask.prompt}]
        source = {"type": "base64", "media_type": ask.image.media_type, "data": ask.image.base64}
        parts = [{"type": "image", "source": source}, {"type": "text", "text": ask.prompt}]
        return [{"role": "user", "content": parts}]

    def answered(self, result: Result, outputs: Mapping[str, str]) -> list[Any]:
        results = [
            {"type": "tool_result", "tool_use_id": call.id, "content": outputs[call.name]} for call in result.calls
        ]
        return [{"role": "assistant", "content": result.raw.content}, {"role": "user", "content": results}]

    def parameters(self, model: str, ask: Ask) -> dict[str, Any]:
        parameters: dict[str, Any] = {
            "model": model,
            "max_tokens": 1024 if ask.most_tokens is None else ask.most_tokens,
            "messages": ask.history or self.opening(ask),
        }
        if ask.system:
            parameters["system"] = ask.system
        if ask.tools:
            parameters["tools"] = [
                {"name": name, "description": f"Calls {name}.", "input_schema": anthropic.transform_schema(model)}
                for name, model in ask.tools.items()
            ]
        if ask.parallel is not None:
            parameters["tool_choice"] = {"type": "auto", "disable_parallel_tool_use": not ask.parallel}
        if ask.choice in ask.tools:
            parameters["tool_choice"] = {"type": "tool", "name": ask.choice}
        elif ask.choice:
            parameters["tool_choice"] = {"type": {"required": "any"}.get(ask.choice, ask.choice)}
        if ask.answer:
            parameters["output_format"] = ask.answer
        if ask.stop:
            parameters["stop_sequences"] = list(ask.stop)
        return parameters

    def ask(self, model: str, ask: Ask, stream: bool) -> Result:
        parameters = self.parameters(model, ask)
        message: Any
        if stream:
            with self.sdk.messages.stream(**parameters) as events:
                message = events.get_final_message()
        elif ask.answer:
            message = self.sdk.messages.parse(**parameters)
        else:
            message = self.sdk.messages.create(**parameters)
        assert message.type == "message"
        assert message.role == "assistant"
        finish = {
            "end_turn": "stop",
            "stop_sequence": "stop",
            "max_tokens": "length",
            "tool_use": "tool_calls",
            "refusal": "filtered",
        }[message.stop_reason]
        usage = message.usage
        cached = (usage.cache_read_input_tokens or 0) + (usage.cache_creation_input_tokens or 0)
        return self._result(
            text="".join(block.text for block in message.content if block.type == "text"),
            calls=[Call(block.id, block.name, block.input) for block in message.content if block.type == "tool_use"],
            finish=finish,
            tokens_in=usage.input_tokens + cached,
            tokens_out=usage.output_tokens,
            parsed=message.parsed_output if ask.answer else None,
            raw=message,
        )

    def failure(self, model: str, ask: Ask, stream: bool) -> Failure:
        return _failure_of(anthropic.APIStatusError, lambda: self.ask(model, ask, stream))


class Google(Sdk):
    dialect = "gemini"
    can_serialise_calls = False

    def connect(self, url: str) -> None:
        options = google.HttpOptions(base_url=url, httpx_client=self._http)
        self.sdk = genai.Client(api_key=CLIENT_KEY, http_options=options)

    def opening(self, ask: Ask) -> list[Any]:
        parts = [google.Part.from_text(text=ask.prompt)]
        if ask.image is not None:
            parts.append(google.Part.from_bytes(data=ask.image.data, mime_type=ask.image.media_type))
        return [google.Content(role="user", parts=parts)]

    def answered(self, result: Result, outputs: Mapping[str, str]) -> list[Any]:
        results = [
            google.Part(
                function_response=google.FunctionResponse(
                    id=call.id, name=call.name, response={"result": outputs[call.name]}
                )
            )
            for call in result.calls
        ]
        return [result.raw.candidates[0].content, google.Content(role="user", parts=results)]

    def config(self, ask: Ask) -> google.GenerateContentConfig:
        config = google.GenerateContentConfig()
        config.automatic_function_calling = google.AutomaticFunctionCallingConfig(disable=True)
        if ask.system:
            config.system_instruction = ask.system
        if ask.tools:
            declarations = [
                google.FunctionDeclaration(name=name, parameters_json_schema=model.model_json_schema())
                for name, model in ask.tools.items()
            ]
            config.tools = [google.Tool(function_declarations=declarations)]
        if ask.choice:
            mode = google.FunctionCallingConfigMode.NONE if ask.choice == "none" else google.FunctionCallingConfigMode.ANY
            names = [ask.choice] if ask.choice in ask.tools else None
            calling = google.FunctionCallingConfig(mode=mode, allowed_function_names=names)
            config.tool_config = google.ToolConfig(function_calling_config=calling)
        if ask.answer:
            config.response_mime_type = "application/json"
            config.response_schema = ask.answer
        if ask.stop:
            config.stop_sequences = list(ask.stop)
        if ask.most_tokens is not None:
            config.max_output_tokens = ask.most_tokens
        return config

    def ask(self, model: str, ask: Ask, stream: bool) -> Result:
        asked: dict[str, Any] = {
            "model": model,
            "contents": ask.history or self.opening(ask),
            "config": self.config(ask),
        }
        if stream:
            chunks = list(self.sdk.models.generate_content_stream(**asked))
            response = self._joined(chunks)
        else:
            response = self.sdk.models.generate_content(**asked)
        assert response.candidates is not None
        (candidate,) = response.candidates
        parts = (candidate.content.parts if candidate.content else None) or []
        calls = [
            Call(part.function_call.id, part.function_call.name or "", dict(part.function_call.args or {}))
            for part in parts
            if part.function_call
        ]
        assert candidate.finish_reason is not None
        finish = {"STOP": "stop", "MAX_TOKENS": "length", "SAFETY": "filtered"}[candidate.finish_reason.value]
        usage = response.usage_metadata
        assert usage is not None
        tokens_in = usage.prompt_token_count or 0
        tokens_out = (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0)
        assert usage.total_token_count == tokens_in + tokens_out
        text = "".join(part.text or "" for part in parts if not part.thought)
        parsed = None
        if ask.answer:
            # Streams have no parsed answer.
            parsed = ask.answer.model_validate_json(text) if stream else response.parsed
        return self._result(
            text=text,
            calls=calls,
            finish="tool_calls" if calls and finish == "stop" else finish,
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            parsed=parsed,
            raw=response,
        )

    @staticmethod
    def _joined(chunks: list[google.GenerateContentResponse]) -> google.GenerateContentResponse:
        """The SDK only joins what a chat keeps: the parts of all chunks, the end of the last."""
        assert chunks
        assert len({chunk.response_id for chunk in chunks}) == 1
        parts: list[google.Part] = []
        for chunk in chunks:
            for candidate in chunk.candidates or []:
                parts += (candidate.content.parts if candidate.content else None) or []
        ended = [
            candidate.finish_reason for chunk in chunks for candidate in chunk.candidates or [] if candidate.finish_reason
        ]
        assert len(ended) == 1, ended
        last = chunks[-1].model_copy(deep=True)
        last.candidates = [
            google.Candidate(content=google.Content(role="model", parts=parts), finish_reason=ended[0])
        ]
        return last

    def failure(self, model: str, ask: Ask, stream: bool) -> Failure:
        try:
            result = self.ask(model, ask, stream)
        except google_errors.APIError as raised:
            details = raised.details["error"]
            assert details["code"] == raised.code and raised.status, details
            reasons = [detail["reason"] for detail in details.get("details", []) if "reason" in detail]
            return Failure(type(raised).__name__, raised.code, next(iter(reasons), None), raised.message or "")
        raise AssertionError(f"answered: {result}")


SDKS: dict[str, type[Sdk]] = {
    "openai chat": OpenAiChat,
    "openai responses": OpenAiResponses,
    "anthropic": Anthropic,
    "google-genai": Google,
}
