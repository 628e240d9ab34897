//! Every recorded exchange, to each other dialect and back.

use std::collections::{BTreeMap, BTreeSet};

use super::{essence::*, *};
use crate::dialect::recorded;

/// What was compared, and what was lost on the way.
#[derive(Default)]
struct Report {
    files: BTreeSet<String>,
    passes: usize,
    refused: BTreeMap<&'static str, usize>,
    losses: BTreeMap<&'static str, usize>,
    wrong: Vec<String>,
}

impl Report {
    fn lost(&mut self, names: &[&'static str]) {
        names.iter().for_each(|name| *self.losses.entry(name).or_default() += 1);
    }

    fn compare(&mut self, what: &str, wrong: Option<String>) {
        match wrong {
            None => self.passes += 1,
            Some(wrong) => self.wrong.push(format!("{what}: {wrong}")),
        }
    }

    fn end(self, what: &str, from: Dialect, to: Dialect) {
        let (files, passes) = (self.files.len(), self.passes);
        eprintln!("{what} {from:?} to {to:?} and back: {files} files, {passes} passes, {} wrong", self.wrong.len());
        eprintln!("    lost {:?}, refused {:?}", self.losses, self.refused);
        self.wrong.iter().for_each(|wrong| eprintln!("    WRONG {}", wrong.chars().take(1500).collect::<String>()));
        assert!(self.wrong.is_empty(), "{} {what} from {from:?} to {to:?} are wrong: see above", self.wrong.len());
    }
}

fn pairs() -> impl Iterator<Item = (Dialect, Dialect)> {
    DIALECTS.into_iter().flat_map(|from| DIALECTS.into_iter().filter(move |to| *to != from).map(move |to| (from, to)))
}

fn each_pair(what: &str, compare: impl Fn(Dialect, Dialect, &Exchange, &mut Report)) {
    let reports = pairs().map(|(from, to)| {
        let mut report = Report::default();
        recorded::exchanges(folder(from)).iter().for_each(|exchange| compare(from, to, exchange, &mut report));
        (report, from, to)
    });
    let mut failed = Vec::new();
    for (report, from, to) in reports.collect::<Vec<_>>() {
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| report.end(what, from, to)));
        failed.extend(ended.is_err().then_some((from, to)));
    }
    assert!(failed.is_empty(), "{what}: {failed:?}");
}

/// Whether a recorded body is a request for an answer.
fn asks(dialect: Dialect, exchange: &Exchange) -> bool {
    let Some(body) = &exchange.request else { return false };
    match dialect {
        Dialect::OpenAiChat | Dialect::AnthropicMessages => body.get("messages").is_some(),
        Dialect::OpenAiResponses => body.get("input").is_some(),
        Dialect::Gemini => body.get("contents").is_some(),
    }
}

#[test]
fn recorded_requests_say_the_same_in_any_dialect() {
    each_pair("requests", |from, to, exchange, report| {
        if !asks(from, exchange) {
            return;
        }
        let body = exchange.request.as_ref().unwrap().to_string();
        let stream = from == Dialect::Gemini && gemini::request::streams(&exchange.path);
        let request = decoded(from, &body, stream);
        let (there, mut losses) = encoded(&request, to);
        let (was, arrived) = (of_request(&request), decoded(to, &there, request.stream));
        let needs = refused(from, to, &exchange.path, &body);
        report.files.insert(exchange.file.clone());
        if !needs.is_empty() {
            // Such a request is never sent there.
            needs.into_iter().for_each(|need| *report.refused.entry(need).or_default() += 1);
            return;
        }
        report.lost(&losses);
        let wrong = unexplained(&was, &of_request(&arrived), &losses).map(|wrong| format!("there: {wrong}"));
        let (back, more) = encoded(&arrived, from);
        losses.extend(more);
        let again = decoded(from, &back, request.stream);
        let wrong = wrong.or_else(|| unexplained(&was, &of_request(&again), &losses));
        report.compare(&exchange.file, wrong);
    });
}

