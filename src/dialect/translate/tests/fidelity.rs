//! What each dialect can tell of each other, feature by feature: `docs/translation.md`, made by translating one of each.

use std::fmt::Write as _;

use serde_json::Value as Json;

use super::{
    essence::*,
    features::{answers, merge, plain_answer, plain_request, requests},
    *,
};
use crate::{
    Feature,
    dialect::canonical::{KNOWN_MEMBERS, MEANINGS, collect::Collector},
};

fn title(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::OpenAiChat => "OpenAI Chat",
        Dialect::OpenAiResponses => "OpenAI Responses",
        Dialect::AnthropicMessages => "Anthropic Messages",
        Dialect::Gemini => "Gemini",
    }
}

/// What becomes of a request.
fn fate_of_request(from: Dialect, to: Dialect, body: &Json) -> String {
    let path = match from {
        Dialect::Gemini => "/v1beta/models/m:generateContent",
        _ => "",
    };
    let text = body.to_string();
    let needs = refused(from, to, path, &text);
    if !needs.is_empty() {
        return format!("refused: `{}`", needs.join("`, `"));
    }
    let mut request = decoded(from, &text, false);
    let was = of_request(&request);
    // What the target does not look out for, we do.
    let most = most_stops(to).min(request.stop.len());
    let stops = request.stop.split_off(most);
    let openai = Variant::from_name("openai").unwrap();
    let (there, losses) = encoded_for(openai, &request, to);
    if !losses.is_empty() {
        return format!("lost: `{}`", losses.join("`, `"));
    }
    let is = of_request(&decoded(to, &there, false));
    if !stops.is_empty() {
        return "mapped".to_owned();
    }
    let wrong = unexplained(&was, &is, &losses);
    assert!(wrong.is_none(), "{from:?} to {to:?}: {}\n{body}", wrong.unwrap());
    let added = |name: &&&str| *name == &"max_output_tokens" && !was.contains_key("max_output_tokens");
    let same = was.keys().chain(is.keys()).filter(|name| !added(name)).all(|name| was.get(name) == is.get(name));
    if same { "kept" } else { "mapped" }.to_owned()
}

/// What becomes of an answer.
fn fate_of_answer(from: Dialect, to: Dialect, body: &Json) -> String {
    let text = body.to_string();
    let answer = decode_answer(from, &text).unwrap();
    let mut losses = Losses::default();
    let there = String::from_utf8(encode_answer(to, &answer, &mut losses)).unwrap();
    let is = decode_answer(to, &there).unwrap();
    let losses = names(&losses);
    let wrong = differs(&of_answer(&answer), &of_answer(&is), &losses);
    assert!(wrong.is_none(), "{from:?} to {to:?}: {}\n{body}", wrong.unwrap());
    as_a_stream(from, to, &answer, &losses);
    if !losses.is_empty() {
        return format!("lost: `{}`", losses.join("`, `"));
    }
    let kinds = |answer: &Answer<'_>| {
        answer.parts.iter().map(|part| matches!(part, canonical::Part::Refusal(_))).collect::<Vec<_>>()
    };
    let reasoning = |answer: &Answer<'_>| answer.usage.map(|usage| usage.reasoning);
    let same = kinds(&answer) == kinds(&is) && reasoning(&answer) == reasoning(&is) && answer.finish == is.finish;
    if same { "kept" } else { "mapped" }.to_owned()
}

/// What a stream of that answer tells is the same, but for what no stream of its dialect has.
fn as_a_stream(from: Dialect, to: Dialect, answer: &Answer<'_>, losses: &[&str]) {
    let stream = as_stream(answer, from, true);
    let mut collector = Collector::new(from);
    let mut decoder = Decoder::new(from);
    let (mut translator, mut out) = (StreamTranslator::new(from, to, true), Vec::new());
    for data in data_of([&*stream]) {
        decoder.event(&data, &mut |event| collector.event(event)).unwrap();
        translator.event(data.as_bytes(), &mut out).unwrap();
    }
    decoder.end(&mut |event| collector.event(event));
    translator.end(&mut out);
    let was = collector.answer();
    let (mut decoder, mut collector) = (Decoder::new(to), Collector::new(to));
    for data in data_of([&*out]) {
        decoder.event(&data, &mut |event| collector.event(event)).unwrap();
    }
    decoder.end(&mut |event| collector.event(event));
    assert!(collector.done, "{from:?} to {to:?}");
    let told = names(translator.losses());
    let wrong = differs(&of_answer(&was), &of_answer(&collector.answer()), &told);
    assert!(wrong.is_none(), "{from:?} to {to:?} as a stream: {}", wrong.unwrap());
    // A call in a stream of ours in Gemini's words bears a signature that says that it has none.
    let made_up = |name: &str| from == Dialect::Gemini && name == "reasoning signature";
    let news: Vec<_> = told.iter().filter(|name| !losses.contains(name) && !made_up(name)).collect();
    assert!(news.is_empty(), "{from:?} to {to:?} as a stream loses {news:?} too; whole: {losses:?}");
}

