//! `keep_alive`: something for a client to read while it waits, so that nothing between it and us takes the connection for dead.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use http::{HeaderValue, Response, header};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};

use super::terminated::TerminatedBody;
use crate::{BoxError, Dialect, Fault, FaultKind};

const EVENTS: &str = "text/event-stream";

pin_project! {
    /// A stream that is never silent for long, or a body as it is.
    #[project = KeepAliveProjection]
    pub(super) enum KeepAlive<B> {
        Off { #[pin] body: B },
        On { kept: Box<Kept<B>> },
    }
}

/// An answer that has not begun.
pub(super) type Answering<B> = Pin<Box<dyn Future<Output = Response<B>> + Send>>;

pub(super) struct Kept<B> {
    stage: Stage<B>,
    dialect: Dialect,
    every: Duration,
    timer: Pin<Box<Sleep>>,
    /// When the silence is too long, as things stand; the timer may fire before.
    due: Instant,
    lines: Lines,
}

enum Stage<B> {
    Waiting(Answering<B>),
    Running(Pin<Box<B>>),
    /// The client was promised a stream before it turned out that there is none.
    Failed(Pin<Box<TerminatedBody<Failed>>>),
}

/// Waits for an answer that is to be a stream. If it takes longer than `every`, the stream begins without it.
///
/// From then on a failure can only be told in the stream: as an error event, and an end that is not clean.
pub(super) async fn answer<B>(
    mut answering: Answering<B>,
    dialect: Dialect,
    every: Duration,
) -> Response<KeepAlive<B>> {
    if let Ok(response) = tokio::time::timeout(every, answering.as_mut()).await {
        if !is_stream(&response) {
            return response.map(KeepAlive::off);
        }
        let mut response = response.map(|body| KeepAlive::on(Stage::Running(Box::pin(body)), dialect, every, every));
        response.headers_mut().remove(header::CONTENT_LENGTH);
        return response;
    }
    let mut response = Response::new(KeepAlive::on(Stage::Waiting(answering), dialect, every, Duration::ZERO));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(EVENTS));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn is_stream<B>(response: &Response<B>) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    response.status().is_success() && kind.is_some_and(|kind| kind.starts_with(EVENTS.as_bytes()))
}

/// What is sent in a silence. Google's SDKs take a comment for a part of an answer, so theirs is an empty line, which ends no
/// event where none has begun.
fn something(dialect: Dialect) -> Bytes {
    Bytes::from_static(match dialect {
        Dialect::Gemini => b"\r\n",
        _ => b": keep-alive\n\n",
    })
}

impl<B> KeepAlive<B> {
    pub(super) fn off(body: B) -> Self {
        KeepAlive::Off { body }
    }

    fn on(stage: Stage<B>, dialect: Dialect, every: Duration, first: Duration) -> Self {
        let timer = Box::pin(tokio::time::sleep(first));
        let due = timer.deadline();
        KeepAlive::On { kept: Box::new(Kept { stage, dialect, every, timer, due, lines: Lines::default() }) }
    }
}

impl<B: Body<Data = Bytes, Error = BoxError>> Kept<B> {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Stage::Waiting(answering) = &mut self.stage {
            if let Poll::Ready(response) = answering.as_mut().poll(cx) {
                self.stage = begun(response, self.dialect);
            }
        }
        let frame = match &mut self.stage {
            Stage::Waiting(_) => Poll::Pending,
            Stage::Running(body) => body.as_mut().poll_frame(cx),
            Stage::Failed(body) => body.as_mut().poll_frame(cx),
        };
        match frame {
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(self.sent(frame)))),
            Poll::Ready(end) => Poll::Ready(end),
            // Amid an event there is no place for anything else; what is missing of it wakes us.
            Poll::Pending if !self.lines.is_between_events() => Poll::Pending,
            Poll::Pending => self.poll_silence(cx),
        }
    }

    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            let now = Instant::now();
            let due = now >= self.due;
            if due {
                self.due = now + self.every;
            }
            self.timer.as_mut().reset(self.due);
            if due {
                self.lines.commented = true;
                return Poll::Ready(Some(Ok(Frame::data(something(self.dialect)))));
            }
        }
    }

    fn sent(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        self.due = Instant::now() + self.every;
        frame.map_data(|mut data| {
            // A byte order mark stands at the beginning of a stream, where something of ours may stand now.
            if self.lines.commented && self.lines.is_at_start() && data.starts_with(b"\xef\xbb\xbf") {
                data.advance(3);
            }
            self.lines.add(&data);
            data
        })
    }
}

