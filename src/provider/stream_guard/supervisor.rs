//! What is known of a stream so far, and what of it may be forwarded.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::{Commit, StreamGuardLayer};
use crate::{
    Credentials, Fault, FaultKind, Usage,
    body::{EventStream, Oversized},
    dialect::{StreamEvent, StreamReader},
    provider::{FaultRules, classify},
    usage::Written,
};

/// How many bytes may come before a stream's first output.
const MAX_PREAMBLE: usize = 1 << 20;

/// Reads a stream's events as their bytes pass. It knows nothing of bodies and time.
#[derive(Debug)]
pub(super) struct Supervisor {
    reader: StreamReader,
    credentials: Credentials,
    rules: FaultRules,
    events: EventStream,
    opening: Opening,
    /// Whether a chunk that tells nothing but usage is kept from the client, who did not ask for it.
    strips_usage: bool,
    /// Whole events that were not taken yet.
    ready: VecDeque<Bytes>,
    held: usize,
    /// How much may be held.
    most_held: usize,
    /// Nothing has been let through.
    holding: bool,
    /// Output came, or the answer is whole without any.
    committed: bool,
    /// The answer is whole.
    finished: bool,
    /// Nothing comes behind what came.
    terminated: bool,
    /// Nothing of what may still come is wanted.
    abandoned: bool,
    failure: Option<Fault>,
}

/// How the answer began.
#[derive(Debug)]
enum Opening {
    /// Not at all, or with white space.
    Unseen,
    /// As it should.
    Events,
    /// As JSON.
    Json { text: BytesMut, whole: bool },
}

/// Whether what came brought the answer on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It did.
    Made,
    /// Keep-alives, half an event: a sign of life, but of no more than that.
    None,
}

impl Supervisor {
    pub(super) fn new(reader: StreamReader, settings: &StreamGuardLayer) -> Self {
        Supervisor {
            reader,
            credentials: Credentials::none(),
            rules: settings.rules.clone(),
            events: EventStream::with_max_event(settings.max_event),
            opening: Opening::Unseen,
            strips_usage: false,
            ready: VecDeque::new(),
            held: 0,
            most_held: match settings.commit {
                Commit::FirstOutput => MAX_PREAMBLE,
                Commit::Complete => settings.max_answer,
            },
            holding: true,
            committed: false,
            finished: false,
            terminated: false,
            abandoned: false,
            failure: None,
        }
    }

