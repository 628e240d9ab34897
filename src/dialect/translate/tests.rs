//! The proof that any dialect says in any other what it says itself.

mod essence;
mod features;
mod fidelity;
mod properties;
mod recordings;
mod robustness;

use self::essence::of_answer;
use super::*;
use crate::{
    Capabilities, RequestContext, Variant,
    body::EventStream,
    dialect::{canonical, recorded::Exchange},
};

pub(super) const DIALECTS: [Dialect; 4] =
    [Dialect::OpenAiChat, Dialect::OpenAiResponses, Dialect::AnthropicMessages, Dialect::Gemini];

/// The folder of a dialect's recordings.
fn folder(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::OpenAiChat => "openai-chat",
        Dialect::OpenAiResponses => "openai-responses",
        Dialect::AnthropicMessages => "anthropic-messages",
        Dialect::Gemini => "gemini-generate",
    }
}

/// A model that a provider of that dialect might serve: one of the newer ones, which can do the most.
fn model(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::OpenAiChat | Dialect::OpenAiResponses => "\"gpt-5\"",
        Dialect::AnthropicMessages => "\"claude-sonnet-4-5\"",
        Dialect::Gemini => "\"gemini-3-pro\"",
    }
}

fn names(losses: &Losses) -> Vec<&'static str> {
    losses.iter().map(|loss| loss.0).collect()
}

/// A request in another dialect, and what it lost on the way.
fn encoded(request: &Request<'_>, to: Dialect) -> (String, Vec<&'static str>) {
    encoded_for(Default::default(), request, to)
}

/// The same for a certain kind of server.
fn encoded_for(variant: &Variant, request: &Request<'_>, to: Dialect) -> (String, Vec<&'static str>) {
    let capabilities = Capabilities::new();
    let destination = Destination { model: Some(model(to)), capabilities: &capabilities, variant };
    let mut losses = Losses::default();
    let body = encode_request(to, request, destination, &mut losses);
    let body = String::from_utf8(body).unwrap();
    let json: Result<serde_json::Value, _> = serde_json::from_str(&body);
    assert!(json.is_ok(), "{to:?}: {json:?}: {body}");
    (body, names(&losses))
}

/// A request as that dialect reads it, with what Gemini says in the path.
fn decoded(dialect: Dialect, body: &str, stream: bool) -> Request<'_> {
    let mut request = decode_request(dialect, body).unwrap_or_else(|error| panic!("{dialect:?} {error:?}: {body}"));
    if dialect == Dialect::Gemini {
        request.stream = stream;
    }
    request
}

/// The data of a stream's events, should it come in such frames.
fn data_of<'f>(frames: impl IntoIterator<Item = &'f [u8]>) -> Vec<String> {
    let (mut events, mut data) = (EventStream::default(), Vec::new());
    let mut read = |events: &mut EventStream, whole: &[u8]| {
        data.extend(events.events(whole).map(|(data, _)| String::from_utf8(data.into_owned()).unwrap()));
    };
    for frame in frames {
        let whole = events.push(bytes::Bytes::copy_from_slice(frame)).unwrap();
        read(&mut events, &whole);
    }
    let rest = events.finish();
    read(&mut events, &rest);
    data
}

/// The answer that a stream tells; `None` where it is not all there.
fn told(dialect: Dialect, events: &[String]) -> Option<Answer<'static>> {
    let (mut decoder, mut collector) = (Decoder::new(dialect), Collector::new(dialect));
    for data in events {
        decoder.event(data, &mut |event| collector.event(event)).ok()?;
    }
    decoder.end(&mut |event| collector.event(event));
    collector.done.then(|| collector.answer())
}

/// A stream in another dialect, and what it lost on the way.
fn translated(from: Dialect, to: Dialect, events: &[String]) -> (String, Vec<&'static str>) {
    let (mut translator, mut out) = (StreamTranslator::new(from, to, true), Vec::new());
    for data in events {
        translator.event(data.as_bytes(), &mut out).unwrap_or_else(|error| panic!("{error:?}: {data}"));
    }
    translator.end(&mut out);
    (String::from_utf8(out).unwrap(), names(translator.losses()))
}

/// What is wrong with a stream of that dialect, if anything.
fn grammar(dialect: Dialect, stream: &str) -> Result<(), String> {
    match dialect {
        Dialect::OpenAiChat => openai_chat::stream::grammar::check(stream),
        Dialect::OpenAiResponses => openai_responses::stream::grammar::check(stream),
        Dialect::AnthropicMessages => anthropic_messages::stream::grammar::check(&data_of([stream.as_bytes()])),
        Dialect::Gemini => {
            // It panics where the others tell.
            let mut grammar = gemini::grammar::Grammar::default();
            data_of([stream.as_bytes()]).iter().for_each(|data| grammar.event(data));
            grammar.end();
            Ok(())
        }
    }
}

/// The events of each stream that was recorded, by itself where several were recorded together.
fn streams(dialect: Dialect, exchange: &Exchange) -> Vec<Vec<String>> {
    // Gemini's may come as an array.
    if let Some(elements) = exchange.answer.as_ref().and_then(serde_json::Value::as_array) {
        return vec![elements.iter().map(serde_json::Value::to_string).collect()];
    }
    let Some(stream) = exchange.stream.as_ref().filter(|_| exchange.status == 200) else { return Vec::new() };
    match dialect {
        Dialect::OpenAiResponses => {
            let streams = openai_responses::stream::grammar::streams(stream);
            streams.iter().map(|stream| data_of([stream.as_bytes()])).collect()
        }
        Dialect::AnthropicMessages => anthropic_messages::stream::grammar::streams(exchange),
        Dialect::OpenAiChat | Dialect::Gemini => vec![data_of([stream.as_bytes()])],
    }
}

