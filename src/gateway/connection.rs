//! A client's connection: what it is bounded by, and how it ends.

use std::{
    future::Future,
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::watch,
    time::{Instant, Sleep},
};

use super::service::GatewayService;

/// How far the server is with stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Serving,
    /// Answers that have begun are finished.
    Draining,
    /// Streams end now: they look for themselves, when they are polled.
    Cut,
    Over,
}

/// Serves one connection to its end.
pub(super) async fn serve<S>(
    http: http1::Builder,
    stream: S,
    service: GatewayService,
    mut phase: watch::Receiver<Phase>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
    loop {
        let changed = tokio::select! {
            biased;
            changed = phase.changed() => changed,
            ended = connection.as_mut() => {
                return ended.unwrap_or_else(|error| tracing::debug!(%error, "a connection ended"));
            }
        };
        if changed.is_err() {
            // Whoever served is gone, and left its connections to themselves.
            let _ = connection.await;
            return;
        }
        match *phase.borrow_and_update() {
            Phase::Serving | Phase::Cut => {}
            Phase::Draining => connection.as_mut().graceful_shutdown(),
            Phase::Over => return,
        }
    }
}

/// A stream to a client, which ends when the client leaves unread for too long what is sent to it.
#[derive(Debug)]
pub(super) struct ClientStream<S> {
    inner: S,
    patience: Duration,
    /// Made when the client first does not keep up, which most never do.
    timer: Option<Pin<Box<Sleep>>>,
    waiting: bool,
    /// What may still be read of a client that goes on sending to a connection that is over.
    unread: usize,
    closing: Option<Pin<Box<Sleep>>>,
}

/// How much is read, and for how long, of a client that sends what nobody wants (a body that was refused, most often). Closed
/// before, the connection would be reset, and the client not read why.
const UNREAD: usize = 64 << 20;
const UNREAD_PATIENCE: Duration = Duration::from_secs(2);

impl<S> ClientStream<S> {
    pub(super) fn new(inner: S, patience: Duration) -> Self {
        ClientStream { inner, patience, timer: None, waiting: false, unread: UNREAD, closing: None }
    }

    /// What a write came to, or that the client has taken nothing for too long.
    fn bounded<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waiting = false;
            return written;
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.patience)));
        if !self.waiting {
            self.waiting = true;
            timer.as_mut().reset(Instant::now() + self.patience);
        }
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client reads nothing")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ClientStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<S: AsyncRead + Unpin> ClientStream<S> {
    /// Reads what the client goes on sending. Ready when it does not, or for too long.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut scrap = [MaybeUninit::uninit(); 8 << 10];
        while self.unread > 0 {
            let mut buffer = ReadBuf::uninit(&mut scrap);
            match Pin::new(&mut self.inner).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.unread = self.unread.saturating_sub(buffer.filled().len());
                    self.closing.get_or_insert_with(|| Box::pin(tokio::time::sleep(UNREAD_PATIENCE)));
                }
                Poll::Ready(_) => break,
                Poll::Pending => match &mut self.closing {
                    Some(closing) => return closing.as_mut().poll(cx),
                    // It sends nothing: there is nothing to be reset.
                    None => break,
                },
            }
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ClientStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, data);
        self.bounded(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, data);
        self.bounded(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A socket's is ready always; what waits here belongs to the writes before.
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.inner).poll_shutdown(cx))?;
        self.poll_discard(cx).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_is_given_up_on() {
        let (ours, theirs) = tokio::io::duplex(64);
        let mut stream = ClientStream::new(ours, Duration::from_secs(60));
        let began = Instant::now();
        let error = stream.write_all(&[0; 100]).await.unwrap_err();
        assert_eq!((error.kind(), began.elapsed().as_secs()), (io::ErrorKind::TimedOut, 60));
        drop(theirs);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_slowly_is_served() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut stream = ClientStream::new(ours, Duration::from_secs(60));
        let read = tokio::spawn(async move {
            let mut byte = [0; 16];
            let mut count = 0;
            while let Ok(read @ 1..) = theirs.read(&mut byte).await {
                count += read;
                tokio::time::sleep(Duration::from_secs(50)).await;
            }
            count
        });
        stream.write_all(&[0; 1000]).await.unwrap();
        // Silence that is ours is nobody's fault.
        tokio::time::sleep(Duration::from_secs(1000)).await;
        stream.write_all(&[0; 1000]).await.unwrap();
        drop(stream);
        assert_eq!(read.await.unwrap(), 2000);
    }
}