#[test]
fn recorded_answers_say_the_same_in_any_dialect() {
    each_pair("answers", |from, to, exchange, report| {
        let Some(body) = exchange.answer.as_ref().filter(|body| exchange.status == 200 && body.is_object()) else {
            return;
        };
        let text = body.to_string();
        if !matches!(crate::dialect::answer(from, text.as_bytes()), crate::dialect::Answer::Whole(_)) {
            return;
        }
        let answer = decode_answer(from, &text).unwrap();
        let was = of_answer(&answer);
        let (mut lost, mut more) = (Losses::default(), Losses::default());
        let there = String::from_utf8(encode_answer(to, &answer, &mut lost)).unwrap();
        assert!(
            matches!(crate::dialect::answer(to, there.as_bytes()), crate::dialect::Answer::Whole(_)),
            "{}: {there}",
            exchange.file
        );
        let arrived = decode_answer(to, &there).unwrap();
        let back = String::from_utf8(encode_answer(from, &arrived, &mut more)).unwrap();
        let again = decode_answer(from, &back).unwrap();
        let mut losses = names(&lost);
        report.lost(&losses);
        report.files.insert(exchange.file.clone());
        let wrong = differs(&was, &of_answer(&arrived), &losses).map(|wrong| format!("there: {wrong}"));
        losses.extend(names(&more));
        let wrong = wrong.or_else(|| differs(&was, &of_answer(&again), &losses));
        // The same told piece by piece.
        let (mut encoder, mut lost, mut out) = (Encoder::new(to, true), Losses::default(), Vec::new());
        answer.replay(&mut |event| encoder.event(&event, &mut lost, &mut out));
        let stream = String::from_utf8(out).unwrap();
        let wrong = wrong.or_else(|| {
            grammar(to, &stream).err().filter(|_| is_sound(&was)).map(|wrong| format!("{wrong}\n{stream}"))
        });
        let streamed = told(to, &data_of([stream.as_bytes()])).expect("all of the answer");
        let losses = names(&lost);
        let wrong =
            wrong.or_else(|| differs(&was, &of_answer(&streamed), &losses).map(|wrong| format!("streamed: {wrong}")));
        report.compare(&exchange.file, wrong);
    });
}

#[test]
fn recorded_streams_say_the_same_in_any_dialect() {
    each_pair("streams", |from, to, exchange, report| {
        for events in streams(from, exchange) {
            let Some(answer) = told(from, &events) else { continue };
            let was = of_answer(&answer);
            report.files.insert(exchange.file.clone());
            let (there, mut losses) = translated(from, to, &events);
            report.lost(&losses);
            let wrong = grammar(to, &there).err().filter(|_| is_sound(&was)).map(|wrong| format!("{wrong}\n{there}"));
            let arrived = data_of([there.as_bytes()]);
            let is = told(to, &arrived).unwrap_or_else(|| panic!("{}: no end: {there}", exchange.file));
            let wrong =
                wrong.or_else(|| differs(&was, &of_answer(&is), &losses).map(|wrong| format!("there: {wrong}")));
            let (back, more) = translated(to, from, &arrived);
            losses.extend(more);
            let wrong = wrong.or_else(|| {
                grammar(from, &back).err().filter(|_| is_sound(&was)).map(|wrong| format!("{wrong}\n{back}"))
            });
            let again = told(from, &data_of([back.as_bytes()])).expect("all of the answer");
            let wrong = wrong.or_else(|| differs(&was, &of_answer(&again), &losses));
            // Whatever its frames.
            let bytes = there.as_bytes();
            let mut random = fastrand::Rng::with_seed(5);
            let mut frames = Vec::new();
            let mut rest = bytes;
            while !rest.is_empty() {
                let (frame, behind) = rest.split_at(random.usize(1..=rest.len().min(200)));
                frames.push(frame);
                rest = behind;
            }
            let wrong = wrong.or_else(|| (data_of(frames) != arrived).then(|| "in other frames".to_owned()));
            report.compare(&exchange.file, wrong);
        }
    });
}

/// What a stream says does not depend on its frames.
#[test]
fn recorded_streams_say_the_same_in_any_frames() {
    let mut random = fastrand::Rng::with_seed(7);
    for dialect in DIALECTS {
        let mut compared = 0;
        for exchange in recorded::exchanges(folder(dialect)).iter().filter(|exchange| exchange.status == 200) {
            let Some(stream) = &exchange.stream else { continue };
            let whole = data_of([stream.as_bytes()]);
            for most in [1, 3, 40, 2000] {
                let (mut frames, mut rest) = (Vec::new(), stream.as_bytes());
                while !rest.is_empty() {
                    let (frame, behind) = rest.split_at(random.usize(1..=rest.len().min(most)));
                    frames.push(frame);
                    rest = behind;
                }
                assert_eq!(data_of(frames), whole, "{}", exchange.file);
            }
            compared += 1;
        }
        eprintln!("{dialect:?}: {compared} streams in other frames");
    }
}
