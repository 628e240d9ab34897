//! Whatever a client or a provider sends: each decoder either says that it is malformed, or what it made of it can be told in
//! every dialect, in JSON, and read there again.

use std::sync::LazyLock;

use serde_json::value::RawValue;

use crate::{
    Capabilities, Dialect,
    body::EventStream,
    dialect::{
        canonical::{Destination, Event, Losses, Stops, Text, collect::Collector},
        translate::{self, Decoder, StreamTranslator},
    },
};

const DIALECTS: [Dialect; 4] =
    [Dialect::OpenAiChat, Dialect::OpenAiResponses, Dialect::AnthropicMessages, Dialect::Gemini];

/// The dialect that the first byte names, and the text behind it; `None` where that is none. The variable `FUZZ_DIALECT`
/// names one (as the configuration does) for all inputs, so that all of a run is for its decoder.
fn dialect_and_text(input: &[u8]) -> Option<(Dialect, &str)> {
    static ONLY: LazyLock<Option<Dialect>> = LazyLock::new(|| Dialect::from_name(&std::env::var("FUZZ_DIALECT").ok()?));
    let (first, rest) = input.split_first()?;
    let dialect = ONLY.unwrap_or(DIALECTS[usize::from(first % 4)]);
    Some((dialect, std::str::from_utf8(rest).ok()?))
}

/// The scanner takes what it need not look at as it is: of what is no JSON only the panic would be wrong.
fn is_json(text: &str) -> bool {
    serde_json::from_str::<&RawValue>(text).is_ok()
}

/// A request: a byte for its dialect, and its body.
pub fn translate_request(input: &[u8]) {
    let Some((from, body)) = dialect_and_text(input) else { return };
    let Ok(request) = translate::decode_request(from, body) else { return };
    let was_json = is_json(body);
    let capabilities = Capabilities::new();
    for to in DIALECTS {
        for model in [None, Some("\"claude-opus-4-1\""), Some("\"gemini-3-pro\"")] {
            let destination = Destination { model, capabilities: &capabilities, variant: Default::default() };
            let written = translate::encode_request(to, &request, destination, &mut Losses::default());
            if was_json {
                let written = String::from_utf8(written).unwrap_or_default();
                assert!(is_json(&written), "{from:?} to {to:?}: no JSON: {written}");
                assert!(translate::decode_request(to, &written).is_ok(), "{from:?} to {to:?}: {written}");
            }
        }
    }
}

/// An answer in one piece: a byte for its dialect, and its body.
pub fn translate_answer(input: &[u8]) {
    let Some((from, body)) = dialect_and_text(input) else { return };
    let Ok(mut answer) = translate::decode_answer(from, body) else { return };
    let was_json = is_json(body);
    for to in DIALECTS {
        let written = translate::encode_answer(to, &answer, &mut Losses::default());
        let stream = translate::as_stream(&answer, to, true);
        if was_json {
            let written = String::from_utf8(written).unwrap_or_default();
            assert!(is_json(&written), "{from:?} to {to:?}: no JSON: {written}");
            assert!(translate::decode_answer(to, &written).is_ok(), "{from:?} to {to:?}: {written}");
            assert_whole(to, &stream);
        }
    }
    Stops::new(&[Text::escaped("a"), Text::escaped("\\n")]).cut(&mut answer);
}

/// A stream: a byte for both its dialects, and its events. That it may come in any frames is for the other targets.
pub fn translate_stream(input: &[u8]) {
    let Some((from, text)) = dialect_and_text(input) else { return };
    let to = DIALECTS[usize::from(input[0] / 4 % 4)];
    let stops = (input[0] & 16 != 0).then(|| Stops::new(&[Text::escaped("a"), Text::escaped("STOP")]));
    let (mut translator, mut out) = (StreamTranslator::new(from, to, true).with_stops(stops, 0), Vec::new());
    let (mut decoder, mut collector) = (Decoder::new(from), Collector::new(from));
    let mut were_json = true;
    for (data, _) in EventStream::default().events(text.as_bytes()) {
        were_json &= std::str::from_utf8(&data).is_ok_and(|data| data.starts_with('[') || is_json(data));
        // It panics where the events are in no order.
        let told = std::str::from_utf8(&data).map(|data| decoder.event(data, &mut |event| collector.event(event)));
        if !matches!(told, Ok(Ok(()))) || translator.event(&data, &mut out).is_err() {
            return;
        }
    }
    decoder.end(&mut |event: Event<'_>| collector.event(event));
    translator.end(&mut out);
    if were_json && collector.done {
        assert_whole(to, &out);
    }
}

/// Whether a stream of ours can be read to its end.
fn assert_whole(dialect: Dialect, stream: &[u8]) {
    let (mut decoder, mut collector) = (Decoder::new(dialect), Collector::new(dialect));
    for (data, _) in EventStream::default().events(stream) {
        let data = String::from_utf8_lossy(&data);
        assert!(data == "[DONE]" || is_json(&data), "{dialect:?}: no JSON: {data}");
        let told = decoder.event(&data, &mut |event| collector.event(event));
        assert!(told.is_ok(), "{dialect:?}: {data}");
    }
    decoder.end(&mut |event| collector.event(event));
    assert!(collector.done, "{dialect:?} without an end: {}", String::from_utf8_lossy(stream));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_of_the_fuzzer_pass() {
        type Target = fn(&[u8]);
        let targets: [(&str, Target); 3] = [
            ("translate_request", translate_request),
            ("translate_answer", translate_answer),
            ("translate_stream", translate_stream),
        ];
        for (folder, run) in targets {
            let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(folder);
            // Not in the published package.
            for seed in std::fs::read_dir(folder).into_iter().flatten() {
                run(&std::fs::read(seed.unwrap().path()).unwrap());
            }
        }
    }
}
