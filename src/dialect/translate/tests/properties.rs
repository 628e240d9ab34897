//! Whatever a conversation says, and whatever the answer.

use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::{Value as Json, json};

use super::{essence::*, *};
use crate::{
    Usage,
    dialect::canonical::{
        Block, Call, Effort, Finish, Format, Media, MediaKind, Part, Raw, Reasoning, Role, Source, Text, Thought, Tool,
        ToolChoice, ToolResult, Turn,
    },
};

/// What text is made of: anything, and more often what has to be escaped, or is not as wide as it looks.
fn plain() -> impl Strategy<Value = String> {
    let special = select(vec![
        "\"",
        "\\",
        "\\u0041",
        "\n",
        "\r\n",
        "\t",
        "\0",
        "\u{1b}",
        "é",
        "👩‍👩‍👧",
        "\u{2028}",
        "</s>",
        "{}",
        "data: ",
        "\u{feff}",
    ]);
    let piece = prop_oneof![any::<char>().prop_map(String::from), special.prop_map(String::from), "[a-z ]{1,8}"];
    vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

/// The same text with or without escapes that it does not need.
fn text() -> impl Strategy<Value = Text<'static>> {
    (plain(), any::<bool>()).prop_map(|(text, escaped)| match escaped {
        true => Text::escaped(text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect::<String>()),
        false => Text::plain(&text),
    })
}

/// One that says something.
fn words() -> impl Strategy<Value = Text<'static>> {
    text().prop_filter("blank", |text| !text.decoded().trim().is_empty())
}

fn name() -> impl Strategy<Value = Text<'static>> {
    "[a-zA-Z_][a-zA-Z0-9_-]{0,20}".prop_map(Text::escaped)
}

fn value() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        (-1e9..1e9).prop_map(Json::from),
        plain().prop_map(Json::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Json::from),
            vec((plain(), inner), 0..4).prop_map(|members| members.into_iter().collect()),
        ]
    })
}

fn object() -> impl Strategy<Value = Raw<'static>> {
    // Models like to write it in several lines.
    (vec((plain(), value()), 0..4), any::<bool>()).prop_map(|(members, pretty)| {
        let json: Json = members.into_iter().collect();
        Raw::new(if pretty { serde_json::to_string_pretty(&json).unwrap() } else { json.to_string() })
    })
}

fn schema() -> impl Strategy<Value = Raw<'static>> {
    vec(("[a-z]{1,6}", select(vec!["string", "integer", "boolean"]), plain()), 0..4).prop_map(|members| {
        let names: std::collections::BTreeSet<_> = members.iter().map(|(name, ..)| name.clone()).collect();
        let properties: Json =
            members.into_iter().map(|(name, kind, said)| (name, json!({"type": kind, "description": said}))).collect();
        let schema =
            json!({"type": "object", "properties": properties, "required": names, "additionalProperties": false});
        Raw::new(schema.to_string())
    })
}

fn image() -> impl Strategy<Value = Part<'static>> {
    let inline = select(vec!["image/png", "image/jpeg", "image/webp"]).prop_map(|media_type| Source::Inline {
        media_type: Text::escaped(media_type),
        data: Text::escaped("iVBORw0KGgo="),
    });
    let url = "[a-z]{1,9}".prop_map(|name| Source::Url {
        url: Text::escaped(format!("https://example.org/{name}.png")),
        media_type: None,
    });
    prop_oneof![inline, url].prop_map(|source| {
        Part::Media(Media { kind: MediaKind::Image, source, name: None, extras: Default::default() })
    })
}

fn document() -> impl Strategy<Value = Part<'static>> {
    option::of("[a-z]{1,9}\\.pdf").prop_map(|name| {
        Part::Media(Media {
            kind: MediaKind::Document,
            source: Source::Inline { media_type: Text::escaped("application/pdf"), data: Text::escaped("JVBERi0=") },
            name: name.map(Text::escaped),
            extras: Default::default(),
        })
    })
}

fn thought() -> impl Strategy<Value = Part<'static>> {
    (text(), option::of("[a-zA-Z0-9+/]{8}".prop_map(Text::escaped)))
        .prop_map(|(text, signature)| Part::Thought(Thought { text, signature, native: None }))
}

