//! A connection that can be reset from outside the task that serves it.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// The stream of one connection, shared between the task that serves it and whoever may want to reset it.
#[derive(Debug)]
pub(super) struct Socket {
    stream: Mutex<Option<TcpStream>>,
    gone: Notify,
}

impl Socket {
    pub(super) fn new(stream: TcpStream) -> Self {
        // Every event is to leave on its own; where this cannot be set, it leaves a little later.
        let _ = stream.set_nodelay(true);
        Self { stream: Mutex::new(Some(stream)), gone: Notify::new() }
    }

    /// Resets the connection. When this returns the peer has been sent an RST.
    pub(super) fn reset(&self) {
        if let Some(stream) = self.lock().take() {
            // With no time to linger, closing is an RST and not a FIN.
            let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
        self.gone.notify_one();
    }

    /// Whether it was this side that ended the connection.
    pub(super) fn is_reset(&self) -> bool {
        self.lock().is_none()
    }

    /// Resolves once the connection was reset. For one waiter.
    pub(super) async fn wait_reset(&self) {
        self.gone.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Option<TcpStream>> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The reading and writing end of a [`Socket`].
#[derive(Debug)]
pub(super) struct SocketIo(pub(super) Arc<Socket>);

impl SocketIo {
    fn with<T>(&self, poll: impl FnOnce(Pin<&mut TcpStream>) -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match self.0.lock().as_mut() {
            Some(stream) => poll(Pin::new(stream)),
            None => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }
}

impl AsyncRead for SocketIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for SocketIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.with(|stream| stream.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.with(|stream| stream.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_shutdown(cx))
    }
}
