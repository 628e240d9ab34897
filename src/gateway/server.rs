//! Listens, serves, drains.

use std::{future::Future, io, sync::Arc, sync::atomic::Ordering, time::Duration};

use hyper::server::conn::http1;
use hyper_util::rt::TokioTimer;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::MissedTickBehavior,
};

use super::{
    Gateway,
    connection::{self, ClientStream, Phase},
    hangup::Hangup,
    service::GatewayService,
    tls::Tls,
};
use crate::config::AuthSettings;

/// How long to wait when no connection can be accepted (no file descriptors are left, most often).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long the ends of streams that were cut may take to be sent.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How often a timer fires that nobody waits for. Whenever another one comes to be the next of all, tokio writes to its own
/// event file and polls it, as dear as sending a short answer; with one that is always sooner, no bound on a request does that.
const TICK: Duration = Duration::from_secs(1);
/// The most that a connection's buffer grows to unless told otherwise.
const USUAL_BUFFER: usize = 400 << 10;

/// What connections are accepted with.
struct Server {
    http: http1::Builder,
    service: GatewayService,
    tls: Option<Tls>,
    header_timeout: Duration,
    write_timeout: Duration,
    connections: Arc<Semaphore>,
}

impl Gateway {
    /// Serves until `stop` is ready; then refuses new requests and returns when the last answer is finished.
    ///
    /// While answers are being finished, `/readyz` says that this is no place for requests any more. Where `[limits]` has a
    /// `shutdown_timeout`, streams that go on for longer end with an error event.
    ///
    /// # Errors
    ///
    /// When the certificate or the key of `[tls]` cannot be used. What goes wrong with a connection ends that connection.
    pub async fn serve(self, listener: TcpListener, stop: impl Future<Output = ()>) -> io::Result<()> {
        // It may have been made where there was no runtime.
        self.live().keep_keys_fresh();
        self.check_health();
        let server = Server::new(&self)?;
        let address = listener.local_addr()?;
        if AuthSettings::default().may_listen(address).is_err() {
            let _ = self.inner.exposed.set(address);
        }
        let (phase, serving) = watch::channel(Phase::Serving);
        let mut stop = std::pin::pin!(stop);
        let mut hangup = server.tls.is_some().then(Hangup::new);
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let (stream, place) = tokio::select! {
                biased;
                () = &mut stop => break,
                () = heard(&mut hangup) => {
                    server.reload_certificate();
                    continue;
                }
                accepted = server.accept(&listener) => accepted,
                _ = ticks.tick() => continue,
            };
            tokio::spawn(server.serve(stream, place, serving.clone()));
        }
        self.inner.stopping.store(true, Ordering::Relaxed);
        self.end_health_checks();
        drop(serving);
        let _ = phase.send(Phase::Draining);
        self.drain(server, listener, phase).await;
        Ok(())
    }

    /// Finishes what has begun. Whoever comes now is told so, and is not waited for.
    async fn drain(&self, mut server: Server, listener: TcpListener, phase: watch::Sender<Phase>) {
        server.http.keep_alive(false);
        let (_serving, late_phase) = watch::channel(Phase::Serving);
        let refuse_the_late = async {
            let mut late = JoinSet::new();
            loop {
                let (stream, place) = server.accept(&listener).await;
                late.spawn(server.serve(stream, place, late_phase.clone()));
                while late.try_join_next().is_some() {}
            }
        };
        let patience = async {
            match self.live().config.limits.shutdown_timeout {
                Some(timeout) => tokio::time::sleep(timeout).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = phase.closed() => return,
            () = patience => {}
            never = refuse_the_late => never,
        }
        tracing::warn!("answers that are not finished yet are broken off");
        self.inner.slots.cut();
        let _ = phase.send(Phase::Cut);
        let _ = tokio::time::timeout(LAST_WORDS, phase.closed()).await;
        let _ = phase.send(Phase::Over);
    }
}

impl Server {
    fn new(gateway: &Gateway) -> io::Result<Self> {
        let live = gateway.live();
        let limits = &live.config.limits;
        let mut http = http1::Builder::new();
        // Twice the bound, so that a head a little over it is answered in its dialect; one over this has a bare 431.
        let longest = limits.max_headers.saturating_mul(2);
        http.timer(TokioTimer::new()).header_read_timeout(limits.header_timeout).max_header_size(longest);
        if longest > USUAL_BUFFER {
            http.max_buf_size(longest);
        }
        Ok(Server {
            http,
            service: GatewayService::new(gateway.clone()),
            tls: live.config.tls.as_ref().map(Tls::load).transpose()?,
            header_timeout: limits.header_timeout,
            write_timeout: limits.write_timeout,
            connections: Arc::new(Semaphore::new(limits.max_connections.min(Semaphore::MAX_PERMITS))),
        })
    }

    /// The next connection, once there is room for it.
    async fn accept(&self, listener: &TcpListener) -> (TcpStream, Option<OwnedSemaphorePermit>) {
        // Nobody closes it.
        let place = self.connections.clone().acquire_owned().await.ok();
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            // Without it the kernel holds small events back until earlier ones are acknowledged.
            match stream.set_nodelay(true) {
                Ok(()) => return (stream, place),
                Err(error) => tracing::debug!(%error, "a connection ended before it was served"),
            }
        }
    }

    fn serve(
        &self,
        stream: TcpStream,
        place: Option<OwnedSemaphorePermit>,
        mut phase: watch::Receiver<Phase>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let (http, service) = (self.http.clone(), self.service.clone());
        let acceptor = self.tls.as_ref().map(Tls::acceptor);
        let stream = ClientStream::new(stream, self.write_timeout);
        let handshake_timeout = self.header_timeout;
        async move {
            // Taken until the connection is over.
            let _place = place;
            let Some(acceptor) = acceptor else { return connection::serve(http, stream, service, phase).await };
            // Elsewhere, for what a connection that is not encrypted keeps must not have room for all that encryption takes.
            Box::pin(async move {
                let shaken = tokio::select! {
                    biased;
                    // Nothing was asked yet.
                    _ = phase.changed() => return,
                    shaken = tokio::time::timeout(handshake_timeout, acceptor.accept(stream)) => shaken,
                };
                match shaken {
                    Ok(Ok(stream)) => connection::serve(http, stream, service, phase).await,
                    Ok(Err(error)) => tracing::debug!(%error, "a connection ended before it was encrypted"),
                    Err(_) => tracing::debug!("a connection was not encrypted in time"),
                }
            })
            .await;
        }
    }

    fn reload_certificate(&self) {
        if let Some(tls) = &self.tls {
            match tls.reload() {
                Ok(()) => tracing::info!("the certificate was read again"),
                Err(error) => tracing::error!(%error, "the certificate was not changed"),
            }
        }
    }
}

/// Waits for the next signal, if anybody listens for it.
async fn heard(hangup: &mut Option<Hangup>) {
    match hangup {
        Some(hangup) => hangup.next().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[tokio::test]
    async fn an_open_connection_is_small() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let server = Server::new(&Gateway::new(&Config::default())).unwrap();
        let size = size_of_val(&server.serve(stream, None, watch::channel(Phase::Serving).1));
        assert!(size < 2 << 10, "{size} bytes");
    }
}