    /// Redacts these from what it tells.
    pub(super) fn with_credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = credentials;
        self
    }

    /// Whether it keeps the chunk that tells nothing but usage.
    pub(super) fn stripping_usage(mut self, strips_usage: bool) -> Self {
        self.strips_usage = strips_usage;
        self
    }

    /// From now on the client takes what is ready.
    pub(super) fn release(&mut self) {
        self.holding = false;
    }

    /// What the provider says that the answer cost.
    pub(super) fn usage(&self) -> Option<Usage> {
        self.reader.usage()
    }

    /// How much of the answer came.
    pub(super) fn written(&self) -> Written {
        self.reader.written()
    }

    /// What came in the place of a stream, once it is all there.
    pub(super) fn take_json(&mut self) -> Option<Bytes> {
        match &mut self.opening {
            Opening::Json { text, whole: true } => Some(std::mem::take(text).freeze()),
            _ => None,
        }
    }

    /// Whether the answer has begun.
    pub(super) fn is_committed(&self) -> bool {
        self.committed
    }

    /// Whether the answer is whole: whatever may still come, nothing of it is missing.
    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    /// Whether the answer is whole and said to be the last.
    pub(super) fn is_over(&self) -> bool {
        self.finished && self.terminated
    }

    /// Whether the answer is whole and what comes behind it not to be read.
    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned
    }

    /// The next bytes to forward.
    pub(super) fn take_ready(&mut self) -> Option<Bytes> {
        self.ready.pop_front()
    }

    /// What broke the stream, once all that came before it is taken.
    pub(super) fn take_failure(&mut self) -> Option<Fault> {
        self.failure.take()
    }

    /// Takes in what the upstream sent.
    pub(super) fn push(&mut self, frame: Bytes) -> Progress {
        if !matches!(self.opening, Opening::Events) {
            self.open(&frame);
            if let Opening::Json { text, .. } = &mut self.opening {
                text.extend_from_slice(&frame);
                self.held = text.len();
                self.check_held();
                return Progress::None;
            }
        }
        let progress = match self.events.push(frame) {
            Ok(whole) => self.read(whole),
            Err(Oversized) if self.finished => {
                tracing::warn!("gave up on what came behind a whole answer: an event without an end");
                self.abandoned = true;
                Progress::None
            }
            Err(Oversized) => {
                self.fail(Fault::new(
                    FaultKind::MalformedResponse,
                    "an event of the stream is longer than is allowed here",
                ));
                Progress::None
            }
        };
        self.check_held();
        progress
    }

    /// Looks at how the answer begins: a line of an event stream has no use for a brace or an angle bracket there.
    fn open(&mut self, frame: &[u8]) {
        if !matches!(self.opening, Opening::Unseen) {
            return;
        }
        match frame.iter().find(|byte| !byte.is_ascii_whitespace()) {
            None => {}
            Some(b'{') => self.opening = Opening::Json { text: BytesMut::new(), whole: false },
            Some(b'<') => {
                self.fail(Fault::new(FaultKind::MalformedResponse, "the provider's answer is a page, not a stream"))
            }
            Some(_) => self.opening = Opening::Events,
        }
    }

    fn check_held(&mut self) {
        if self.holding && self.held > self.most_held {
            let message = match self.committed {
                false => "the stream goes on without any output",
                true => "the provider's answer is longer than is allowed here",
            };
            self.fail(Fault::new(FaultKind::MalformedResponse, message));
        }
    }

    /// The upstream has ended the stream; with an error, if it broke.
    pub(super) fn end(&mut self, error: Option<Fault>) {
        if let (Opening::Json { whole, .. }, None) = (&mut self.opening, &error) {
            *whole = true;
            return;
        }
        let rest = self.events.finish();
        if !rest.is_empty() && self.failure.is_none() {
            self.read_rest(rest);
        }
        if self.finished {
            return;
        }
        let fault = match error {
            // What was lost is an answer, not a connection: it had begun.
            Some(fault) if fault.kind() == FaultKind::ConnectionLost => {
                Fault::new(FaultKind::StreamInterrupted, format!("the stream was cut: {}", fault.message()))
            }
            Some(fault) => fault,
            None if self.committed => {
                Fault::new(FaultKind::StreamInterrupted, "the stream ended before its answer was whole")
            }
            None => Fault::new(FaultKind::MalformedResponse, "the stream ended without any output"),
        };
        self.fail(fault);
    }

    /// What came behind the last blank line. The end of a whole answer may lack one; of an answer that is not whole only what
    /// makes an event is forwarded, with the line that it lacks: whatever is told next must not run into half of one.
    fn read_rest(&mut self, rest: Bytes) {
        let was_finished = self.finished;
        let ready = self.ready.len();
        let progress = self.read(rest);
        // Half an event cannot be read because the stream ended, which is what is told.
        self.failure.take_if(|fault| fault.kind() == FaultKind::MalformedResponse);
        if !was_finished && !self.finished {
            if progress == Progress::Made {
                self.forward(Bytes::from_static(b"\n\n"));
            } else {
                self.ready.truncate(ready);
            }
        }
    }

    fn fail(&mut self, fault: Fault) {
        self.failure.get_or_insert(fault);
    }

    fn read(&mut self, whole: Bytes) -> Progress {
        let mut progress = Progress::None;
        if self.failure.is_some() {
            return progress;
        }
        // What is not left out is forwarded with all that stands before it.
        let mut from = 0;
        for (data, place) in self.events.events(&whole) {
            match self.reader.event(&data) {
                StreamEvent::Usage if self.strips_usage => {
                    self.forward(whole.slice(from..place.start));
                    from = place.end;
                }
                StreamEvent::Preamble | StreamEvent::Usage => {}
                StreamEvent::Output => (self.committed, progress) = (true, Progress::Made),
                StreamEvent::Finish => {
                    (self.committed, self.finished, progress) = (true, true, Progress::Made);
                }
                StreamEvent::Terminal => {
                    self.terminated = true;
                    self.finished |= self.committed;
                }
                StreamEvent::Error if !self.finished => {
                    let fault = classify::in_band(&self.rules, &data, &self.credentials);
                    self.forward(whole.slice(from..place.start));
                    self.fail(fault);
                    return progress;
                }
                // It may have been a piece of the answer: without it, what comes behind it would read as all of one.
                StreamEvent::Malformed if !self.finished && memchr::memchr(b'{', &data).is_some() => {
                    self.forward(whole.slice(from..place.start));
                    self.fail(Fault::new(FaultKind::MalformedResponse, "an event of the stream cannot be read"));
                    return progress;
                }
                // An error behind an answer that is whole takes nothing from it, and a client would take it for the answer's; what
                // has no brace is no piece of an answer in any dialect.
                StreamEvent::Error | StreamEvent::Malformed => {
                    tracing::warn!(bytes = place.len(), "left out an event of a stream that is none of its answer");
                    self.forward(whole.slice(from..place.start));
                    from = place.end;
                }
            }
        }
        self.forward(whole.slice(from..));
        progress
    }

    fn forward(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            // The handle counts too: a stream may come byte by byte.
            self.held += bytes.len() + size_of::<Bytes>();
            self.ready.push_back(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dialect;

    const ROLE: &str = r#"data: {"choices":[{"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#;
    const TEXT: &str = r#"data: {"choices":[{"delta":{"content":"Hi"},"finish_reason":null}]}"#;
    const STOP: &str = r#"data: {"choices":[{"delta":{},"finish_reason":"stop"}]}"#;
    const ERROR: &str = r#"data: {"error":{"message":"Overloaded","type":"server_error","code":null}}"#;

    fn supervise(events: &[&str]) -> Supervisor {
        let reader = StreamReader::new(Dialect::OpenAiChat, 1);
        let mut supervisor = Supervisor::new(reader, &StreamGuardLayer::new());
        events.iter().for_each(|event| _ = supervisor.push(Bytes::from(format!("{event}\n\n"))));
        supervisor
    }

    fn forwarded(supervisor: &mut Supervisor) -> String {
        let pieces: Vec<_> = std::iter::from_fn(|| supervisor.take_ready()).collect();
        String::from_utf8(pieces.concat()).unwrap()
    }

    #[test]
    fn output_commits_and_everything_before_it_is_forwarded_unchanged() {
        let mut supervisor = supervise(&[": ping", ROLE]);
        assert!(!supervisor.is_committed());
        supervisor.push(Bytes::from(format!("{TEXT}\n\n{STOP}\n\ndata: [DONE]")));
        assert!(supervisor.is_committed());
        supervisor.end(None);
        assert_eq!(supervisor.take_failure(), None);
        assert_eq!(forwarded(&mut supervisor), format!(": ping\n\n{ROLE}\n\n{TEXT}\n\n{STOP}\n\ndata: [DONE]"));
    }

    #[test]
    fn an_error_before_output_is_a_fault_by_its_words() {
        let mut supervisor = supervise(&[ROLE, ERROR, "data: [DONE]"]);
        assert!(!supervisor.is_committed());
        assert_eq!(supervisor.take_failure().unwrap().kind(), FaultKind::Overloaded);
    }

    #[test]
    fn an_error_after_output_is_kept_from_the_client_and_told_after_the_output() {
        let mut supervisor = supervise(&[ROLE]);
        supervisor.push(Bytes::from(format!("{TEXT}\n\n{ERROR}\n\n{TEXT}\n\n")));
        assert_eq!(forwarded(&mut supervisor), format!("{ROLE}\n\n{TEXT}\n\n"));
        assert_eq!(supervisor.take_failure().unwrap().kind(), FaultKind::Overloaded);
    }

    #[test]
    fn an_error_behind_a_whole_answer_is_left_out() {
        let mut supervisor = supervise(&[TEXT, STOP, ERROR, "data: [DONE]"]);
        supervisor.end(None);
        assert_eq!(forwarded(&mut supervisor), format!("{TEXT}\n\n{STOP}\n\ndata: [DONE]\n\n"));
        assert_eq!(supervisor.take_failure(), None);
    }

    #[test]
    fn an_end_is_clean_only_behind_a_finish_reason_or_the_terminal_event() {
        for (events, kind) in [
            (&[][..], Some(FaultKind::MalformedResponse)),
            (&["data: [DONE]"], Some(FaultKind::MalformedResponse)),
            (&[ROLE], Some(FaultKind::MalformedResponse)),
            (&[ROLE, TEXT], Some(FaultKind::StreamInterrupted)),
            (&[ROLE, TEXT, "data: [DONE]"], None),
            (&[ROLE, TEXT, STOP], None),
            (&[ROLE, STOP], None),
        ] {
            let mut supervisor = supervise(events);
            supervisor.end(None);
            assert_eq!(supervisor.take_failure().map(|fault| fault.kind()), kind, "{events:?}");
        }
    }

    #[test]
    fn half_an_event_is_not_left_standing_before_what_is_told_next() {
        for (rest, forwarded_rest) in [
            (": keep-al", String::new()),
            ("dat", String::new()),
            ("event: mess", String::new()),
            (&TEXT[..TEXT.len() - 3], String::new()),
            (TEXT, format!("{TEXT}\n\n")),
            (&format!("{TEXT}\n"), format!("{TEXT}\n\n\n")),
            (STOP, STOP.to_owned()),
        ] {
            let mut supervisor = supervise(&[TEXT]);
            supervisor.push(Bytes::copy_from_slice(rest.as_bytes()));
            supervisor.end(None);
            assert_eq!(forwarded(&mut supervisor), format!("{TEXT}\n\n{forwarded_rest}"), "{rest}");
            assert_eq!(supervisor.take_failure().is_none(), rest == STOP);
        }
    }

    #[test]
    fn keep_alives_and_halves_are_no_progress() {
        let mut supervisor = supervise(&[TEXT]);
        for (bytes, progress) in
            [(": ping\n\n", Progress::None), ("data: pi", Progress::None), ("ng\n\n", Progress::None)]
        {
            assert_eq!(supervisor.push(Bytes::from_static(bytes.as_bytes())), progress);
        }
        assert_eq!(supervisor.push(Bytes::from(format!("{TEXT}\n\n"))), Progress::Made);
    }

    #[test]
    fn a_cut_is_an_interruption_unless_the_answer_was_whole() {
        let cut = || Some(Fault::new(FaultKind::ConnectionLost, "reset"));
        let mut whole = supervise(&[TEXT, STOP]);
        whole.end(cut());
        assert_eq!(whole.take_failure(), None);
        let mut half = supervise(&[TEXT]);
        half.end(cut());
        assert_eq!(half.take_failure().unwrap().kind(), FaultKind::StreamInterrupted);
    }

    #[test]
    fn an_event_that_cannot_be_read_is_left_out_only_where_it_cannot_be_a_piece_of_the_answer() {
        for harmless in ["data: keep-alive", "data:", "data: []", "data: [PING]", "data: \"processing\""] {
            let mut supervisor = supervise(&[ROLE, harmless, TEXT, harmless, STOP, harmless]);
            supervisor.end(None);
            assert_eq!(forwarded(&mut supervisor), format!("{ROLE}\n\n{TEXT}\n\n{STOP}\n\n"), "{harmless}");
            assert_eq!(supervisor.take_failure(), None);
        }
        for piece in ["data: {\"choices\":[", "data: \"choices\":[{\"delta\":{\"content\":\"Ho\"}}]}", "data: [{}"] {
            let mut supervisor = supervise(&[ROLE, TEXT, piece, TEXT, STOP]);
            assert_eq!(forwarded(&mut supervisor), format!("{ROLE}\n\n{TEXT}\n\n"), "{piece}");
            assert_eq!(supervisor.take_failure().unwrap().kind(), FaultKind::MalformedResponse);
            let mut whole = supervise(&[TEXT, STOP, piece, "data: [DONE]"]);
            assert_eq!(forwarded(&mut whole), format!("{TEXT}\n\n{STOP}\n\ndata: [DONE]\n\n"));
            assert_eq!((whole.take_failure(), whole.is_over()), (None, true));
        }
    }

    const USAGE: &str = r#"data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}"#;

    #[test]
    fn usage_is_read_and_kept_only_from_a_client_who_did_not_ask_for_it() {
        for (strips, forwarded_usage) in [(false, format!("{USAGE}\n\n")), (true, String::new())] {
            let mut supervisor = supervise(&[]).stripping_usage(strips);
            supervisor.push(Bytes::from(format!("{TEXT}\n\n{STOP}\n\n{USAGE}\n\ndata: [DONE]\n\n")));
            let expected = format!("{TEXT}\n\n{STOP}\n\n{forwarded_usage}data: [DONE]\n\n");
            assert_eq!(forwarded(&mut supervisor), expected);
            assert_eq!(supervisor.usage().unwrap().input, 3);
        }
    }

    #[test]
    fn json_in_the_place_of_a_stream_is_collected_and_a_page_is_no_answer() {
        for frames in [&["{\"a\":", "1}"][..], &[" \r\n", "{\"a\":1}"]] {
            let mut supervisor = supervise(&[]);
            frames.iter().for_each(|frame| _ = supervisor.push(Bytes::from_static(frame.as_bytes())));
            assert_eq!(supervisor.take_json(), None, "not before its end");
            supervisor.end(None);
            assert_eq!(supervisor.take_failure(), None);
            assert!(supervisor.take_json().unwrap().ends_with(b"1}"));
        }
        let mut cut = supervise(&[]);
        cut.push(Bytes::from_static(b"{\"a\""));
        cut.end(Some(Fault::new(FaultKind::ConnectionLost, "reset")));
        assert_eq!(cut.take_failure().unwrap().kind(), FaultKind::StreamInterrupted);
        assert_eq!(supervise(&["<html>"]).take_failure().unwrap().kind(), FaultKind::MalformedResponse);
    }

    #[test]
    fn an_answer_that_is_held_whole_is_bounded() {
        let settings = StreamGuardLayer::new().with_commit(Commit::Complete).with_max_answer(1000);
        let mut supervisor = Supervisor::new(StreamReader::new(Dialect::OpenAiChat, 1), &settings);
        (0..9).for_each(|_| _ = supervisor.push(Bytes::from(format!("{TEXT}\n\n"))));
        assert_eq!(supervisor.take_failure(), None);
        (0..2).for_each(|_| _ = supervisor.push(Bytes::from(format!("{TEXT}\n\n"))));
        assert_eq!(supervisor.take_failure().unwrap().kind(), FaultKind::MalformedResponse);
    }

    #[test]
    fn an_event_without_end_breaks_an_answer_but_not_one_that_is_whole() {
        let settings = StreamGuardLayer::new().with_max_event(1000);
        for (events, breaks) in [(&[TEXT][..], true), (&[TEXT, STOP], false)] {
            let mut supervisor = Supervisor::new(StreamReader::new(Dialect::OpenAiChat, 1), &settings);
            events.iter().for_each(|event| _ = supervisor.push(Bytes::from(format!("{event}\n\n"))));
            supervisor.push(Bytes::from(format!("data: {}", "x".repeat(1000))));
            assert_eq!((supervisor.take_failure().is_some(), supervisor.is_abandoned()), (breaks, !breaks));
        }
    }

    #[test]
    fn a_preamble_without_end_is_given_up_on() {
        let mut supervisor = supervise(&[]);
        let event = Bytes::from(format!(": {}\n\n", "x".repeat(1 << 16)));
        (0..17).for_each(|_| _ = supervisor.push(event.clone()));
        assert_eq!(supervisor.take_failure().unwrap().kind(), FaultKind::MalformedResponse);
    }
}
