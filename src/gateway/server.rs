//! Listens, serves, drains.

use std::{future::Future, io, sync::atomic::Ordering, time::Duration};

use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use tokio::net::TcpListener;

use super::{Gateway, service::GatewayService};

/// How long to wait when no connection can be accepted (no file descriptors are left, most often).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Gateway {
    /// Serves until `stop` is ready; then refuses new requests at once and returns when the last answer is finished.
    ///
    /// # Errors
    ///
    /// Never, once it listens: what goes wrong with a connection ends that connection.
    pub async fn serve(self, listener: TcpListener, stop: impl Future<Output = ()>) -> io::Result<()> {
        // It may have been made where there was no runtime.
        self.live().keep_keys_fresh();
        let service = GatewayService::new(self.clone());
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new());
        let connections = GracefulShutdown::new();
        let mut stop = std::pin::pin!(stop);
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut stop => break,
                accepted = listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            // Without it the kernel holds small events back until earlier ones are acknowledged.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "a connection ended before it was served");
                continue;
            }
            let connection = connections.watch(http.serve_connection(TokioIo::new(stream), service.clone()));
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a connection ended");
                }
            });
        }
        self.inner.stopping.store(true, Ordering::Relaxed);
        drop(listener);
        connections.shutdown().await;
        Ok(())
    }
}
