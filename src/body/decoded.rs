//! A body that is compressed though it was asked not to be, decompressed as it comes.
//!
//! Whatever a frame's bytes decompress to is handed out before the next frame is asked for, so that no event of a stream
//! waits for the next. Nothing is kept but the decoder's window (at most 32 KiB for gzip and deflate, 16 MiB for Brotli,
//! 8 MiB for Zstandard, each as its format bounds it) and the rest of one frame; what is handed out at a time is at most
//! 96 KiB, however much smaller it was before.
//!
//! gzip and deflate are in any build: they are small, and what a server uses that compresses unasked. Brotli has a dictionary
//! of 120 KiB, and the only decoder of Zstandard that gives what it has before its window is full is the C library: each has
//! its feature, and without it such an answer is a fault like any other that cannot be read. The crates are used directly
//! rather than by `async-compression`, which reads from an `AsyncRead` of its own making and has C for both.

use std::{
    fmt,
    io::{self, Write},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use flate2::{Decompress, FlushDecompress, Status, write::MultiGzDecoder};
use http::{HeaderMap, HeaderValue, header};
use http_body::{Body, Frame, SizeHint};

use crate::{BoxError, Fault, FaultKind};

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Gzip,
    Deflate,
    #[cfg(feature = "brotli")]
    Brotli,
    #[cfg(feature = "zstd")]
    Zstandard,
}

/// It is compressed in a way that is not read here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UnknownCoding;

impl Coding {
    /// How the headers say that the body is compressed; `None` where it is not.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Option<Coding>, UnknownCoding> {
        let mut codings = headers.get_all(header::CONTENT_ENCODING).iter();
        let Some(first) = codings.next().map(HeaderValue::as_bytes) else { return Ok(None) };
        if codings.next().is_some() {
            return Err(UnknownCoding);
        }
        match &*first.trim_ascii().to_ascii_lowercase() {
            b"" | b"identity" => Ok(None),
            b"gzip" | b"x-gzip" => Ok(Some(Coding::Gzip)),
            b"deflate" => Ok(Some(Coding::Deflate)),
            #[cfg(feature = "brotli")]
            b"br" => Ok(Some(Coding::Brotli)),
            #[cfg(feature = "zstd")]
            b"zstd" => Ok(Some(Coding::Zstandard)),
            _ => Err(UnknownCoding),
        }
    }
}

/// A body as it was before it was compressed.
#[derive(Debug, Default)]
pub(crate) struct Decoded<B> {
    inner: B,
    // Boxed: hardly any answer is compressed.
    decoding: Option<Box<Decoding>>,
}

#[derive(Debug)]
struct Decoding {
    decoder: Decoder,
    /// What was not decompressed yet of the latest frame.
    input: Bytes,
    /// Whether the decoder may have more to give without more input.
    full: bool,
    ended: bool,
    trailers: Option<HeaderMap>,
}

impl<B> Decoded<B> {
    pub(crate) fn new(inner: B, coding: Option<Coding>) -> Self {
        let decoding = |coding| {
            let decoder = Decoder::new(coding);
            Box::new(Decoding { decoder, input: Bytes::new(), full: false, ended: false, trailers: None })
        };
        Decoded { inner, decoding: coding.map(decoding) }
    }
}

impl Decoding {
    /// What can be had without another frame.
    fn next_piece(&mut self) -> io::Result<Option<Bytes>> {
        while self.full || !self.input.is_empty() {
            let mut piece = Vec::new();
            let read = self.decoder.decode(&self.input, &mut piece)?;
            self.input.advance(read);
            self.full = !piece.is_empty();
            if self.full {
                return Ok(Some(piece.into()));
            }
            if read == 0 && !self.input.is_empty() {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "bytes behind its end"));
            }
        }
        Ok(None)
    }
}

