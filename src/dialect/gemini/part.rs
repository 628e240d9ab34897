//! The parts of a content, in requests and answers.

use std::borrow::Cow;

use super::names::{camel, each, keep_in, member, members, write_kept, write_own};
use crate::dialect::{
    canonical::{Call, Extras, Media, MediaKind, Part, Raw, Source, Text, Thought, ToolResult},
    json_scan::Value,
    json_write::{Array, Object},
};

/// What a functionCall says instead of a signature when another's model made the call: Google's servers let it pass. (The
/// base64 form of the documented `skip_thought_signature_validator`, as signatures are bytes.)
pub(super) const NO_SIGNATURE: &str = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I=";

/// How ids begin that are made up here, for calls that have none.
pub(super) const MADE_UP: &str = "gemini_call_";

pub(super) fn is_made_up(id: &Text<'_>) -> bool {
    id.as_escaped().starts_with(MADE_UP)
}

/// A part of a content.
pub(super) fn decode<'a>(value: &Value<'a>) -> Part<'a> {
    read(value).or_else(|| Raw::of(value).map(Part::Native)).unwrap_or_else(|| Part::text(Text::default()))
}

fn read<'a>(value: &Value<'a>) -> Option<Part<'a>> {
    let (mut thought, mut signature, mut content) = (false, None, None);
    let mut extras = Extras::default();
    for (key, member) in value.members().filter_map(Result::ok) {
        let key = camel(key);
        match &*key {
            "thought" => thought = member.is_true(),
            "thoughtSignature" if member.is_string() => signature = Some(member),
            "text" | "inlineData" | "fileData" | "functionCall" | "functionResponse" if content.is_none() => {
                content = Some((key, member));
            }
            _ => extras.keep(key, &member),
        }
    }
    let (kind, content) = content?;
    let signed = signature.as_ref().and_then(Text::of);
    match &*kind {
        "text" => {
            let text = Text::of(&content)?;
            // A signature of its own, without text, says no more than a thought that is not shown.
            if thought || (text.is_empty() && signed.is_some()) {
                let native = if extras.is_empty() && thought { None } else { Raw::of(value) };
                return Some(Part::Thought(Thought { text, signature: signed, native }));
            }
            signature.iter().for_each(|value| extras.keep(Cow::Borrowed("thoughtSignature"), value));
            Some(Part::Text { text, extras })
        }
        // A picture that is a draft of the answer: nothing that another dialect has.
        _ if thought => None,
        "functionCall" => call(&content, signed, extras),
        "functionResponse" => result(&content, extras),
        kind => {
            signature.iter().for_each(|value| extras.keep(Cow::Borrowed("thoughtSignature"), value));
            media(kind, &content, extras)
        }
    }
}

fn media<'a>(kind: &str, content: &Value<'a>, mut extras: Extras<'a>) -> Option<Part<'a>> {
    let (mut media_type, mut data, mut url, mut name) = (None, None, None, None);
    for (key, value) in members(content) {
        match &*key {
            "mimeType" => media_type = Text::of(&value),
            "data" => data = Text::of(&value),
            "fileUri" => url = Text::of(&value),
            "displayName" => name = Text::of(&value),
            _ => keep_in(&mut extras, kind, &key, &value),
        }
    }
    if kind == "inlineData" {
        let media_type = media_type?;
        let kind = media_kind(&media_type.decoded());
        return Some(Part::Media(Media { kind, source: Source::Inline { media_type, data: data? }, name, extras }));
    }
    let url = url?;
    let mime =
        media_type.as_ref().map_or_else(|| mime_of(&url.decoded()).map(Cow::Borrowed), |mime| Some(mime.decoded()));
    let kind = mime.map_or(MediaKind::Document, |mime| media_kind(&mime));
    let source = match is_public(&url.decoded()) {
        true => Source::Url { url, media_type },
        false => Source::File(Raw::of(content)?),
    };
    Some(Part::Media(Media { kind, source, name, extras }))
}

/// Whether anyone can fetch what is there: not what was given to Google to keep, nor what only it shows.
pub(super) fn is_public(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")) else { return false };
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    let is_given = host.ends_with(".googleapis.com") && rest.contains("/files/");
    let is_shown = ["youtube.com", "www.youtube.com", "youtu.be"].contains(&host);
    !is_given && !is_shown
}

pub(super) fn media_kind(mime: &str) -> MediaKind {
    match mime.split('/').next() {
        Some("image") => MediaKind::Image,
        Some("audio") => MediaKind::Audio,
        Some("video") => MediaKind::Video,
        _ => MediaKind::Document,
    }
}

