//! The accept loop, the connections, and the switch between them.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::SimulatedFault;
use super::builder::Settings;
use super::continuation::Continuation;
use super::exchange::respond;
use super::received::{ReceivedRequest, Record};
use super::socket::{Socket, SocketIo};
use super::style::StreamStyle;

/// A server and what it has seen. Its handles and its tasks share it.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) settings: Settings,
    pub(super) address: SocketAddr,
    pub(super) requests: AtomicU64,
    pub(super) connections: AtomicU64,
    pub(super) aborted: AtomicU64,
    ids: AtomicU64,
    id_prefix: String,
    record: Mutex<Record>,
    runtime: Handle,
    switch: Mutex<Switch>,
    manner: Mutex<Manner>,
    /// Wakes the accept loop after each turn of the switch.
    switched: Notify,
}

/// How answers are given, none of which is a fault.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Manner {
    pub(super) style: StreamStyle,
    pub(super) continuation: Continuation,
    pub(super) refuses_prefill: bool,
}

/// All that decides whether and how a request is met, under one lock: a connection is accepted and known, or
/// not accepted at all, when the provider goes down.
#[derive(Debug)]
struct Switch {
    listening: Listening,
    connections: Vec<Weak<Socket>>,
    fault: SimulatedFault,
    /// For how many more requests, if not until changed.
    times: Option<u64>,
}

#[derive(Debug)]
enum Listening {
    Open(TcpListener),
    /// Closed; the port is kept by a socket that is bound and does not listen, so that connecting is refused
    /// and nobody else is given the port.
    Reserved(socket2::Socket),
    /// Closed, and the port could not be kept.
    Closed,
    /// For ever.
    Stopped,
}

impl Server {
    /// Binds, and listens from now on. Nothing is accepted before [`run`](Self::run).
    pub(super) fn bind(settings: Settings, runtime: Handle) -> io::Result<Self> {
        let socket = bind(settings.listen)?;
        let listener = listen(socket, &runtime)?;
        Ok(Self {
            address: listener.local_addr()?,
            requests: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            aborted: AtomicU64::new(0),
            ids: AtomicU64::new(0),
            id_prefix: id_prefix(&settings.name),
            record: Mutex::default(),
            runtime,
            switch: Mutex::new(Switch {
                listening: Listening::Open(listener),
                connections: Vec::new(),
                fault: SimulatedFault::None,
                times: None,
            }),
            manner: Mutex::default(),
            switched: Notify::new(),
            settings,
        })
    }