fn begun<B>(response: Response<B>, dialect: Dialect) -> Stage<B> {
    if is_stream(&response) {
        return Stage::Running(Box::pin(response.into_body()));
    }
    let fault = response.extensions().get::<Fault>().cloned();
    let fault = fault.unwrap_or_else(|| Fault::new(FaultKind::MalformedResponse, "the answer is not a stream"));
    Stage::Failed(Box::pin(TerminatedBody::new(Failed(Some(fault)), dialect, false)))
}

/// The end of the bytes of a stream: whether another event may begin there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Lines {
    /// The last bytes; as many of them as two line ends may have.
    end: [u8; 4],
    count: usize,
    /// Whether anything of ours was sent.
    commented: bool,
}

impl Lines {
    fn add(&mut self, data: &[u8]) {
        const KEPT: usize = 4;
        let last = &data[data.len().saturating_sub(KEPT)..];
        self.end.rotate_left(last.len() % KEPT);
        self.end[KEPT - last.len()..].copy_from_slice(last);
        self.count = (self.count + last.len()).min(KEPT);
    }

    fn is_at_start(&self) -> bool {
        self.count == 0
    }

    /// Whether an empty line came last: a line ends with CR, LF, or both.
    fn is_between_events(&self) -> bool {
        let end = &self.end[self.end.len() - self.count..];
        let before = match end {
            [] => return true,
            [before @ .., b'\r', b'\n'] => before,
            [before @ .., b'\n' | b'\r'] => before,
            _ => return false,
        };
        // The beginning of the stream is as good as a line's end.
        before.last().map_or(self.count < self.end.len(), |byte| matches!(byte, b'\n' | b'\r'))
    }
}

impl<B: Body<Data = Bytes, Error = BoxError>> Body for KeepAlive<B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.project() {
            KeepAliveProjection::Off { body } => body.poll_frame(cx),
            KeepAliveProjection::On { kept } => kept.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            KeepAlive::Off { body } => body.is_end_stream(),
            KeepAlive::On { kept } => match &kept.stage {
                Stage::Waiting(_) => false,
                Stage::Running(body) => body.is_end_stream(),
                Stage::Failed(body) => body.is_end_stream(),
            },
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            KeepAlive::Off { body } => body.size_hint(),
            // Nobody knows how long it will be silent.
            KeepAlive::On { .. } => SizeHint::default(),
        }
    }
}

impl<B> fmt::Debug for KeepAlive<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KeepAlive::Off { .. } => "KeepAlive::Off",
            KeepAlive::On { .. } => "KeepAlive::On",
        })
    }
}

/// A body that fails.
#[derive(Debug)]
struct Failed(Option<Fault>);