/// What a request needs that is refused, where the target speaks that dialect.
fn refused(from: Dialect, to: Dialect, path: &str, body: &str) -> Vec<&'static str> {
    let body = bytes::Bytes::copy_from_slice(body.as_bytes());
    let context = crate::dialect::describe(RequestContext::new(), from, path, &body).unwrap();
    let needs = context.requirements().unwrap().features;
    needs.iter().filter(|feature| !feature.survives_translation_to(to)).map(|feature| feature.name()).collect()
}

/// Whatever an answer says besides what all dialects know is a loss that is named.
#[test]
fn nothing_of_an_answer_is_lost_silently() {
    let value = crate::dialect::json_scan::Value::whole(b"7").unwrap();
    for from in DIALECTS {
        for to in DIALECTS.into_iter().filter(|to| *to != from) {
            let mut answer = Answer::new(from);
            answer.extras.keep("container".into(), &value);
            answer.candidate_extras.keep("logprobs".into(), &value);
            answer.message_extras.keep("audio".into(), &value);
            answer.others.push(canonical::Raw::new("{}"));
            answer.finish = canonical::Finish::Other(canonical::Text::escaped("odd"));
            let arguments = canonical::Raw::new("{}");
            let mut extras = canonical::Extras::default();
            extras.keep("caller".into(), &value);
            let [id, name] = ["c", "f"].map(canonical::Text::escaped);
            answer.parts.push(canonical::Part::Call(canonical::Call { id, name, arguments, signature: None, extras }));
            let mut losses = Losses::default();
            encode_answer(to, &answer, &mut losses);
            let expected = ["audio", "caller", "container", "finish reason", "further answers", "logprobs"];
            assert_eq!(names(&losses), expected, "{from:?} to {to:?}");
            let (mut encoder, mut losses) = (Encoder::new(to, true), Losses::default());
            answer.replay(&mut |event| encoder.event(&event, &mut losses, &mut Vec::new()));
            assert_eq!(names(&losses), ["finish reason"], "{from:?} to {to:?}");
            answer.finish = canonical::Finish::StopSequence(canonical::Text::escaped("odd"));
            let mut losses = Losses::default();
            encode_answer(to, &answer, &mut losses);
            assert_eq!(
                names(&losses).contains(&"stop_sequence"),
                to != Dialect::AnthropicMessages,
                "{from:?} to {to:?}"
            );
        }
    }
}

/// Some servers leave out what says nothing to a reader.
#[test]
fn a_response_that_is_never_said_to_begin_is_told_all_the_same() {
    let events = [
        r#"{"type":"response.output_text.delta","item_id":"m","output_index":0,"content_index":0,"delta":"Hi"}"#,
        r#"{"type":"response.completed","response":{"status":"completed"}}"#,
    ];
    for to in DIALECTS.into_iter().filter(|to| *to != Dialect::OpenAiResponses) {
        let (stream, _) = translated(Dialect::OpenAiResponses, to, &events.map(str::to_owned));
        assert_eq!(grammar(to, &stream), Ok(()), "{stream}");
        assert_eq!(of_answer(&told(to, &data_of([stream.as_bytes()])).unwrap()).text, "Hi");
    }
}

/// OpenAI writes its responses in many lines, and models their arguments.
#[test]
fn an_answer_of_many_lines_becomes_a_stream_of_whole_events() {
    let body = r#"{
        "id": "resp_1", "status": "completed", "output": [
            {
                "type": "web_search_call",
                "id": "ws_1"
            },
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{\n  \"a\": 1\n}"}
        ]
    }"#;
    let answer = decode_answer(Dialect::OpenAiResponses, body).unwrap();
    for to in DIALECTS {
        let stream = String::from_utf8(as_stream(&answer, to, true)).unwrap();
        assert_eq!(grammar(to, &stream), Ok(()), "{stream}");
        let told = of_answer(&told(to, &data_of([stream.as_bytes()])).unwrap());
        assert_eq!(told.calls, [("f".to_owned(), serde_json::json!({"a": 1}))]);
    }
}

#[test]
fn a_stream_of_messages_in_one_piece_says_why_it_ends_and_what_it_cost() {
    let events = [
        r#"{"type":"message_start","message":{"id":"m","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"usage":{"input_tokens":5,"output_tokens":1}}}"#,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hi"}}"#,
        r#"{"type":"content_block_stop","index":0}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"max_tokens","stop_sequence":null},"usage":{"output_tokens":9}}"#,
        r#"{"type":"message_stop"}"#,
    ];
    let events = events.iter().map(|event| std::borrow::Cow::Borrowed(event.as_bytes()));
    let answer = joined(Dialect::AnthropicMessages, events).unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(answer["content"][0]["text"], "Hi");
    assert_eq!(
        (&answer["stop_reason"], &answer["usage"]["output_tokens"]),
        (&"max_tokens".into(), &9.into()),
        "{answer}"
    );
}