    /// Accepts and serves until [`stop`](Self::stop).
    pub(super) async fn run(self: Arc<Self>) {
        let mut serving = JoinSet::new();
        loop {
            tokio::select! {
                accepted = poll_fn(|cx| self.poll_accept(cx)) => match accepted {
                    Ok(socket) => {
                        serving.spawn(serve(self.clone(), socket));
                    }
                    Err(error) => {
                        // Out of descriptors, in general: they come back.
                        tracing::debug!(%error, "accepting failed");
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                },
                Some(_) = serving.join_next() => {}
                () = self.switched.notified() => {
                    if matches!(self.switch().listening, Listening::Stopped) {
                        break;
                    }
                }
            }
        }
        while serving.join_next().await.is_some() {}
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Arc<Socket>>> {
        let mut switch = self.switch();
        let Listening::Open(listener) = &switch.listening else {
            return Poll::Pending;
        };
        listener.poll_accept(cx).map_ok(|(stream, _)| {
            self.connections.fetch_add(1, Ordering::Relaxed);
            let socket = Arc::new(Socket::new(stream));
            if switch.connections.len() == switch.connections.capacity() {
                switch.connections.retain(|known| known.strong_count() > 0);
            }
            switch.connections.push(Arc::downgrade(&socket));
            socket
        })
    }

    /// Changes the fault; in effect when this returns.
    pub(super) fn set_fault(&self, fault: SimulatedFault, times: Option<u64>) {
        let (fault, times) = match (fault, times) {
            (_, Some(0)) => (SimulatedFault::None, None),
            // Being down is nothing that a request could use up.
            (SimulatedFault::Down, _) => (SimulatedFault::Down, None),
            unchanged => unchanged,
        };
        let mut switch = self.switch();
        if fault == SimulatedFault::Down {
            if matches!(switch.listening, Listening::Open(_)) {
                // The old listener must be closed before the port can be bound again.
                switch.close(Listening::Closed);
                if let Ok(socket) = bind(self.address) {
                    switch.listening = Listening::Reserved(socket);
                }
            }
        } else if let Err(error) = switch.open(self.address, &self.runtime) {
            tracing::error!(%error, address = %self.address, "the port is taken, still down");
            return;
        }
        (switch.fault, switch.times) = (fault, times);
        drop(switch);
        self.switched.notify_one();
    }

    pub(super) fn fault(&self) -> SimulatedFault {
        self.switch().fault.clone()
    }

    /// Closes the listener for good and resets every connection.
    pub(super) fn stop(&self) {
        self.switch().close(Listening::Stopped);
        self.switched.notify_one();
    }

    /// Counts a request, and says what it meets.
    pub(super) fn begin(&self) -> SimulatedFault {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let mut switch = self.switch();
        let fault = switch.fault.clone();
        if let Some(times) = &mut switch.times {
            *times -= 1;
            if *times == 0 {
                (switch.fault, switch.times) = (SimulatedFault::None, None);
            }
        }
        fault
    }

    pub(super) fn record(&self, request: ReceivedRequest) {
        self.lock_record().push(request);
    }

    pub(super) fn received(&self) -> Vec<ReceivedRequest> {
        self.lock_record().to_vec()
    }

    pub(super) fn clear(&self) {
        self.lock_record().clear();
        for count in [&self.requests, &self.connections, &self.aborted] {
            count.store(0, Ordering::Relaxed);
        }
    }

    /// The next of this server's ids: letters and digits, the same in every run.
    pub(super) fn next_id(&self) -> String {
        let n = self.ids.fetch_add(1, Ordering::Relaxed) + 1;
        format!("{}{n:013}", self.id_prefix)
    }

    pub(super) fn manner(&self) -> Manner {
        *self.manner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn change_manner(&self, change: impl FnOnce(&mut Manner)) {
        change(&mut self.manner.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn switch(&self) -> MutexGuard<'_, Switch> {
        self.switch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Switch {
    fn close(&mut self, listening: Listening) {
        // Connections that nobody has accepted yet are reset by the system.
        self.listening = listening;
        for socket in self.connections.drain(..) {
            if let Some(socket) = socket.upgrade() {
                socket.reset();
            }
        }
    }

    fn open(&mut self, address: SocketAddr, runtime: &Handle) -> io::Result<()> {
        let socket = match std::mem::replace(&mut self.listening, Listening::Closed) {
            Listening::Reserved(socket) => socket,
            Listening::Closed => bind(address)?,
            unchanged => {
                self.listening = unchanged;
                return Ok(());
            }
        };
        self.listening = Listening::Open(listen(socket, runtime)?);
        Ok(())
    }
}

fn bind(address: SocketAddr) -> io::Result<socket2::Socket> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // So that connections of an earlier listener, not yet forgotten by the system, do not keep the port. On
    // Windows they never do, and the option means something else.
    #[cfg(not(windows))]
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn listen(socket: socket2::Socket, runtime: &Handle) -> io::Result<TcpListener> {
    socket.listen(1024)?;
    socket.set_nonblocking(true)?;
    // The caller may be outside of the runtime.
    let _entered = runtime.enter();
    TcpListener::from_std(socket.into())
}

async fn serve(server: Arc<Server>, socket: Arc<Socket>) {
    let service = service_fn(|request| {
        let exchange = respond(server.clone(), socket.clone(), request);
        async { Ok::<_, Infallible>(exchange.await) }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(SocketIo(socket.clone())), service);
    tokio::select! {
        biased;
        () = socket.wait_reset() => {}
        // That the caller went away is no news here.
        _ = connection => {}
    }
}

/// Makes the ids of differently named providers differ: FNV-1a of the name.
fn id_prefix(name: &str) -> String {
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}