impl Body for Failed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(self.0.take().map(|fault| Err(fault.into())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt, StreamBody};
    use tokio::sync::mpsc;
    use tokio_stream::{StreamExt, wrappers::UnboundedReceiverStream};

    const EVERY: Duration = Duration::from_secs(15);

    type Pieces = mpsc::UnboundedSender<Result<Bytes, BoxError>>;

    fn body() -> (Pieces, impl Body<Data = Bytes, Error = BoxError> + Send + 'static) {
        let (pieces, received) = mpsc::unbounded_channel::<Result<Bytes, BoxError>>();
        (pieces, StreamBody::new(UnboundedReceiverStream::new(received).map(|piece| piece.map(Frame::data))))
    }

    fn events<B>(body: B) -> Response<B> {
        Response::builder().header("content-type", "text/event-stream; charset=utf-8").body(body).unwrap()
    }

    /// The answer, which comes so late.
    async fn late<B: Send + 'static>(
        response: Response<B>,
        after: Duration,
        dialect: Dialect,
    ) -> Response<KeepAlive<B>> {
        let answering = Box::pin(async move {
            tokio::time::sleep(after).await;
            response
        });
        answer(answering, dialect, EVERY).await
    }

    async fn next(body: &mut (impl Body<Data = Bytes, Error = BoxError> + Unpin)) -> Option<Result<String, BoxError>> {
        let frame = body.frame().await?;
        Some(frame.map(|frame| String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()))
    }

    fn bytes(text: &'static str) -> Result<Bytes, BoxError> {
        Ok(Bytes::from_static(text.as_bytes()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_waits_is_sent_comments_and_then_the_stream() {
        let (pieces, inner) = body();
        let began = Instant::now();
        let response = late(events(inner), Duration::from_secs(40), Dialect::OpenAiChat).await;
        assert_eq!((began.elapsed().as_secs(), response.status().as_u16()), (15, 200));
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut body = Box::pin(response.into_body());
        for at in [15, 30] {
            assert_eq!(next(&mut body).await.unwrap().unwrap(), ": keep-alive\n\n");
            assert_eq!(began.elapsed().as_secs(), at);
        }
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(11)).await;
            pieces.send(bytes("\u{feff}data: 1\n\n")).unwrap();
            tokio::time::sleep(Duration::from_secs(20)).await;
            pieces.send(bytes("data: 2")).unwrap();
            tokio::time::sleep(Duration::from_secs(50)).await;
            pieces.send(bytes("\n\n")).unwrap();
        });
        let mut all = String::new();
        let mut at = Vec::new();
        while let Some(piece) = next(&mut body).await {
            all.push_str(&piece.unwrap());
            at.push(began.elapsed().as_secs());
        }
        assert_eq!(
            all, "data: 1\n\n: keep-alive\n\ndata: 2\n\n",
            "nothing stands within an event, nor before its mark"
        );
        assert_eq!(at, [41, 56, 61, 111]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_is_not_silent_passes_byte_for_byte() {
        let (pieces, inner) = body();
        tokio::spawn(async move {
            for piece in ["\u{feff}data: 1\r\n", "\r\n", "data: 2\r\r", "data: 3\n\n"] {
                tokio::time::sleep(Duration::from_secs(14)).await;
                pieces.send(bytes(piece)).unwrap();
            }
        });
        let mut response = events(inner);
        response.headers_mut().insert("content-length", 38.into());
        let response = late(response, Duration::from_secs(1), Dialect::OpenAiChat).await;
        assert!(!response.headers().contains_key("content-length"), "there may be more than that");
        let all = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(all, "\u{feff}data: 1\r\n\r\ndata: 2\r\rdata: 3\n\n");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_stream_and_comes_in_time_is_left_alone() {
        let whole = Response::builder().status(429).header("content-length", 2);
        let whole = whole.body(http_body_util::Full::<Bytes>::from("{}").map_err(|never| match never {})).unwrap();
        let response = late(whole, Duration::from_secs(14), Dialect::OpenAiChat).await;
        assert_eq!((response.status().as_u16(), &response.headers()["content-length"]), (429, &"2".parse().unwrap()));
        assert!(matches!(response.body(), KeepAlive::Off { .. }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_failure_is_an_error_event_and_no_clean_end() {
        for (dialect, event) in [
            (Dialect::OpenAiChat, "data: {\"error\":"),
            (Dialect::OpenAiResponses, "event: error\ndata: {"),
            (Dialect::AnthropicMessages, "event: error\ndata: {"),
            (Dialect::Gemini, "data: {\"error\":"),
        ] {
            let (_pieces, inner) = body();
            let mut failed = Response::builder().status(503).body(inner).unwrap();
            failed.extensions_mut().insert(Fault::new(FaultKind::Overloaded, "nobody has time"));
            let mut body = Box::pin(late(failed, Duration::from_secs(20), dialect).await.into_body());
            let silence = if dialect == Dialect::Gemini { "\r\n" } else { ": keep-alive\n\n" };
            assert_eq!(next(&mut body).await.unwrap().unwrap(), silence);
            let told = next(&mut body).await.unwrap().unwrap();
            assert!(told.starts_with(event) && told.contains("nobody has time"), "{told}");
            assert!(next(&mut body).await.unwrap().is_err());
            assert!(next(&mut body).await.is_none());
        }
    }

    #[test]
    fn events_end_with_an_empty_line() {
        let ends = |pieces: &[&str]| {
            let mut lines = Lines::default();
            pieces.iter().for_each(|piece| lines.add(piece.as_bytes()));
            lines.is_between_events()
        };
        for pieces in [
            &[][..],
            &["data: 1\n\n"],
            &["data: 1\r\n\r\n"],
            &["data: 1\r\r"],
            &["data: 1\n", "\n"],
            &["data: 1\r", "\n\r", "\n"],
            &["\n"],
            &["\r\n"],
            &["a", "b", "c", "\n", "\n"],
        ] {
            assert!(ends(pieces), "{pieces:?}");
        }
        for pieces in [&["d"][..], &["data: 1"], &["data: 1\n"], &["data: 1\r\n"], &["data: 1\n\n", "d"], &["a\r\n"]] {
            assert!(!ends(pieces), "{pieces:?}");
        }
    }
}
