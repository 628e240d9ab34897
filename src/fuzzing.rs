//! What is fuzzed: whatever the bytes, and however they are cut into frames, nothing panics and the same comes out.
//!
//! Each function is driven by `cargo fuzz` (see `fuzz/`) and, seeded and on any compiler, by the tests below.

use std::{
    collections::VecDeque,
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body::{Body, Frame};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    Fault, FaultKind,
    body::EventStream,
    provider::{Commit, StreamGuardLayer},
};

mod translation;

pub use translation::{translate_answer, translate_request, translate_stream};

/// A text, and the frames that it is cut into: the first byte says how many cuts there are, and the next so many how long
/// the frames are.
struct Cut<'a> {
    text: &'a [u8],
    lengths: &'a [u8],
}

impl<'a> Cut<'a> {
    fn of(input: &'a [u8]) -> Option<Self> {
        let (count, rest) = input.split_first()?;
        let (lengths, text) = rest.split_at_checked(usize::from(count % 16))?;
        Some(Cut { text, lengths })
    }

    fn frames(&self) -> Vec<Bytes> {
        let mut rest = self.text;
        let mut frames = Vec::new();
        // Over and over: a short list cuts a long text, too.
        let mut lengths = self.lengths.iter().cycle();
        while !rest.is_empty() {
            let length = lengths.next().map_or(rest.len(), |length| usize::from(*length).max(1));
            let (frame, behind) = rest.split_at(length.min(rest.len()));
            frames.push(Bytes::copy_from_slice(frame));
            rest = behind;
        }
        frames
    }

    fn whole(&self) -> Vec<Bytes> {
        Vec::from([Bytes::copy_from_slice(self.text)])
    }
}

/// An event stream: the same events and bytes for any cut, and those that the standard's own words give.
pub fn event_stream(input: &[u8]) {
    let Some(cut) = Cut::of(input) else { return };
    let expected = reference(cut.text);
    for frames in [cut.frames(), cut.whole()] {
        let mut stream = EventStream::default();
        let (mut data, mut bytes) = (Vec::new(), Vec::new());
        let mut take = |stream: &mut EventStream, whole: &[u8]| {
            data.extend(stream.events(whole).map(|(data, _)| data.into_owned()));
            bytes.extend_from_slice(whole);
        };
        for frame in frames {
            let Ok(whole) = stream.push(frame) else { return };
            take(&mut stream, &whole);
        }
        let rest = stream.finish();
        take(&mut stream, &rest);
        assert_eq!(bytes, cut.text);
        assert_eq!(data, expected);
    }
    // No more is kept than is allowed, and what is kept was never given back.
    let mut small = EventStream::with_max_event(16);
    for frame in cut.frames() {
        if small.push(frame).is_err() {
            break;
        }
        assert!(small.kept() <= 16);
    }
}

/// The data of each event, by the letter of the standard, but that an event at the end needs no blank line.
fn reference(text: &[u8]) -> Vec<Vec<u8>> {
    let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
    let mut lines = vec![Vec::new()];
    let mut bytes = text.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\r' => {
                bytes.next_if_eq(&b'\n');
                lines.push(Vec::new());
            }
            b'\n' => lines.push(Vec::new()),
            byte => lines.last_mut().into_iter().for_each(|line| line.push(byte)),
        }
    }
    // For the event that lacks it.
    lines.push(Vec::new());
    let (mut events, mut data) = (Vec::new(), Vec::<Vec<u8>>::new());
    for line in lines {
        if line.is_empty() {
            if !data.is_empty() {
                events.push(data.join(&b'\n'));
                data.clear();
            }
            continue;
        }
        let (field, value) = match line.iter().position(|byte| *byte == b':') {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (&line[..], &[][..]),
        };
        if field == b"data" {
            data.push(value.strip_prefix(b" ").unwrap_or(value).to_vec());
        }
    }
    events
}

/// A guarded stream: the same bytes and the same end for any cut, whether it ends or breaks; never a clean end without
/// a sign that the answer is whole.
pub fn stream_guard(input: &[u8]) {
    let Some(cut) = Cut::of(input) else { return };
    for commit in [Commit::FirstOutput, Commit::Complete] {
        for breaks in [false, true] {
            let [in_frames, at_once] = [cut.frames(), cut.whole()].map(|frames| guarded(frames, breaks, commit));
            match (&in_frames, &at_once) {
                // What breaks within the frame of its first output is not let through at all.
                (Seen::Stream { error: Some(later), .. }, Seen::Failed(at_once)) if commit == Commit::FirstOutput => {
                    assert_eq!(later, at_once);
                }
                _ => assert_eq!(in_frames, at_once, "{commit:?}, breaks: {breaks}"),
            }
            if let Seen::Stream { error: None, .. } = &in_frames {
                let has = |sign: &[u8]| cut.text.windows(sign.len()).any(|window| window == sign);
                // A name may be written in escapes.
                assert!(has(b"finish_reason") || has(b"[DONE]") || has(b"\\u"), "{in_frames:?}");
            }
        }
    }
}