type Features = Vec<(&'static str, [Json; 4])>;

fn table(
    text: &mut String,
    features: &Features,
    whole: fn(Dialect) -> Json,
    fate: fn(Dialect, Dialect, &Json) -> String,
    of: impl Fn(Dialect) -> String,
) {
    for (at, from) in DIALECTS.into_iter().enumerate() {
        let others = || DIALECTS.into_iter().filter(move |to| *to != from);
        for to in others() {
            assert_eq!(fate(from, to, &whole(from)), "kept", "{from:?} to {to:?} of what is plain");
        }
        let titles: Vec<_> = others().map(|to| format!("to {}", title(to))).collect();
        writeln!(text, "\n### {}\n\n| feature | {} |\n|---|---|---|---|", of(from), titles.join(" | ")).unwrap();
        for (feature, said) in features.iter().filter(|(_, said)| !said[at].is_null()) {
            let mut body = whole(from);
            merge(&mut body, &said[at]);
            let fates: Vec<_> = others().map(|to| fate(from, to, &body)).collect();
            writeln!(text, "| {feature} | {} |", fates.join(" | ")).unwrap();
        }
    }
}

fn documented() -> String {
    let mut text = String::from(
        "# What a translation keeps\n\n\
         A client's request that goes to a provider of another dialect is translated, and the answer back. The tables below say\n\
         what becomes of each feature that a dialect has; they are made by translating one of each, so they are what the code does.\n\n\
         - **kept**: it is said in the other dialect's own words.\n\
         - **mapped**: it is said in words that come to the same, as far as the other dialect goes.\n\
         - **refused**: a target of that dialect is passed over before anything is sent, because the answer would be another\n  \
           than was asked for. The name is that of the `Feature`; when no target is left, the client is told so.\n\
         - **lost**: it is left out, or changed, and the request is sent. The names are in `Attempt::losses` and in an event of\n  \
           `tracing`; what they mean is said in [the last table](#names-of-losses).\n\n\
         They hold for models that can do what they are asked for (the newest of each provider), and for OpenAI's own server; older\n\
         models and other servers lose more, and that is named as well. Where both speak the same dialect nothing is translated: the bytes pass.\n\n\
         ## Requests\n",
    );
    table(&mut text, &requests(), plain_request, fate_of_request, |from| {
        format!("A request in the dialect of {}", title(from))
    });
    text.push_str("\n## Answers\n\nWhole, and as a stream: the test that makes this table tells each in both ways.\n");
    table(&mut text, &answers(), plain_answer, fate_of_answer, |from| {
        format!("An answer in the dialect of {}", title(from))
    });
    text.push_str("\n## Features that are refused\n\n| name | goes only to |\n|---|---|\n");
    for feature in Feature::ALL {
        let to: Vec<_> = DIALECTS.into_iter().filter(|to| feature.survives_translation_to(*to)).map(title).collect();
        let to = if to.is_empty() { "the client's own dialect".to_owned() } else { to.join(", ") };
        writeln!(text, "| `{feature}` | {to} |").unwrap();
    }
    text.push_str("\n## Names of losses\n\n| name | what was lost |\n|---|---|\n");
    for (name, meaning) in MEANINGS {
        writeln!(text, "| `{name}` | {meaning} |").unwrap();
    }
    let members = KNOWN_MEMBERS.iter().filter(|name| !MEANINGS.iter().any(|(known, _)| known == *name));
    let members: Vec<_> = members.map(|name| format!("`{name}`")).collect();
    writeln!(text, "\nMembers that only one dialect has are lost by their own names: {}.", members.join(", ")).unwrap();
    text
}

/// The table for people. `UPDATE_DOCS=1 cargo test` writes it.
#[test]
fn the_documented_fidelity_is_what_translations_do() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/translation.md");
    let documented = documented();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &documented).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default().replace("\r\n", "\n");
    assert!(found == documented, "docs/translation.md is not what translations do: UPDATE_DOCS=1 cargo test writes it");
}