/// What is probably there, by the ending of its path.
pub(super) fn mime_of(url: &str) -> Option<&'static str> {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let name = path.rsplit('/').next().unwrap_or_default();
    let ending = name.rsplit_once('.')?.1.to_ascii_lowercase();
    Some(match &*ending {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "gif" => "image/gif",
        "heic" => "image/heic",
        "heif" => "image/heif",
        "bmp" => "image/bmp",
        "avif" => "image/avif",
        "pdf" => "application/pdf",
        "txt" | "md" => "text/plain",
        "html" | "htm" => "text/html",
        "csv" => "text/csv",
        "json" => "application/json",
        "xml" => "text/xml",
        "mp3" => "audio/mp3",
        "wav" => "audio/wav",
        "ogg" | "oga" => "audio/ogg",
        "flac" => "audio/flac",
        "aac" | "m4a" => "audio/aac",
        "mp4" => "video/mp4",
        "mov" => "video/mov",
        "webm" => "video/webm",
        "mpeg" | "mpg" => "video/mpeg",
        _ => return None,
    })
}

fn call<'a>(function: &Value<'a>, signature: Option<Text<'a>>, mut extras: Extras<'a>) -> Option<Part<'a>> {
    let (mut id, mut name, mut arguments) = (Text::default(), None, None);
    for (key, value) in members(function) {
        match &*key {
            "id" if value.is_string() => id = Text::of(&value)?,
            "name" => name = Text::of(&value),
            "args" if !value.is_null() => arguments = Raw::of(&value),
            _ => keep_in(&mut extras, "functionCall", &key, &value),
        }
    }
    let arguments = arguments.unwrap_or_else(|| Raw::new("{}"));
    Some(Part::Call(Call { id, name: name?, arguments, signature, extras }))
}

fn result<'a>(function: &Value<'a>, mut extras: Extras<'a>) -> Option<Part<'a>> {
    let (mut id, mut name, mut media) = (Text::default(), None, Vec::new());
    let (mut text, mut bare, mut is_error) = (None, false, false);
    for (key, value) in members(function) {
        match &*key {
            "id" if value.is_string() => id = Text::of(&value)?,
            "name" => name = Text::of(&value),
            "response" if value.is_object() => {
                let output = sole_member(&value);
                is_error = output.as_ref().is_some_and(|(key, _)| key == "error");
                // By Google's own convention `output` is what the tool said, and `error` what went wrong.
                let said = output.filter(|(key, value)| (key == "output" || key == "error") && value.is_string());
                bare = said.is_some();
                text = match said {
                    Some((_, value)) => Text::of(&value),
                    None => Raw::of(&value).map(|raw| raw.quoted()),
                };
            }
            "parts" => media.extend(each(&value).map(|part| decode(&part))),
            _ => keep_in(&mut extras, "functionResponse", &key, &value),
        }
    }
    let parts = text.map(Part::text).into_iter().chain(media).collect();
    Some(Part::Result(ToolResult { id, name: Some(name?), parts, bare, is_error, extras }))
}

fn sole_member<'a>(object: &Value<'a>) -> Option<(Cow<'a, str>, Value<'a>)> {
    let mut members = object.members().filter_map(Result::ok);
    let first = members.next()?;
    members.next().is_none().then_some(first)
}

/// Writes a part as it was.
pub(super) fn write_own_part(list: &mut Array<'_>, part: &Part<'_>) {
    match part {
        Part::Text { text, extras } => list.object(|object| {
            object.text("text", text);
            write_own(object, extras, &[]);
        }),
        Part::Thought(Thought { native: Some(raw), .. }) | Part::Native(raw) => list.raw(raw),
        Part::Thought(thought) => list.object(|object| {
            write_thought(object, &thought.text);
            object.maybe_text("thoughtSignature", thought.signature.as_ref());
        }),
        Part::Refusal(text) => list.object(|object| object.text("text", text)),
        Part::Media(media) => list.object(|object| {
            match &media.source {
                Source::File(raw) => object.raw("fileData", raw),
                source => write_media(object, source, media.kind, media.name.as_ref(), &media.extras),
            }
            write_own(object, &media.extras, &[]);
        }),
        Part::Call(call) => list.object(|object| {
            object.object("functionCall", |function| {
                if !call.id.is_empty() && !is_made_up(&call.id) {
                    function.text("id", &call.id);
                }
                function.text("name", &call.name);
                function.raw("args", &call.arguments);
                write_kept(function, &call.extras, "functionCall");
            });
            object.maybe_text("thoughtSignature", call.signature.as_ref());
            write_own(object, &call.extras, &[]);
        }),
        Part::Result(result) => list.object(|object| {
            object.object("functionResponse", |function| {
                if !result.id.is_empty() && !is_made_up(&result.id) {
                    function.text("id", &result.id);
                }
                function.maybe_text("name", result.name.as_ref());
                let (text, media) = match &*result.parts {
                    [Part::Text { text, .. }, media @ ..] => (Some(text), media),
                    media => (None, media),
                };
                match text {
                    Some(text) if result.bare => write_output(function, text, result.is_error),
                    Some(text) => function.raw("response", &text.as_json()),
                    None => {}
                }
                if !media.is_empty() {
                    function.array("parts", |parts| media.iter().for_each(|part| write_own_part(parts, part)));
                }
                write_kept(function, &result.extras, "functionResponse");
            });
            write_own(object, &result.extras, &[]);
        }),
    }
}

pub(super) fn write_thought(object: &mut Object<'_>, text: &Text<'_>) {
    object.text("text", text);
    object.bool("thought", true);
}

