//! Each feature of requests and answers, in each dialect that has it.

use serde_json::{Value as Json, json};

use super::DIALECTS;
use crate::Dialect;

/// What a dialect has no word for.
const NONE: Json = Json::Null;

/// A request of a few words in each dialect, which loses nothing anywhere.
pub(super) fn plain_request(dialect: Dialect) -> Json {
    match dialect {
        Dialect::OpenAiChat => json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}]}),
        Dialect::OpenAiResponses => json!({"model": "m", "input": [{"role": "user", "content": "Hi"}]}),
        Dialect::AnthropicMessages => {
            json!({"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}]})
        }
        Dialect::Gemini => json!({"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}),
    }
}

/// Puts the members of one over those of another, object by object.
pub(super) fn merge(into: &mut Json, from: &Json) {
    match (into, from) {
        (Json::Object(into), Json::Object(from)) => {
            from.iter().for_each(|(key, value)| merge(into.entry(key.clone()).or_insert(Json::Null), value));
        }
        (into, from) => into.clone_from(from),
    }
}

/// The turns of a conversation as the member that holds them.
fn turns(dialect: Dialect, turns: &Json) -> Json {
    match dialect {
        _ if turns.is_null() => NONE,
        Dialect::OpenAiChat | Dialect::AnthropicMessages => json!({"messages": turns}),
        Dialect::OpenAiResponses => json!({"input": turns}),
        Dialect::Gemini => json!({"contents": turns}),
    }
}

/// The user's turn with one part that is more than text.
fn part(dialect: Dialect, part: &Json) -> Json {
    match dialect {
        _ if part.is_null() => NONE,
        Dialect::Gemini => turns(dialect, &json!([{"role": "user", "parts": [{"text": "What?"}, part]}])),
        Dialect::OpenAiResponses => {
            turns(dialect, &json!([{"role": "user", "content": [{"type": "input_text", "text": "What?"}, part]}]))
        }
        _ => turns(dialect, &json!([{"role": "user", "content": [{"type": "text", "text": "What?"}, part]}])),
    }
}

fn parts(of: [Json; 4]) -> [Json; 4] {
    std::array::from_fn(|at| part(DIALECTS[at], &of[at]))
}

fn conversations(of: [Json; 4]) -> [Json; 4] {
    std::array::from_fn(|at| turns(DIALECTS[at], &of[at]))
}

fn with_tool(mut of: [Json; 4]) -> [Json; 4] {
    for (dialect, more) in DIALECTS.into_iter().zip(&mut of).filter(|(_, more)| !more.is_null()) {
        let tools = match dialect {
            Dialect::OpenAiChat => json!([{"type": "function", "function": {"name": "f", "parameters": schema()}}]),
            Dialect::OpenAiResponses => {
                json!([{"type": "function", "name": "f", "parameters": schema(), "strict": false}])
            }
            Dialect::AnthropicMessages => json!([{"name": "f", "input_schema": schema()}]),
            Dialect::Gemini => json!([{"functionDeclarations": [{"name": "f", "parametersJsonSchema": schema()}]}]),
        };
        if more.get("tools").is_none() {
            more["tools"] = tools;
        }
    }
    of
}

fn schema() -> Json {
    json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": false})
}

fn everywhere(member: &str, value: Json) -> [Json; 4] {
    let config = json!({"generationConfig": {member: value.clone()}});
    let own = json!({member: value});
    [own.clone(), own.clone(), own, config]
}

/// Each feature of a request, in each dialect that has it.
pub(super) fn requests() -> Vec<(&'static str, [Json; 4])> {
    let data = "iVBORw0KGgo=";
    let called = |result: [Json; 4]| {
        with_tool(conversations([
            json!([{"role": "user", "content": "Do"}, {"role": "assistant", "content": null, "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{\"a\":\"b\"}"}}]},
                {"role": "tool", "tool_call_id": "c", "content": result[0]}]),
            json!([{"role": "user", "content": "Do"},
                {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{\"a\":\"b\"}"},
                {"type": "function_call_output", "call_id": "c", "output": result[1]}]),
            json!([{"role": "user", "content": "Do"},
                {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "f", "input": {"a": "b"}}]},
                {"role": "user", "content": [result[2]]}]),
            json!([{"role": "user", "parts": [{"text": "Do"}]},
                {"role": "model", "parts": [{"functionCall": {"id": "c", "name": "f", "args": {"a": "b"}}}]},
                {"role": "user", "parts": [{"functionResponse": result[3]}]}]),
        ]))
    };
    let mut image_result = called([
        NONE,
        json!([{"type": "input_text", "text": "see"}, {"type": "input_image", "image_url": format!("data:image/png;base64,{data}")}]),
        json!({"type": "tool_result", "tool_use_id": "c", "content": [{"type": "text", "text": "see"},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}]}),
        json!({"id": "c", "name": "f", "response": {"output": "see"}, "parts": [{"inlineData": {"mimeType": "image/png", "data": data}}]}),
    ]);
    image_result[0] = NONE;
    let mut error_result = called([
        NONE,
        NONE,
        json!({"type": "tool_result", "tool_use_id": "c", "content": "no", "is_error": true}),
        json!({"id": "c", "name": "f", "response": {"error": "no"}}),
    ]);
    (error_result[0], error_result[1]) = (NONE, NONE);
    let own = |name: &str, value: Json, chat: bool, responses: bool, anthropic: bool| {
        let said = json!({name: value});
        [chat, responses, anthropic, false].map(|has| if has { said.clone() } else { NONE })
    };
    let config = |mut of: [Json; 4], name: &str, value: Json| {
        of[3] = json!({"generationConfig": {name: value}});
        of
    };
    vec![
        (
            "a system prompt",
            [
                json!({"messages": [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Hi"}]}),
                json!({"instructions": "Be brief"}),
                json!({"system": "Be brief"}),
                json!({"systemInstruction": {"parts": [{"text": "Be brief"}]}}),
            ],
        ),
        (
            "a developer's message",
            conversations([
                json!([{"role": "developer", "content": "Be brief"}, {"role": "user", "content": "Hi"}]),
                json!([{"role": "developer", "content": "Be brief"}, {"role": "user", "content": "Hi"}]),
                NONE,
                NONE,
            ]),
        ),
        (
            "a system message amid the conversation",
            conversations([
                json!([{"role": "user", "content": "Hi"}, {"role": "system", "content": "Be brief"}, {"role": "user", "content": "Go on"}]),
                json!([{"role": "user", "content": "Hi"}, {"role": "system", "content": "Be brief"}, {"role": "user", "content": "Go on"}]),
                NONE,
                NONE,
            ]),
        ),
        (
            "several turns",
            conversations([
                json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]),
                json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]),
                json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]),
                json!([{"role": "user", "parts": [{"text": "a"}]}, {"role": "model", "parts": [{"text": "b"}]}, {"role": "user", "parts": [{"text": "c"}]}]),
            ]),
        ),
        (
            "an answer that the request begins",
            conversations([
                NONE,
                NONE,
                json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]),
                NONE,
            ]),
        ),
        (
            "an image",
            parts([
                json!({"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{data}")}}),
                json!({"type": "input_image", "image_url": format!("data:image/png;base64,{data}")}),
                json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}),
                json!({"inlineData": {"mimeType": "image/png", "data": data}}),
            ]),
        ),
        (
            "an image by its URL",
            parts([
                json!({"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}),
                json!({"type": "input_image", "image_url": "https://example.org/a.png"}),
                json!({"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}}),
                json!({"fileData": {"mimeType": "image/png", "fileUri": "https://example.org/a.png"}}),
            ]),
        ),
        (
            "an image's detail",
            parts([
                json!({"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "low"}}),
                json!({"type": "input_image", "image_url": "https://example.org/a.png", "detail": "low"}),
                NONE,
                NONE,
            ]),
        ),
        (
            "a PDF",
            parts([
                json!({"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0=", "filename": "a.pdf"}}),
                json!({"type": "input_file", "file_data": "data:application/pdf;base64,JVBERi0=", "filename": "a.pdf"}),
                json!({"type": "document", "title": "a.pdf", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}}),
                json!({"inlineData": {"mimeType": "application/pdf", "data": "JVBERi0="}}),
            ]),
        ),
        (
            "a document that is text",
            parts([
                NONE,
                NONE,
                json!({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "t"}}),
                NONE,
            ]),
        ),
        (
            "audio",
            parts([
                json!({"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}),
                NONE,
                NONE,
                json!({"inlineData": {"mimeType": "audio/wav", "data": "UklGRg=="}}),
            ]),
        ),
        ("video", parts([NONE, NONE, NONE, json!({"inlineData": {"mimeType": "video/mp4", "data": "AAAA"}})])),
        (
            "a file that lies with the provider",
            parts([
                json!({"type": "file", "file": {"file_id": "file-1"}}),
                json!({"type": "input_file", "file_id": "file-1"}),
                json!({"type": "document", "source": {"type": "file", "file_id": "file_1"}}),
                json!({"fileData": {"mimeType": "application/pdf", "fileUri": "https://generativelanguage.googleapis.com/v1beta/files/a"}}),
            ]),
        ),
        ("tools", with_tool([json!({}), json!({}), json!({}), json!({})])),
        (
            "a strict tool",
            [
                json!({"tools": [{"type": "function", "function": {"name": "f", "parameters": schema(), "strict": true}}]}),
                json!({"tools": [{"type": "function", "name": "f", "parameters": schema(), "strict": true}]}),
                json!({"tools": [{"name": "f", "input_schema": schema(), "strict": true}]}),
                NONE,
            ],
        ),
        (
            "some tool must be called",
            with_tool([
                json!({"tool_choice": "required"}),
                json!({"tool_choice": "required"}),
                json!({"tool_choice": {"type": "any"}}),
                json!({"toolConfig": {"functionCallingConfig": {"mode": "ANY"}}}),
            ]),
        ),
        (
            "that tool must be called",
            with_tool([
                json!({"tool_choice": {"type": "function", "function": {"name": "f"}}}),
                json!({"tool_choice": {"type": "function", "name": "f"}}),
                json!({"tool_choice": {"type": "tool", "name": "f"}}),
                json!({"toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}}}),
            ]),
        ),
        (
            "one call at a time",
            with_tool([
                json!({"parallel_tool_calls": false}),
                json!({"parallel_tool_calls": false}),
                json!({"tool_choice": {"type": "auto", "disable_parallel_tool_use": true}}),
                NONE,
            ]),
        ),
        (
            "a call and its result",
            called([
                json!("it"),
                json!("it"),
                json!({"type": "tool_result", "tool_use_id": "c", "content": "it"}),
                json!({"id": "c", "name": "f", "response": {"output": "it"}}),
            ]),
        ),
        ("an image in a tool's result", image_result),
        ("a tool's error", error_result),
        (
            "a tool that runs at the provider",
            [
                json!({"web_search_options": {"search_context_size": "low"}}),
                json!({"tools": [{"type": "web_search"}]}),
                json!({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
                json!({"tools": [{"googleSearch": {}}]}),
            ],
        ),
        (
            "a JSON schema for the answer",
            [
                json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema()}}}),
                json!({"text": {"format": {"type": "json_schema", "name": "n", "schema": schema()}}}),
                json!({"output_config": {"format": {"type": "json_schema", "schema": schema()}}}),
                json!({"generationConfig": {"responseMimeType": "application/json", "responseJsonSchema": schema()}}),
            ],
        ),
        (
            "an answer in JSON",
            [
                json!({"response_format": {"type": "json_object"}}),
                json!({"text": {"format": {"type": "json_object"}}}),
                NONE,
                json!({"generationConfig": {"responseMimeType": "application/json"}}),
            ],
        ),
        (
            "how much to reason",
            [
                json!({"reasoning_effort": "low"}),
                json!({"reasoning": {"effort": "low"}}),
                json!({"output_config": {"effort": "low"}}),
                json!({"generationConfig": {"thinkingConfig": {"thinkingLevel": "low"}}}),
            ],
        ),
        (
            "a budget for reasoning",
            [
                NONE,
                NONE,
                json!({"max_tokens": 9000, "thinking": {"type": "enabled", "budget_tokens": 2048}}),
                json!({"generationConfig": {"thinkingConfig": {"thinkingBudget": 2048}}}),
            ],
        ),
        (
            "what was thought in earlier turns",
            conversations([
                json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "reasoning_content": "hm"}, {"role": "user", "content": "c"}]),
                json!([{"role": "user", "content": "a"}, {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "x"},
                {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]),
                json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "x"}, {"type": "text", "text": "b"}]},
                {"role": "user", "content": "c"}]),
                json!([{"role": "user", "parts": [{"text": "a"}]}, {"role": "model", "parts": [{"text": "hm", "thought": true, "thoughtSignature": "x"}, {"text": "b"}]},
                {"role": "user", "parts": [{"text": "c"}]}]),
            ]),
        ),
        (
            "a limit of the answer",
            [
                json!({"max_completion_tokens": 50}),
                json!({"max_output_tokens": 50}),
                json!({"max_tokens": 50}),
                json!({"generationConfig": {"maxOutputTokens": 50}}),
            ],
        ),
        (
            "stop sequences",
            [
                json!({"stop": ["x"]}),
                NONE,
                json!({"stop_sequences": ["x"]}),
                json!({"generationConfig": {"stopSequences": ["x"]}}),
            ],
        ),
        ("a temperature", everywhere("temperature", json!(0.5))),
        ("a temperature above 1", {
            let mut of = everywhere("temperature", json!(1.5));
            of[2] = NONE;
            of
        }),
        ("`top_p`", config(own("top_p", json!(0.5), true, true, true), "topP", json!(0.5))),
        ("`top_k`", config(own("top_k", json!(5), false, false, true), "topK", json!(5))),
        (
            "a frequency penalty",
            config(own("frequency_penalty", json!(0.5), true, false, false), "frequencyPenalty", json!(0.5)),
        ),
        (
            "a presence penalty",
            config(own("presence_penalty", json!(0.5), true, false, false), "presencePenalty", json!(0.5)),
        ),
        ("a seed", config(own("seed", json!(7), true, false, false), "seed", json!(7))),
        ("`logit_bias`", own("logit_bias", json!({"1": 2}), true, false, false)),
        ("several answers", config(own("n", json!(2), true, false, false), "candidateCount", json!(2))),
        (
            "log probabilities",
            [
                json!({"logprobs": true}),
                json!({"include": ["message.output_text.logprobs"]}),
                NONE,
                json!({"generationConfig": {"responseLogprobs": true}}),
            ],
        ),
        (
            "an answer that is heard or seen",
            [
                json!({"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}}),
                NONE,
                NONE,
                json!({"generationConfig": {"responseModalities": ["TEXT", "IMAGE"]}}),
            ],
        ),
        ("who the user is", [json!({"user": "u"}), json!({"user": "u"}), json!({"metadata": {"user_id": "u"}}), NONE]),
        ("metadata", own("metadata", json!({"a": "b"}), true, true, false)),
        ("a priority", own("service_tier", json!("priority"), true, true, false)),
        ("how verbose to be", [json!({"verbosity": "low"}), json!({"text": {"verbosity": "low"}}), NONE, NONE]),
        ("a key for the prompt's cache", own("prompt_cache_key", json!("k"), true, true, false)),
        (
            "a mark in the prompt's cache",
            [
                NONE,
                NONE,
                json!({"system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}]}),
                NONE,
            ],
        ),
        ("a cached text", [NONE, NONE, NONE, json!({"cachedContent": "cachedContents/a"})]),
        ("an earlier answer", [NONE, json!({"previous_response_id": "resp_1"}), NONE, NONE]),
        ("that the answer is stored", own("store", json!(true), true, true, false)),
        (
            "how safe to be",
            [
                NONE,
                NONE,
                NONE,
                json!({"safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}]}),
            ],
        ),
    ]
}

/// An answer of a word in each dialect.
pub(super) fn plain_answer(dialect: Dialect) -> Json {
    match dialect {
        Dialect::OpenAiChat => json!({"id": "a", "object": "chat.completion", "created": 1, "model": "m", "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 5, "completion_tokens": 3}}),
        Dialect::OpenAiResponses => {
            json!({"id": "resp_a", "object": "response", "created_at": 1, "status": "completed", "model": "m",
            "output": [text_item()], "usage": {"input_tokens": 5, "output_tokens": 3}})
        }
        Dialect::AnthropicMessages => json!({"id": "msg_a", "type": "message", "role": "assistant", "model": "m",
            "content": [{"type": "text", "text": "Hi"}], "stop_reason": "end_turn", "usage": {"input_tokens": 5, "output_tokens": 3}}),
        Dialect::Gemini => json!({"responseId": "a", "modelVersion": "m", "candidates": [
            {"index": 0, "content": {"role": "model", "parts": [{"text": "Hi"}]}, "finishReason": "STOP"}],
            "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 3}}),
    }
}

fn text_item() -> Json {
    json!({"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
        "content": [{"type": "output_text", "text": "Hi", "annotations": []}]})
}

/// Each feature of an answer, in each dialect that has it.
pub(super) fn answers() -> Vec<(&'static str, [Json; 4])> {
    let chat = |message: Json, finish: &str| {
        let mut message = message;
        merge(&mut message, &json!({"role": "assistant"}));
        json!({"choices": [{"index": 0, "message": message, "finish_reason": finish}]})
    };
    let gemini = |parts: Json, finish: &str| json!({"candidates": [{"index": 0, "content": {"role": "model", "parts": parts}, "finishReason": finish}]});
    let calls = |number: u32| {
        let each = |call: fn(u32) -> Json| (1..=number).map(call).collect::<Json>();
        [
            chat(
                json!({"content": null, "tool_calls": each(|number| json!({"id": format!("c{number}"), "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}}))}),
                "tool_calls",
            ),
            json!({"output": each(|number| json!({"type": "function_call", "id": format!("fc{number}"), "call_id": format!("c{number}"), "name": "f", "arguments": "{\"a\":1}", "status": "completed"}))}),
            json!({"stop_reason": "tool_use", "content": each(|number| json!({"type": "tool_use", "id": format!("c{number}"), "name": "f", "input": {"a": 1}}))}),
            gemini(
                each(|number| json!({"functionCall": {"id": format!("c{number}"), "name": "f", "args": {"a": 1}}})),
                "STOP",
            ),
        ]
    };
    let hi = || json!([{"text": "Hi"}]);
    vec![
        ("text, and what it cost", [json!({}), json!({}), json!({}), json!({})]),
        ("a call of a tool", calls(1)),
        ("several calls at once", calls(2)),
        (
            "a refusal",
            [
                chat(json!({"content": null, "refusal": "No"}), "stop"),
                json!({"output": [{"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [{"type": "refusal", "refusal": "No"}]}]}),
                NONE,
                NONE,
            ],
        ),
        (
            "what was thought",
            [
                chat(json!({"content": "Hi", "reasoning_content": "hm"}), "stop"),
                json!({"output": [{"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "hm"}]}, text_item()]}),
                json!({"content": [{"type": "thinking", "thinking": "hm", "signature": ""}, {"type": "text", "text": "Hi"}]}),
                gemini(json!([{"text": "hm", "thought": true}, {"text": "Hi"}]), "STOP"),
            ],
        ),
        (
            "what proves whose thought it was",
            [
                NONE,
                json!({"output": [{"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "x"}, text_item()]}),
                json!({"content": [{"type": "thinking", "thinking": "hm", "signature": "x"}, {"type": "text", "text": "Hi"}]}),
                gemini(
                    json!([{"functionCall": {"id": "c", "name": "f", "args": {}}, "thoughtSignature": "x"}]),
                    "STOP",
                ),
            ],
        ),
        (
            "an answer cut at its limit",
            [
                chat(json!({"content": "Hi"}), "length"),
                json!({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}),
                json!({"stop_reason": "max_tokens"}),
                gemini(hi(), "MAX_TOKENS"),
            ],
        ),
        (
            "an answer that was filtered",
            [
                chat(json!({"content": "Hi"}), "content_filter"),
                json!({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}),
                json!({"stop_reason": "refusal"}),
                gemini(hi(), "SAFETY"),
            ],
        ),
        (
            "which stop sequence it came upon",
            [NONE, NONE, json!({"stop_reason": "stop_sequence", "stop_sequence": "x"}), NONE],
        ),
        (
            "another reason to end",
            [NONE, NONE, json!({"stop_reason": "pause_turn"}), gemini(hi(), "MALFORMED_RESPONSE")],
        ),
        (
            "tokens that came from a cache",
            [
                json!({"usage": {"prompt_tokens_details": {"cached_tokens": 2}}}),
                json!({"usage": {"input_tokens_details": {"cached_tokens": 2}}}),
                json!({"usage": {"cache_read_input_tokens": 2}}),
                json!({"usageMetadata": {"cachedContentTokenCount": 2}}),
            ],
        ),
        (
            "tokens of reasoning",
            [
                json!({"usage": {"completion_tokens_details": {"reasoning_tokens": 2}}}),
                json!({"usage": {"output_tokens_details": {"reasoning_tokens": 2}}}),
                json!({"usage": {"output_tokens_details": {"thinking_tokens": 2}}}),
                json!({"usageMetadata": {"thoughtsTokenCount": 2}}),
            ],
        ),
        (
            "citations",
            [
                chat(
                    json!({"content": "Hi", "annotations": [{"type": "url_citation", "url_citation": {"url": "https://example.org"}}]}),
                    "stop",
                ),
                json!({"output": [{"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [{"type": "output_text", "text": "Hi",
                "annotations": [{"type": "url_citation", "url": "https://example.org", "start_index": 0, "end_index": 1, "title": "t"}]}]}]}),
                json!({"content": [{"type": "text", "text": "Hi", "citations": [{"type": "char_location", "cited_text": "x"}]}]}),
                json!({"candidates": [{"index": 0, "content": {"role": "model", "parts": hi()}, "finishReason": "STOP", "groundingMetadata": {"webSearchQueries": ["x"]}}]}),
            ],
        ),
        (
            "what the provider's own tools did",
            [
                NONE,
                json!({"output": [{"type": "web_search_call", "id": "ws", "status": "completed"}, text_item()]}),
                json!({"content": [{"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}, {"type": "text", "text": "Hi"}]}),
                gemini(json!([{"executableCode": {"language": "PYTHON", "code": "1"}}, {"text": "Hi"}]), "STOP"),
            ],
        ),
        (
            "log probabilities",
            [
                json!({"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop", "logprobs": {"content": [{"token": "Hi"}]}}]}),
                json!({"output": [{"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [{"type": "output_text", "text": "Hi", "annotations": [], "logprobs": [{"token": "Hi"}]}]}]}),
                NONE,
                json!({"candidates": [{"index": 0, "content": {"role": "model", "parts": hi()}, "finishReason": "STOP", "avgLogprobs": -0.5}]}),
            ],
        ),
    ]
}