impl<B> Body for Decoded<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let Some(decoding) = &mut this.decoding else {
            return Pin::new(&mut this.inner).poll_frame(cx).map_err(Into::into);
        };
        loop {
            match decoding.next_piece() {
                Ok(Some(piece)) => return Poll::Ready(Some(Ok(Frame::data(piece)))),
                Ok(None) if decoding.ended => {
                    return Poll::Ready(decoding.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
                }
                Ok(None) => {}
                Err(error) => {
                    (decoding.ended, decoding.full) = (true, false);
                    decoding.input.clear();
                    let message = format!("the answer cannot be decompressed: {error}");
                    return Poll::Ready(Some(Err(Fault::new(FaultKind::MalformedResponse, message).into())));
                }
            }
            match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => decoding.input = data,
                    Err(frame) => decoding.trailers = frame.into_trailers().ok(),
                },
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => {
                    decoding.ended = true;
                    if !decoding.decoder.is_whole() {
                        let message = "the compressed answer ended before its end";
                        return Poll::Ready(Some(Err(Fault::new(FaultKind::ConnectionLost, message).into())));
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.decoding {
            None => self.inner.is_end_stream(),
            Some(decoding) => decoding.ended && decoding.input.is_empty() && decoding.trailers.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.decoding {
            None => self.inner.size_hint(),
            Some(_) => SizeHint::default(),
        }
    }
}

/// How much is decompressed at a time.
const PIECE: usize = 16 << 10;

enum Decoder {
    /// Whose first byte says which of the two things it is that "deflate" means.
    Deflate,
    Inflate(Inflate),
    Gzip(Gzip),
    #[cfg(feature = "brotli")]
    Brotli(brotli::Decoder),
    #[cfg(feature = "zstd")]
    Zstandard(zstandard::Decoder),
}

impl Decoder {
    fn new(coding: Coding) -> Self {
        match coding {
            Coding::Gzip => Decoder::Gzip(Gzip { decoder: MultiGzDecoder::new(Vec::new()), begun: false }),
            Coding::Deflate => Decoder::Deflate,
            #[cfg(feature = "brotli")]
            Coding::Brotli => Decoder::Brotli(brotli::Decoder::new()),
            #[cfg(feature = "zstd")]
            Coding::Zstandard => Decoder::Zstandard(zstandard::Decoder::new()),
        }
    }

    /// Decompresses some of the input; says how much of it.
    fn decode(&mut self, input: &[u8], output: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Decoder::Deflate => {
                // By RFC 9110 it is zlib's format, whose first byte names the method; some servers send it without.
                let Some(first) = input.first() else { return Ok(0) };
                let has_header = first & 0x8f == 0x08;
                *self = Decoder::Inflate(Inflate { state: Decompress::new(has_header), whole: false });
                self.decode(input, output)
            }
            Decoder::Inflate(decoder) => decoder.decode(input, output),
            Decoder::Gzip(decoder) => decoder.decode(input, output),
            #[cfg(feature = "brotli")]
            Decoder::Brotli(decoder) => decoder.decode(input, output),
            #[cfg(feature = "zstd")]
            Decoder::Zstandard(decoder) => decoder.decode(input, output),
        }
    }

    /// Whether what came is all, or nothing (as behind the head of an answer without a body).
    fn is_whole(&mut self) -> bool {
        match self {
            Decoder::Deflate => true,
            Decoder::Inflate(decoder) => decoder.whole,
            Decoder::Gzip(decoder) => !decoder.begun || decoder.decoder.try_finish().is_ok(),
            #[cfg(feature = "brotli")]
            Decoder::Brotli(decoder) => decoder.is_whole(),
            #[cfg(feature = "zstd")]
            Decoder::Zstandard(decoder) => decoder.is_whole(),
        }
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decoder")
    }
}

/// Deflate, with zlib's header or without.
struct Inflate {
    state: Decompress,
    whole: bool,
}

impl Inflate {
    fn decode(&mut self, input: &[u8], output: &mut Vec<u8>) -> io::Result<usize> {
        if self.whole {
            return Ok(0);
        }
        output.reserve(PIECE);
        let before = self.state.total_in();
        let status = self.state.decompress_vec(input, output, FlushDecompress::Sync)?;
        self.whole = status == Status::StreamEnd;
        // No more than the slice has, which is a `usize`.
        Ok((self.state.total_in() - before) as usize)
    }
}

/// Deflate in gzip's frames, with their checksums; there may be several, one behind the other.
struct Gzip {
    decoder: MultiGzDecoder<Vec<u8>>,
    begun: bool,
}

impl Gzip {
    /// One write makes at most a buffer (32 KiB) of output, and the flush gives out what the decoder has besides.
    fn decode(&mut self, input: &[u8], output: &mut Vec<u8>) -> io::Result<usize> {
        self.begun |= !input.is_empty();
        let read = if input.is_empty() { 0 } else { self.decoder.write(input)? };
        self.decoder.flush()?;
        std::mem::swap(output, self.decoder.get_mut());
        Ok(read)
    }
}

#[cfg(feature = "brotli")]
mod brotli {
    use std::io;

    use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};

    use super::PIECE;

    type State = BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>;

    pub(super) struct Decoder {
        state: Box<State>,
        begun: bool,
        whole: bool,
    }

    impl Decoder {
        pub(super) fn new() -> Self {
            let alloc = StandardAlloc::default;
            // Strict: without the large windows (1 GiB) that are no part of the format.
            Decoder { state: Box::new(State::new_strict(alloc(), alloc(), alloc())), begun: false, whole: false }
        }

        pub(super) fn decode(&mut self, input: &[u8], output: &mut Vec<u8>) -> io::Result<usize> {
            if self.whole {
                return Ok(0);
            }
            self.begun |= !input.is_empty();
            output.resize(PIECE, 0);
            let (mut left, mut read, mut room, mut written, mut total) = (input.len(), 0, PIECE, 0, 0);
            let result = BrotliDecompressStream(
                &mut left,
                &mut read,
                input,
                &mut room,
                &mut written,
                output,
                &mut total,
                &mut self.state,
            );
            output.truncate(written);
            match result {
                BrotliResult::ResultFailure => Err(io::Error::new(io::ErrorKind::InvalidData, "not Brotli")),
                BrotliResult::ResultSuccess => {
                    self.whole = true;
                    Ok(read)
                }
                BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => Ok(read),
            }
        }

        pub(super) fn is_whole(&self) -> bool {
            self.whole || !self.begun
        }
    }
}