/// What a tool said, in a response that must be an object.
pub(super) fn write_output(function: &mut Object<'_>, text: &Text<'_>, is_error: bool) {
    let key = if is_error { "error" } else { "output" };
    function.object("response", |response| response.text(key, text));
}

/// Writes the data of a medium that lies with nobody but its sender, or anywhere at all.
pub(super) fn write_media(
    object: &mut Object<'_>,
    source: &Source<'_>,
    kind: MediaKind,
    name: Option<&Text<'_>>,
    extras: &Extras<'_>,
) {
    match source {
        Source::Inline { media_type, data } => object.object("inlineData", |inline| {
            inline.text("mimeType", media_type);
            inline.text("data", data);
            inline.maybe_text("displayName", name);
            write_kept(inline, extras, "inlineData");
        }),
        Source::Url { url, media_type } => object.object("fileData", |file| {
            match media_type {
                Some(media_type) => file.text("mimeType", media_type),
                None => file.string("mimeType", mime_of(&url.decoded()).unwrap_or(usual_mime(kind))),
            }
            file.text("fileUri", url);
            file.maybe_text("displayName", name);
            write_kept(file, extras, "fileData");
        }),
        Source::Text(text) => object.text("text", text),
        Source::File(_) => {}
    }
}

fn usual_mime(kind: MediaKind) -> &'static str {
    match kind {
        MediaKind::Image => "image/jpeg",
        MediaKind::Audio => "audio/mp3",
        MediaKind::Document => "application/pdf",
        MediaKind::Video => "video/mp4",
    }
}

/// The arguments of a call, which are an object here; says whether they were.
pub(super) fn write_arguments(function: &mut Object<'_>, arguments: &Raw<'_>) -> bool {
    let is_object = arguments.is_object();
    match arguments.as_str().trim() {
        _ if is_object => function.raw("args", arguments),
        "" | "null" => function.literal("args", "{}"),
        // What the model got wrong stays there to be seen.
        _ => function.object("args", |args| args.text("arguments", &arguments.quoted())),
    }
    is_object || arguments.as_str().trim().is_empty()
}

/// The text of the parts of a list or object of that name, whatever it is part of.
pub(super) fn parts<'a>(content: &Value<'a>) -> impl Iterator<Item = Value<'a>> + use<'a> {
    member(content, "parts").into_iter().flat_map(|parts| each(&parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(json: &str) -> Part<'_> {
        decode(&Value::whole(json.as_bytes()).unwrap())
    }

    #[test]
    fn media_that_only_google_has_is_a_file() {
        for (uri, public) in [
            ("https://example.org/a.png", true),
            ("https://storage.googleapis.com/bucket/a.png", true),
            ("https://generativelanguage.googleapis.com/v1beta/files/abc", false),
            ("gs://bucket/a.png", false),
            ("https://www.youtube.com/watch?v=x", false),
        ] {
            let json = format!(r#"{{"fileData":{{"fileUri":"{uri}","mimeType":"image/png"}}}}"#);
            let Part::Media(media) = read_text(&json) else { panic!("{uri}") };
            assert_eq!(matches!(media.source, Source::Url { .. }), public, "{uri}");
            assert_eq!(media.kind, MediaKind::Image);
        }
        assert_eq!(mime_of("https://example.org/a.b/c.PNG?x=y.pdf"), Some("image/png"));
        assert_eq!(mime_of("https://example.org/a"), None);
    }

    #[test]
    fn what_a_tool_said_is_text_where_that_is_all() {
        for (response, text, bare, is_error) in [
            (r#"{"output":"a\nb"}"#, "a\nb", true, false),
            (r#"{"error":"no"}"#, "no", true, true),
            (r#"{"error":{"a":1}}"#, r#"{"error":{"a":1}}"#, false, true),
            (r#"{"output":7}"#, r#"{"output":7}"#, false, false),
            (r#"{"result":"x"}"#, r#"{"result":"x"}"#, false, false),
            ("{}", "{}", false, false),
        ] {
            let json = format!(r#"{{"function_response":{{"name":"f","response":{response}}}}}"#);
            let Part::Result(result) = read_text(&json) else { panic!("{response}") };
            let [Part::Text { text: said, .. }] = &*result.parts else { panic!("{response}") };
            assert_eq!((said.decoded().as_ref(), result.bare, result.is_error), (text, bare, is_error));
        }
    }

    #[test]
    fn thoughts_signatures_and_what_nobody_else_knows_are_told_apart() {
        assert!(matches!(
            read_text(r#"{"text":"","thoughtSignature":"s"}"#),
            Part::Thought(Thought { native: Some(_), .. })
        ));
        assert!(matches!(read_text(r#"{"text":"x","thought":true}"#), Part::Thought(Thought { native: None, .. })));
        let Part::Text { extras, .. } = read_text(r#"{"text":"x","thought_signature":"s"}"#) else { panic!() };
        assert_eq!(extras.get("thoughtSignature").unwrap().as_str(), "\"s\"");
        assert!(matches!(read_text(r#"{"executableCode":{"code":"1"}}"#), Part::Native(_)));
        assert!(matches!(read_text("7"), Part::Native(_)));
    }
}