fn call() -> impl Strategy<Value = Call<'static>> {
    // Told apart from others by what comes later.
    (name(), object()).prop_map(|(name, arguments)| Call {
        id: Text::default(),
        name,
        arguments,
        signature: None,
        extras: Default::default(),
    })
}

/// What a tool gives.
fn given() -> impl Strategy<Value = (Vec<Part<'static>>, bool)> {
    let said =
        prop_oneof![words().prop_map(Part::text), object().prop_map(|raw| Part::text(Text::plain(raw.as_str())))];
    (said, option::of(image()), any::<bool>()).prop_map(|(said, image, is_error)| {
        let image = image.filter(|_| !is_error);
        (std::iter::once(said).chain(image).collect(), is_error)
    })
}

type Round = (Vec<Part<'static>>, Vec<Part<'static>>, Vec<(Call<'static>, (Vec<Part<'static>>, bool))>, bool);

/// What the user says, what the model does, and what the tools give, perhaps in another order.
fn round() -> impl Strategy<Value = Round> {
    let asked = vec(prop_oneof![4 => words().prop_map(Part::text), 1 => image(), 1 => document()], 1..4);
    let said = vec(prop_oneof![4 => words().prop_map(Part::text), 1 => thought()], 0..3);
    (asked, said, vec((call(), given()), 0..4), any::<bool>())
}

fn conversation() -> impl Strategy<Value = Vec<Turn<'static>>> {
    let systems = vec((select(vec![Role::System, Role::Developer]), words()), 0..3);
    (systems, vec(round(), 0..4), words(), any::<bool>()).prop_map(|(systems, rounds, last, odd_ids)| {
        let mut turns: Vec<_> = systems.into_iter().map(|(role, text)| Turn::text(role, text)).collect();
        let mut calls = 0;
        for (asked, said, called, reversed) in rounds {
            turns.push(Turn { parts: asked, ..Turn::new(Role::User) });
            let (mut parts, mut results) = (said, Vec::new());
            for (mut call, (given, is_error)) in called {
                calls += 1;
                let odd = if odd_ids { " / é" } else { "" };
                call.id = Text::escaped(format!("call_{calls}{odd}"));
                results.push(Part::Result(ToolResult {
                    id: call.id.clone(),
                    name: None,
                    parts: given,
                    bare: false,
                    is_error,
                    extras: Default::default(),
                }));
                parts.push(Part::Call(call));
            }
            if reversed {
                results.reverse();
            }
            turns.extend((!parts.is_empty()).then(|| Turn { parts, ..Turn::new(Role::Assistant) }));
            turns.extend((!results.is_empty()).then(|| Turn { parts: results, ..Turn::new(Role::User) }));
        }
        turns.push(Turn::text(Role::User, last));
        turns
    })
}

fn tools() -> impl Strategy<Value = Vec<Tool<'static>>> {
    let tool = (name(), option::of(words()), option::of(schema()), option::of(any::<bool>()));
    vec(tool, 0..4).prop_map(|tools| {
        let tool =
            |(number, (name, description, parameters, strict)): (usize, (Text<'static>, _, _, _))| Tool::Function {
                name: Text::escaped(format!("{}_{number}", name.as_escaped())),
                description,
                parameters,
                strict,
                extras: Default::default(),
                outer: Default::default(),
            };
        tools.into_iter().enumerate().map(tool).collect()
    })
}

