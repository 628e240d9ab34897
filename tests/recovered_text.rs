//! Whatever the text, however it is written and cut: what a client has of a stream that broke, and what another target
//! adds, are the text.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{convert::Infallible, fmt::Write};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use proptest::prelude::*;
use serde_json::{Value, json};
use tower::{Layer, ServiceExt, service_fn};
use tower_failover::{
    BoxError, FailoverLayer, Fault, RecoveryLayer, RequestContext, Route, Target, provider::StreamGuardLayer,
};

/// What texts are made of. Some are several characters that read as one, and some read as the beginning of another.
const PIECES: &[&str] = &[
    "Zoë",
    "cafe\u{301}",
    "👩\u{200d}👩\u{200d}👧\u{200d}👦",
    "🇩🇪",
    "👍🏽",
    "e\u{301}\u{327}",
    "\u{1F469}\u{200d}🚀",
    "海港",
    "ни́зкий",
    "नमस्ते",
    "ﷺ",
    "x",
    "\"quoted\"",
    "back\\slash",
    "a\u{a0}b",
    "{\"choices\":[",
    "data: [DONE]",
    "</html>",
    "1.5",
    "…",
    "é",
];
const BETWEEN: &[&str] = &[" ", "\n", "\r\n", "\n\n", ", ", ". ", "", "\t", "\u{2028}", " \r\n "];

/// How a stream is written.
#[derive(Clone, Debug)]
struct Writing {
    line_end: &'static str,
    /// Whether what is not ASCII is written in escapes.
    escapes: bool,
    /// How many characters the deltas have, over and over.
    deltas: Vec<usize>,
    /// How many bytes the frames have, over and over.
    frames: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Ending {
    Reset,
    Early,
}

/// How the other target goes on.
#[derive(Clone, Copy, Debug, PartialEq)]
enum GoesOn {
    Exactly,
    /// From the beginning.
    Anew,
    /// With so many of the last characters once more.
    Again(usize),
}

impl Writing {
    fn event(&self, data: &str) -> String {
        format!("data: {data}{0}{0}", self.line_end)
    }

    fn chunk(&self, id: &str, delta: &Value, finish_reason: Option<&str>) -> String {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": finish_reason});
        let json = json!({"id": id, "model": id, "choices": [choice]}).to_string();
        if !self.escapes {
            return self.event(&json);
        }
        let mut escaped = String::new();
        for char in json.chars() {
            match char.is_ascii() {
                true => escaped.push(char),
                false => {
                    char.encode_utf16(&mut [0; 2]).iter().for_each(|unit| write!(escaped, "\\u{unit:04x}").unwrap())
                }
            }
        }
        self.event(&escaped)
    }

    /// A stream that tells the text.
    fn stream(&self, id: &str, text: &str) -> Vec<u8> {
        let mut stream = self.chunk(id, &json!({"role": "assistant", "content": ""}), None);
        let mut rest: Vec<char> = text.chars().collect();
        let mut lengths = self.deltas.iter().cycle();
        while !rest.is_empty() {
            let length = (*lengths.next().unwrap()).min(rest.len());
            stream += &self.chunk(id, &json!({"content": rest.drain(..length).collect::<String>()}), None);
        }
        stream += &self.chunk(id, &json!({}), Some("stop"));
        stream += &self.event("[DONE]");
        stream.into_bytes()
    }