#[cfg(feature = "zstd")]
mod zstandard {
    use std::io;

    use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, get_error_name};

    use super::PIECE;

    /// 8 MiB: what RFC 9659 lets a server use towards a client.
    const WINDOW: u32 = 23;

    pub(super) struct Decoder {
        context: DCtx<'static>,
        /// Within a frame.
        open: bool,
    }

    impl Decoder {
        pub(super) fn new() -> Self {
            let mut context = DCtx::create();
            // It is within what the format allows, so it is never refused.
            let _ = context.set_parameter(DParameter::WindowLogMax(WINDOW));
            Decoder { context, open: false }
        }

        pub(super) fn decode(&mut self, input: &[u8], output: &mut Vec<u8>) -> io::Result<usize> {
            if input.is_empty() && !self.open {
                return Ok(0);
            }
            output.resize(PIECE, 0);
            let mut source = InBuffer::around(input);
            let mut sink = OutBuffer::around(&mut output[..]);
            let hint = self.context.decompress_stream(&mut sink, &mut source);
            let (read, written) = (source.pos(), sink.pos());
            output.truncate(written);
            let error = |code| io::Error::new(io::ErrorKind::InvalidData, get_error_name(code));
            self.open = hint.map_err(error)? != 0;
            Ok(read)
        }

        pub(super) fn is_whole(&self) -> bool {
            !self.open
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write};
    use http_body_util::{BodyExt, Full, StreamBody};
    use std::convert::Infallible;

    const EVENTS: [&str; 3] = ["data: {\"one\":1}\n\n", "data: two\n\n", "data: [DONE]\n\n"];

    /// Each event in a frame of its own, flushed, and what ends the whole.
    fn compressed<W: Write>(mut encoder: W, take: fn(&mut W) -> Vec<u8>, finish: fn(W) -> Vec<u8>) -> Vec<Bytes> {
        let mut frames = Vec::new();
        for event in EVENTS {
            encoder.write_all(event.as_bytes()).unwrap();
            encoder.flush().unwrap();
            frames.push(take(&mut encoder).into());
        }
        frames.push(finish(encoder).into());
        frames
    }

    fn every_coding() -> Vec<(Coding, Vec<Bytes>)> {
        fn take(sink: &mut Vec<u8>) -> Vec<u8> {
            std::mem::take(sink)
        }
        let level = Compression::default;
        vec![
            (
                Coding::Gzip,
                compressed(
                    write::GzEncoder::new(Vec::new(), level()),
                    |it| take(it.get_mut()),
                    |it| it.finish().unwrap(),
                ),
            ),
            (
                Coding::Deflate,
                compressed(
                    write::ZlibEncoder::new(Vec::new(), level()),
                    |it| take(it.get_mut()),
                    |it| it.finish().unwrap(),
                ),
            ),
            (
                Coding::Deflate,
                compressed(
                    write::DeflateEncoder::new(Vec::new(), level()),
                    |it| take(it.get_mut()),
                    |it| it.finish().unwrap(),
                ),
            ),
            #[cfg(feature = "brotli")]
            (
                Coding::Brotli,
                compressed(
                    ::brotli::CompressorWriter::new(Vec::new(), 4096, 5, 22),
                    |it| take(it.get_mut()),
                    |it| it.into_inner(),
                ),
            ),
            #[cfg(feature = "zstd")]
            (Coding::Zstandard, zstandard()),
        ]
    }

    #[cfg(feature = "zstd")]
    fn zstandard() -> Vec<Bytes> {
        use zstd_safe::{CCtx, InBuffer, OutBuffer, zstd_sys::ZSTD_EndDirective as End};
        let mut context = CCtx::create();
        let mut frame = |text: &str, end| {
            let mut output = [0; 1024];
            let mut sink = OutBuffer::around(&mut output[..]);
            assert_eq!(context.compress_stream2(&mut sink, &mut InBuffer::around(text.as_bytes()), end), Ok(0));
            Bytes::copy_from_slice(sink.as_slice())
        };
        let mut frames: Vec<_> = EVENTS.iter().map(|event| frame(event, End::ZSTD_e_flush)).collect();
        frames.push(frame("", End::ZSTD_e_end));
        frames
    }

    fn body(coding: Coding, frames: Vec<Bytes>) -> Decoded<impl Body<Data = Bytes, Error = Infallible> + Unpin> {
        let frames = frames.into_iter().map(|frame| Ok(Frame::data(frame)));
        Decoded::new(StreamBody::new(tokio_stream::iter(frames)), Some(coding))
    }

    #[tokio::test]
    async fn each_event_comes_out_with_its_own_frame() {
        for (coding, frames) in every_coding() {
            for (index, event) in EVENTS.iter().enumerate() {
                let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
                frames[..=index]
                    .iter()
                    .for_each(|frame| sender.send(Ok::<_, Infallible>(Frame::data(frame.clone()))).unwrap());
                let stream = tokio_stream::wrappers::UnboundedReceiverStream::new(receiver);
                let mut body = Decoded::new(StreamBody::new(stream), Some(coding));
                let mut text = Vec::new();
                while let Some(Some(Ok(frame))) = futures_util::FutureExt::now_or_never(body.frame()) {
                    text.extend_from_slice(&frame.into_data().unwrap());
                }
                assert!(text.ends_with(event.as_bytes()), "{coding:?}, event {index}: {text:?}");
            }
        }
    }

    #[tokio::test]
    async fn in_frames_of_any_size_it_is_the_same_text() {
        for (coding, frames) in every_coding() {
            let bytes = Bytes::from(frames.concat());
            for size in 1..=bytes.len() {
                let frames = bytes.chunks(size).map(|chunk| bytes.slice_ref(chunk)).collect();
                let text = body(coding, frames).collect().await.unwrap().to_bytes();
                assert_eq!(text, EVENTS.concat(), "{coding:?} in frames of {size}");
            }
        }
    }

    #[tokio::test]
    async fn a_cut_and_nonsense_are_errors_after_what_could_be_read() {
        for (coding, frames) in every_coding() {
            let mut cut = body(coding, frames[..2].to_vec());
            let mut text = Vec::new();
            let error = loop {
                match cut.frame().await.unwrap() {
                    Ok(frame) => text.extend_from_slice(&frame.into_data().unwrap()),
                    Err(error) => break error,
                }
            };
            assert_eq!(text, EVENTS[..2].concat().as_bytes(), "{coding:?}");
            assert_eq!(Fault::find(&*error).unwrap().kind(), FaultKind::ConnectionLost, "{coding:?}");
            assert!(cut.frame().await.is_none());
            let nonsense = body(coding, vec![Bytes::from_static(b"\x07 is no such thing \xff\xff\xff\xff")]);
            let error = nonsense.collect().await.unwrap_err();
            assert_eq!(Fault::find(&*error).unwrap().kind(), FaultKind::MalformedResponse, "{coding:?}");
        }
    }

    #[tokio::test]
    async fn what_grows_a_thousandfold_comes_in_bounded_pieces() {
        let mut encoder = write::GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&vec![0; 32 << 20]).unwrap();
        let mut body = body(Coding::Gzip, vec![encoder.finish().unwrap().into()]);
        let (mut total, mut longest) = (0, 0);
        while let Some(frame) = body.frame().await {
            let length = frame.unwrap().into_data().unwrap().len();
            (total, longest) = (total + length, longest.max(length));
        }
        assert_eq!(total, 32 << 20);
        assert!(longest <= 96 << 10, "{longest}");
    }

    #[tokio::test]
    async fn no_body_is_no_error_and_what_is_not_compressed_passes_with_its_size() {
        for (coding, _) in every_coding() {
            assert_eq!(body(coding, vec![]).collect().await.unwrap().to_bytes(), "", "{coding:?}");
        }
        let plain = Decoded::new(Full::new(Bytes::from_static(b"abc")), None);
        assert_eq!(plain.size_hint().exact(), Some(3));
        assert_eq!(plain.collect().await.unwrap().to_bytes(), "abc");
    }

    #[test]
    fn codings_by_name() {
        let of = |values: &[&'static str]| {
            let headers = values.iter().map(|value| (header::CONTENT_ENCODING, HeaderValue::from_static(value)));
            Coding::of(&headers.collect())
        };
        assert_eq!((of(&[]), of(&["Identity"])), (Ok(None), Ok(None)));
        assert_eq!((of(&[" GZIP"]), of(&["x-gzip"])), (Ok(Some(Coding::Gzip)), Ok(Some(Coding::Gzip))));
        assert_eq!((of(&["gzip, br"]), of(&["gzip", "gzip"])), (Err(UnknownCoding), Err(UnknownCoding)));
    }
}