/// What is not said turn by turn.
fn settings() -> impl Strategy<Value = Request<'static>> {
    let number = |range: std::ops::Range<f64>| option::of(range.prop_map(|number| Raw::new(format!("{number:.2}"))));
    let format = prop_oneof![
        3 => Just(None),
        1 => Just(Some(Format::Text)),
        1 => Just(Some(Format::Json)),
        2 => (schema(), option::of(name()), option::of(words()), option::of(any::<bool>()))
            .prop_map(|(schema, name, description, strict)| Some(Format::Schema { name, description, schema, strict })),
    ];
    let reasoning = (
        option::of(select(vec![Effort::None, Effort::Minimal, Effort::Low, Effort::Medium, Effort::High])),
        option::of(1024_u64..20000),
        option::of(any::<bool>()),
    );
    let reasoning = option::of(reasoning.prop_map(|(effort, budget, told)| Reasoning {
        effort,
        budget: budget.filter(|_| effort.is_none()),
        told,
    }));
    let choice = prop_oneof![
        Just(None),
        Just(Some(ToolChoice::Auto)),
        Just(Some(ToolChoice::None)),
        Just(Some(ToolChoice::Required)),
        (0_usize..4).prop_map(|_| Some(ToolChoice::Tool(Text::default()))),
        any::<bool>().prop_map(|required| Some(ToolChoice::Among { required, names: Vec::new() })),
    ];
    let sampling = (number(0.0..2.0), number(0.0..1.0), option::of((1_u64..100).prop_map(|k| Raw::new(k.to_string()))));
    let penalties =
        (number(-2.0..2.0), number(-2.0..2.0), option::of(any::<i64>().prop_map(|seed| Raw::new(seed.to_string()))));
    let words = (option::of(words()), option::of(select(vec!["auto", "default", "flex", "priority"])), any::<bool>());
    let limits = (option::of(1_u64..40000), vec(self::words(), 0..4), option::of(any::<bool>()));
    (format, reasoning, choice, sampling, penalties, words, limits).prop_map(
        |(format, reasoning, tool_choice, sampling, penalties, words, limits)| {
            let mut request = Request::new(Dialect::OpenAiChat);
            (request.format, request.reasoning, request.tool_choice) = (format, reasoning, tool_choice);
            (request.temperature, request.top_p, request.top_k) = sampling;
            (request.frequency_penalty, request.presence_penalty, request.seed) = penalties;
            (request.user, request.service_tier, request.stream) = (words.0, words.1.map(Text::escaped), words.2);
            (request.max_output_tokens, request.stop, request.parallel_tool_calls) = limits;
            request
        },
    )
}

fn request() -> impl Strategy<Value = Request<'static>> {
    (settings(), conversation(), tools()).prop_map(|(mut request, turns, tools)| {
        let names: Vec<_> = tools
            .iter()
            .filter_map(|tool| match tool {
                Tool::Function { name, .. } => Some(name.clone()),
                Tool::Native(_) => None,
            })
            .collect();
        match (&mut request.tool_choice, names.first()) {
            (choice, None) => *choice = None,
            (Some(ToolChoice::Tool(name)), Some(first)) => name.clone_from(first),
            (Some(ToolChoice::Among { names: among, .. }), Some(_)) => {
                *among = names[..names.len().div_ceil(2)].to_vec()
            }
            _ => {}
        }
        (request.turns, request.tools) = (turns, tools);
        request
    })
}

fn usage() -> impl Strategy<Value = Usage> {
    (0_u64..1 << 40, 0_u64..1000, 0_u64..1000, 0_u64..1 << 40, 0_u64..1000).prop_map(
        |(fresh, cached_input, cache_write_input, said, reasoning)| Usage {
            input: fresh + cached_input + cache_write_input,
            cached_input,
            cache_write_input,
            output: said + reasoning,
            reasoning,
            ..Usage::default()
        },
    )
}

fn answer() -> impl Strategy<Value = Answer<'static>> {
    let part = prop_oneof![3 => text().prop_map(Part::text), 1 => thought(), 2 => call().prop_map(Part::Call)];
    let finish = prop_oneof![
        Just(Finish::Stop),
        Just(Finish::Length),
        Just(Finish::ContentFilter),
        words().prop_map(Finish::StopSequence),
    ];
    let head = (option::of("[a-z0-9_-]{1,20}"), option::of(words()));
    // Whoever declines has said what there was to say.
    let refusal = option::weighted(0.2, words().prop_map(Part::Refusal));
    (vec(part, 0..6), refusal, finish, option::of(usage()), head, any::<bool>()).prop_map(
        |(parts, refusal, finish, usage, (id, model), named)| {
            let mut answer = Answer::new(Dialect::OpenAiChat);
            (answer.parts, answer.finish, answer.usage) = (parts, finish, usage);
            (answer.id, answer.model, answer.created) = (id.map(Text::escaped), model, Some(1_700_000_000));
            let mut calls = 0;
            for part in &mut answer.parts {
                if let Part::Call(call) = part {
                    calls += 1;
                    call.id = if named { Text::escaped(format!("call_{calls}")) } else { Text::default() };
                }
            }
            if calls > 0 && answer.finish != Finish::Length {
                answer.finish = Finish::ToolCalls;
            } else {
                answer.parts.extend(refusal);
            }
            answer
        },
    )
}