    fn frames(&self, stream: &[u8]) -> Vec<Bytes> {
        let (mut rest, mut frames) = (stream, Vec::new());
        let mut lengths = self.frames.iter().cycle();
        while !rest.is_empty() {
            let (frame, behind) = rest.split_at((*lengths.next().unwrap()).min(rest.len()));
            frames.push(Bytes::copy_from_slice(frame));
            rest = behind;
        }
        frames
    }
}

#[derive(Clone, Debug)]
struct Case {
    text: String,
    primary: Writing,
    fallback: Writing,
    /// Where the primary's stream ends, of all its bytes.
    cut: prop::sample::Index,
    ending: Ending,
    goes_on: GoesOn,
}

/// What a client reads, with every event's data.
#[derive(Debug)]
struct Reading {
    events: Vec<String>,
    error: Option<Fault>,
    /// How much of the text the other target was told, if it was asked to go on.
    told: Option<String>,
}

impl Case {
    async fn read(&self) -> Reading {
        let told = std::sync::Arc::new(std::sync::Mutex::new(None));
        let (case, kept) = (self.clone(), told.clone());
        let upstream = service_fn(move |request: Request<Full<Bytes>>| {
            let (case, kept) = (case.clone(), kept.clone());
            async move {
                let is_primary =
                    RequestContext::of(request.extensions()).unwrap().target().unwrap().id().as_str() == "a";
                let body: Value =
                    serde_json::from_slice(&request.into_body().collect().await.unwrap().to_bytes()).unwrap();
                let frames = if is_primary { case.broken() } else { case.rest(&body, &mut kept.lock().unwrap()) };
                let body = StreamBody::new(tokio_stream::iter(frames));
                Ok::<_, Infallible>(Response::builder().header("content-type", "text/event-stream").body(body).unwrap())
            }
        });
        let route = Route::new("r", ["a", "b"].map(Target::named)).unwrap();
        let service =
            RecoveryLayer::new().layer(FailoverLayer::new(&route).layer(StreamGuardLayer::new().layer(upstream)));
        let asked = json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": "Tell me."}]});
        let request = Request::post("/v1/chat/completions").body(Full::new(Bytes::from(asked.to_string()))).unwrap();
        let mut body = service.oneshot(request).await.unwrap().into_body();
        let (mut bytes, mut error) = (Vec::new(), None);
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => bytes.extend_from_slice(&frame.into_data().unwrap()),
                Err(broken) => error = Some(Fault::find(&*broken).unwrap().clone()),
            }
        }
        // No character is cut in two.
        let text = String::from_utf8(bytes).unwrap().replace("\r\n", "\n").replace('\r', "\n");
        let events = text.split("\n\n").filter_map(|event| event.trim_start_matches('\n').strip_prefix("data: "));
        let told = told.lock().unwrap().take();
        Reading { events: events.map(str::to_owned).collect(), error, told }
    }

    fn broken(&self) -> Vec<Result<Frame<Bytes>, BoxError>> {
        let stream = self.primary.stream("a", &self.text);
        let cut = self.cut.index(stream.len() + 1);
        let mut frames: Vec<_> =
            self.primary.frames(&stream[..cut]).into_iter().map(|frame| Ok(Frame::data(frame))).collect();
        if self.ending == Ending::Reset {
            frames.push(Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into()));
        }
        frames
    }

    fn rest(&self, asked: &Value, told: &mut Option<String>) -> Vec<Result<Frame<Bytes>, BoxError>> {
        let begun = asked["messages"][1]["content"].as_str();
        *told = begun.map(str::to_owned);
        let begun = begun.unwrap_or_default();
        assert!(self.text.starts_with(begun), "the prefill is what was delivered");
        let from = match self.goes_on {
            GoesOn::Exactly => begun.len(),
            GoesOn::Anew => 0,
            GoesOn::Again(characters) => {
                // A letter or two say nothing: one word may end as the next begins.
                let is_enough = |at: usize| begun[at..].chars().filter(|char| char.is_alphanumeric()).count() >= 3;
                let mut places = begun.char_indices().rev().skip(characters - 1).map(|(at, _)| at);
                places.find(|at| is_enough(*at)).unwrap_or(begun.len())
            }
        };
        let stream = self.fallback.stream("b", &self.text[from..]);
        self.fallback.frames(&stream).into_iter().map(|frame| Ok(Frame::data(frame))).collect()
    }
}

impl Reading {
    fn chunks(&self) -> Vec<Value> {
        self.events
            .iter()
            .filter(|event| *event != "[DONE]")
            .map(|event| serde_json::from_str(event).unwrap())
            .collect()
    }

    fn check(&self, case: &Case) {
        let chunks = self.chunks();
        let text: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
        let finishes = chunks.iter().filter(|chunk| chunk["choices"][0]["finish_reason"].is_string()).count();
        let ends = self.events.iter().filter(|event| *event == "[DONE]").count();
        if self.error.is_some() {
            // In doubt. Never where the target goes on as it should, nor where there is enough by which to tell.
            assert!(case.text.starts_with(&text), "{text:?} is none of its beginnings");
            assert_eq!((finishes, ends), (0, 0));
            let told = self.told.as_deref().expect("somebody was asked to go on");
            let letters = told.chars().filter(|char| char.is_alphanumeric()).count();
            let is_plain = match case.goes_on {
                // One of a family of alike characters may be the rest, or the beginning again.
                GoesOn::Exactly => letters >= 3 || !case.text[told.len()..].starts_with(told),
                GoesOn::Anew => letters >= 3,
                GoesOn::Again(characters) => characters >= 24 && told.chars().count() > 2 * characters,
            };
            assert!(!is_plain, "{:?} was in doubt: {told:?}", case.goes_on);
            return;
        }
        assert_eq!(text, case.text);
        assert_eq!((finishes, ends), (1, 1));
        assert_eq!(self.events.last().unwrap(), "[DONE]");
        assert!(chunks.iter().all(|chunk| chunk["id"] == chunks[0]["id"]), "one answer has one id");
    }
}

fn texts() -> impl Strategy<Value = String> {
    // Each at most once: a text that goes round in circles cannot be told from a new beginning.
    let pieces = prop::sample::subsequence(PIECES, 1..=PIECES.len()).prop_shuffle();
    let between = prop::collection::vec(prop::sample::select(BETWEEN), PIECES.len());
    (pieces, between).prop_map(|(pieces, between)| {
        let words = pieces.iter().zip(between).enumerate();
        words.map(|(n, (word, between))| format!("{word}{}{between}", n * 37 + 11)).collect()
    })
}

fn writings() -> impl Strategy<Value = Writing> {
    let lengths = |most| prop::collection::vec(1..most, 1..6);
    (prop::sample::select(&["\n", "\r\n", "\r"][..]), any::<bool>(), lengths(12_usize), lengths(90_usize))
        .prop_map(|(line_end, escapes, deltas, frames)| Writing { line_end, escapes, deltas, frames })
}

fn cases() -> impl Strategy<Value = Case> {
    let goes_on = prop_oneof![
        4 => Just(GoesOn::Exactly),
        2 => Just(GoesOn::Anew),
        2 => (1_usize..60).prop_map(GoesOn::Again),
    ];
    let ending = prop_oneof![Just(Ending::Reset), Just(Ending::Early)];
    (texts(), writings(), writings(), any::<prop::sample::Index>(), ending, goes_on).prop_map(
        |(text, primary, fallback, cut, ending, goes_on)| Case { text, primary, fallback, cut, ending, goes_on },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_delivered_and_what_was_recovered_are_the_text(case in cases()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(case.read()).check(&case);
    }
}