/// What a client sees: events rather than bytes, for where an event is left out that stands behind half of a CRLF, the other
/// half goes with it or stays, by the cut.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Failed(FaultKind),
    Stream {
        events: Vec<Vec<u8>>,
        error: Option<FaultKind>,
    },
    /// In the place of a stream, for a client that asked for none.
    Json(Vec<u8>),
}

struct Frames {
    frames: VecDeque<Bytes>,
    breaks: bool,
}

impl Body for Frames {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        Poll::Ready(match self.frames.pop_front() {
            Some(frame) => Some(Ok(Frame::data(frame))),
            None if std::mem::take(&mut self.breaks) => Some(Err(std::io::ErrorKind::ConnectionReset.into())),
            None => None,
        })
    }
}

fn guarded(frames: Vec<Bytes>, breaks: bool, commit: Commit) -> Seen {
    let begins_as_json = frames.iter().flatten().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    // Nothing is made up, but for the blank line that the last event may lack.
    let most = frames.iter().map(Bytes::len).sum::<usize>() + 2;
    let mut body = Some(Frames { frames: frames.into(), breaks });
    let inner = tower::service_fn(move |_: Request<()>| {
        let body = body.take().unwrap_or(Frames { frames: VecDeque::new(), breaks: false });
        std::future::ready(Response::builder().header(header::CONTENT_TYPE, "text/event-stream").body(body))
    });
    let request = Request::post("/v1/chat/completions").body(()).unwrap_or_default();
    let mut service = StreamGuardLayer::new().with_commit(commit).layer(inner);
    let Ok(response) = ready(service.call(request)) else { return Seen::Failed(FaultKind::BadRequest) };
    if let Some(fault) = response.extensions().get::<Fault>() {
        return Seen::Failed(fault.kind());
    }
    let mut body = pin!(response.into_body());
    let (mut bytes, mut error) = (Vec::new(), None);
    while let Some(frame) = ready(std::future::poll_fn(|cx| body.as_mut().poll_frame(cx))) {
        match frame {
            Ok(frame) => bytes.extend_from_slice(&frame.into_data().unwrap_or_default()),
            Err(broken) => error = Some(Fault::from_error(&*broken).kind()),
        }
    }
    assert!(bytes.len() <= most);
    // The white space before it may have come in a frame of its own.
    if begins_as_json {
        Seen::Json(bytes.trim_ascii_start().to_vec())
    } else {
        Seen::Stream { events: reference(&bytes), error }
    }
}

/// What a future gives that waits for nothing.
fn ready<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("nothing here waits"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What streams are made of, and what they should not be made of.
    const PIECES: &[&[u8]] = &[
        b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"},\"finish_reason\":null}]}",
        b"data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\"}}]}",
        b"data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}",
        b"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}",
        b"data: {\"error\":{\"message\":\"Overloaded\"}}",
        b"data: [DONE]",
        b"data: ",
        b"data",
        b"dat",
        b": comment",
        b"event: message",
        b"\xEF\xBB\xBF",
        b"{\"choices\":[]}",
        b"{",
        b"<html>",
        b" ",
    ];
    const ENDS: &[&[u8]] = &[b"\n\n", b"\r\n\r\n", b"\r\r", b"\n", b"\r", b"\r\n", b""];

    fn input(random: &mut fastrand::Rng) -> Vec<u8> {
        let cuts = random.u8(..16);
        let mut input = vec![cuts];
        input.extend((0..cuts).map(|_| random.u8(..40)));
        for _ in 0..random.usize(..12) {
            match random.u8(..16) {
                0 => input.push(random.u8(..)),
                _ => input.extend_from_slice(PIECES[random.usize(..PIECES.len())]),
            }
            input.extend_from_slice(ENDS[random.usize(..ENDS.len())]);
        }
        input
    }

    #[test]
    fn any_event_stream_cut_anywhere_gives_the_events_of_the_standard() {
        let mut random = fastrand::Rng::with_seed(11);
        (0..20_000).for_each(|_| event_stream(&input(&mut random)));
    }

    #[test]
    fn any_guarded_stream_cut_anywhere_comes_out_the_same() {
        let mut random = fastrand::Rng::with_seed(12);
        (0..5_000).for_each(|_| stream_guard(&input(&mut random)));
    }

    #[test]
    fn the_seeds_of_the_fuzzer_pass() {
        for (folder, run) in [("event_stream", event_stream as fn(&[u8])), ("stream_guard", stream_guard)] {
            let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(folder);
            // Not in the published package.
            for seed in std::fs::read_dir(folder).into_iter().flatten() {
                run(&std::fs::read(seed.unwrap().path()).unwrap());
            }
        }
    }
}
