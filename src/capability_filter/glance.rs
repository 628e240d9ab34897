//! Whether a target surely suffices, by what costs little to see. Most requests are short and use nothing that models lack:
//! to derive what they need, every character of them would be weighed.

use crate::{RequestContext, RequestOutline, Target};

/// Whether the target, which speaks the client's dialect, offers all that the request needs. No is no answer: then the needs are to be
/// derived and compared.
pub(super) fn suffices(request: &RequestContext, target: &Target) -> bool {
    if request.has_derived_requirements() || request.continuation().is_some() {
        return false;
    }
    let Some(outline) = request.outline() else { return false };
    request
        .asked()
        .is_none_or(|asked| asked.input_tokens == 0 && asked.check(target.capabilities(), target.tags()).is_ok())
        && covers(target, outline)
}

fn covers(target: &Target, outline: &RequestOutline) -> bool {
    let offered = target.capabilities();
    if let Some(most) = offered.max_output_tokens() {
        if outline.max_output().is_some_and(|wanted| wanted > most) {
            return false;
        }
    }
    // The words are looked for last.
    offered.context_window().is_none_or(|window| outline.surely_fits(window))
        && !offered.lacks().iter().any(|ability| outline.may_need(ability))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        Ability, Capabilities, Dialect, Provider, Requirements,
        dialect::{self, recorded},
    };

    fn context(dialect: Dialect, path: &str, body: &str) -> RequestContext {
        let outline = dialect::outline(dialect, path, &Bytes::copy_from_slice(body.as_bytes())).unwrap();
        RequestContext::new().with_dialect(dialect).with_outline(outline.unwrap())
    }

    fn target(dialect: Dialect, capabilities: Capabilities) -> Target {
        let provider = Provider::new("p", dialect, "http://localhost").unwrap();
        Target::new(&provider, "m").with_capabilities(capabilities)
    }

    fn offers() -> Vec<Capabilities> {
        let abilities = Ability::ALL.iter().map(|ability| Capabilities::new().without(*ability));
        let windows = [10, 100, 1_000, 10_000].map(|tokens| Capabilities::new().with_context_window(tokens));
        let outputs = [10, 100, 1_000].map(|tokens| Capabilities::new().with_max_output_tokens(tokens));
        abilities.chain(windows).chain(outputs).collect()
    }

    /// How many of the offers a glance finds enough. None of them may lack anything.
    fn enough(dialect: Dialect, path: &str, body: &str) -> usize {
        let enough = offers().into_iter().filter(|offered| {
            let (context, target) = (context(dialect, path, body), target(dialect, offered.clone()));
            let suffices = suffices(&context, &target);
            let close = context.requirements().unwrap().check_target(&target, Some(dialect));
            assert!(!suffices || close.is_ok(), "{dialect} {offered:?} {}: {body}", close.unwrap_err());
            suffices
        });
        enough.count()
    }

    #[test]
    fn what_a_glance_finds_enough_is_enough_on_a_closer_look() {
        for dialect in Dialect::ALL {
            let folder = if *dialect == Dialect::Gemini { "gemini-generate" } else { dialect.name() };
            for exchange in recorded::exchanges(folder) {
                exchange.request.iter().for_each(|request| {
                    enough(*dialect, &exchange.path, &request.to_string());
                });
            }
        }
        let image = json!({"type": "image_url"});
        let images = json!({"messages": [{"role": "user", "content": vec![image; 100]}]});
        assert!(enough(Dialect::OpenAiChat, "/v1/chat/completions", &images.to_string()) < offers().len());
    }

    #[test]
    fn a_plain_request_needs_no_closer_look() {
        let plain = |body: Value| body.to_string();
        for (dialect, path, body) in [
            (
                Dialect::OpenAiChat,
                "/v1/chat/completions",
                plain(
                    json!({"messages": [{"role": "user", "content": "An \"image_url\", a \"file\"."}], "max_tokens": 9}),
                ),
            ),
            (Dialect::OpenAiResponses, "/v1/responses", plain(json!({"input": "What is an input_file?"}))),
            (
                Dialect::AnthropicMessages,
                "/v1/messages",
                plain(json!({"max_tokens": 9, "messages": [
                    {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"},
                ]})),
            ),
            (
                Dialect::Gemini,
                "/v1beta/models/m:generateContent",
                plain(json!({"contents": [{"parts": [{"text": "?"}]}]})),
            ),
        ] {
            // But for windows of fewer tokens than there are bytes.
            let bytes = body.len();
            let small = [10, 100].iter().filter(|window| bytes >= **window).count();
            assert_eq!(enough(dialect, path, &body), offers().len() - small, "{body}");
        }
    }

    #[test]
    fn what_is_asked_beside_the_body_is_compared() {
        let asked = |tag: &str| Requirements { tags: [tag.into()].into(), ..Requirements::default() };
        let request = || context(Dialect::OpenAiChat, "/v1/chat/completions", r#"{"messages":[]}"#);
        let target = target(Dialect::OpenAiChat, Capabilities::new().with_context_window(1_000)).with_tags(["eu"]);
        assert!(suffices(&request().with_requirements(asked("eu")), &target));
        assert!(!suffices(&request().with_requirements(asked("us")), &target));
        let long = Requirements { input_tokens: 2_000, ..Requirements::default() };
        assert!(!suffices(&request().with_requirements(long), &target));
        assert!(!suffices(&RequestContext::new(), &target), "nothing is known of it");
    }
}