/// Tells an answer in pieces of so many characters.
fn tell_in_pieces(answer: &Answer<'_>, size: usize, sink: &mut dyn FnMut(Event<'_>)) {
    answer.replay(&mut |event| match event {
        Event::Delta(text) => {
            let whole: Vec<char> = text.decoded().chars().collect();
            whole.chunks(size).for_each(|piece| sink(Event::Delta(Text::plain(&piece.iter().collect::<String>()))));
        }
        event => sink(event),
    });
}

/// Those that an answer made in another dialect may be for.
fn pairs() -> impl Iterator<Item = (Dialect, Dialect)> {
    DIALECTS.into_iter().flat_map(|from| DIALECTS.into_iter().filter(move |to| *to != from).map(move |to| (from, to)))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_request_says_the_same_in_any_dialect(mut request in request()) {
        for (from, to) in pairs() {
            request.dialect = from;
            let (there, losses) = encoded(&request, to);
            let arrived = decoded(to, &there, request.stream);
            let wrong = unexplained(&of_request(&request), &of_request(&arrived), &losses);
            prop_assert!(wrong.is_none(), "{from:?} to {to:?}: {}\n{there}", wrong.unwrap());
        }
    }

    #[test]
    fn any_answer_says_the_same_in_any_dialect(mut answer in answer()) {
        for (from, to) in pairs() {
            answer.dialect = from;
            let mut losses = Losses::default();
            let there = String::from_utf8(encode_answer(to, &answer, &mut losses)).unwrap();
            let arrived = decode_answer(to, &there).unwrap();
            let wrong = differs(&of_answer(&answer), &of_answer(&arrived), &names(&losses));
            prop_assert!(wrong.is_none(), "{from:?} to {to:?}: {}\n{there}", wrong.unwrap());
        }
    }

    #[test]
    fn any_answer_is_told_in_any_grammar_whatever_its_pieces_and_frames(
        answer in answer(), size in 1_usize..9, lengths in vec(1_usize..60, 1..9),
    ) {
        for to in DIALECTS {
            let (mut encoder, mut losses, mut out) = (Encoder::new(to, true), Losses::default(), Vec::new());
            tell_in_pieces(&answer, size, &mut |event| encoder.event(&event, &mut losses, &mut out));
            let stream = String::from_utf8(out).unwrap();
            let kept = grammar(to, &stream);
            prop_assert!(kept.is_ok(), "{to:?}: {}\n{stream}", kept.unwrap_err());
            let (mut frames, mut rest, mut lengths) = (Vec::new(), stream.as_bytes(), lengths.iter().cycle());
            while !rest.is_empty() {
                let (frame, behind) = rest.split_at(rest.len().min(*lengths.next().unwrap()));
                frames.push(frame);
                rest = behind;
            }
            let whole = data_of([stream.as_bytes()]);
            prop_assert_eq!(&data_of(frames), &whole);
            let arrived = told(to, &whole).expect("all of the answer");
            let wrong = differs(&of_answer(&answer), &of_answer(&arrived), &names(&losses));
            prop_assert!(wrong.is_none(), "{to:?}: {}\n{stream}", wrong.unwrap());
        }
    }
}

/// What the canonical form's blocks are told as, however many: the generator above makes all of them.
#[test]
fn the_generator_makes_every_kind_of_block() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut kinds = std::collections::BTreeSet::new();
    for _ in 0..200 {
        let answer = answer().new_tree(&mut runner).unwrap();
        proptest::strategy::ValueTree::current(&answer).replay(&mut |event| {
            if let Event::Begin(block) = event {
                kinds.insert(match block {
                    Block::Text => "text",
                    Block::Refusal => "refusal",
                    Block::Thought => "thought",
                    Block::Call { .. } => "call",
                    Block::Native(_) => "native",
                });
            }
        });
    }
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), ["call", "refusal", "text", "thought"]);
}
