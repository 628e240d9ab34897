//! Simulated LLM providers: real sockets, true answers, and faults that can be switched while they run.
//!
//! For tests, demos and drills. A [`SimulatedProvider`] listens on a port of its own and answers as OpenAI's
//! chat completions and responses and Anthropic's messages do, each under its own path: whole or as a stream, with text, tool calls or
//! structured output. A
//! [`SimulatedFault`] makes it fail in one of the ways in which providers fail: refused and reset
//! connections, silence, rate limits, and streams that stop half-way.
//!
//! ```
//! use std::time::Duration;
//! use tokio::net::TcpStream;
//! use tower_failover::simulated::{SimulatedFault, SimulatedProvider};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let primary = SimulatedProvider::start("primary").await?;
//! let backup = SimulatedProvider::builder("backup")
//!     .answer("Good day.")
//!     .chunk_delay(Duration::from_millis(30))
//!     .start()
//!     .await?;
//! println!("{} and {}", primary.base_url(), backup.base_url());
//!
//! // The next two requests are turned away, then all is well again.
//! let limited = SimulatedFault::RateLimited { retry_after: Some(Duration::from_secs(1)) };
//! primary.set_fault_times(limited, 2);
//!
//! // Every stream is cut after five chunks.
//! primary.set_fault("cut:5".parse()?);
//!
//! // Nobody is at home, and then somebody is, on the same port.
//! primary.set_fault(SimulatedFault::Down);
//! assert!(TcpStream::connect(primary.address()).await.is_err());
//! primary.set_fault(SimulatedFault::None);
//! assert!(TcpStream::connect(primary.address()).await.is_ok());
//! # Ok(())
//! # }
//! ```
//!
//! # Answers
//!
//! A text names the provider and repeats the last user message, so that it shows who answered what. Where
//! the request offers tools and its last message is the user's, the answer calls the function that
//! `tool_choice` names, or else the first; or all those that the message mentions by name, if there are
//! several and `parallel_tool_calls` allows it. Arguments and structured output are instances of their JSON
//! schemas. An answer ends at a stop sequence, and when it has as many tokens (of a text: words) as it may have. A request
//! that is wrong is told so in the API's own words.
//!
//! Where the request asks for reasoning (`reasoning_effort`, `reasoning`, `thinking`), some comes first
//! (`reasoning_content`, a reasoning item that says something where a summary is asked for, a
//! `thinking` block).
//!
//! Gemini's answers come as events or as an array, for a key in `x-goog-api-key`, in `?key=` or as a bearer's. Models of its
//! third generation sign their calls, and want that back.
//!
//! # Streams that go wrong
//!
//! [`SimulatedFault::Stream`] breaks a stream in each way ([`StreamFault`]) at each point ([`StreamPoint`]):
//!
//! | fault | what happens |
//! |---|---|
//! | `cut`, `end-early`, `stall` | the connection is reset, the body ends, nothing more comes: amid an event where the point is amid something |
//! | `pings` | nothing but keep-alives |
//! | `error` | an error event |
//! | `malformed` | one event that cannot be read, besides the others |
//! | `garbled` | one event that cannot be read, in the place of the one that is due |
//! | `oversized` | an event without an end |
//!
//! What is unusual and no fault is a [`StreamStyle`]: line ends, a byte order mark, comments, data in several lines, events in
//! pieces, compression, JSON in the place of a stream or the other way about, no content type.
//!
//! # Continuing what another began
//!
//! A request whose messages end with an assistant's turn, or with one and a message that says to "continue", is answered
//! with the rest of what the provider would have said to the turn before: a text depends on that turn (and the provider's
//! name, or its [`answer`](SimulatedProviderBuilder::answer)), and on nothing else. Or with something else:
//! [`set_continuation`](SimulatedProvider::set_continuation),
//! [`set_prefill_refused`](SimulatedProvider::set_prefill_refused).
//!
//! # What it does not do
//!
//! It speaks HTTP/1.1 without TLS, and gives one choice whatever `n` is. Of chat completions it lets members pass that it
//! does not know, as the servers do that only resemble OpenAI's.

mod answer;
mod anthropic_messages;
mod api;
mod builder;
mod continuation;
mod exchange;
mod fault;
mod gemini;
mod media;
mod openai;
mod openai_chat;
mod openai_responses;
mod received;
mod schema;
mod script;
mod server;
mod socket;
mod stream_fault;
mod style;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinHandle;

pub use self::builder::SimulatedProviderBuilder;
pub use self::continuation::{Continuation, ParseContinuationError};
pub use self::fault::{ParseFaultError, SimulatedFault};
pub use self::received::ReceivedRequest;
use self::server::Server;
pub use self::stream_fault::{StreamFault, StreamPoint};
pub use self::style::{Compressed, LineEnd, StreamStyle};

/// A running simulated provider; a handle that is cheap to clone.
///
/// The server stops when the last handle is dropped, or on [`shutdown`](Self::shutdown): its port is closed
/// and its connections are reset. Its methods may be called from any thread.
#[derive(Clone)]
pub struct SimulatedProvider {
    running: Arc<Running>,
}

struct Running {
    server: Arc<Server>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl SimulatedProvider {
    /// Sets up a provider. Its name is part of its text answers.
    pub fn builder(name: impl Into<String>) -> SimulatedProviderBuilder {
        SimulatedProviderBuilder::new(name.into())
    }

    /// Starts a healthy provider on a free port of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// If there is no free port, or outside of a tokio runtime.
    pub async fn start(name: impl Into<String>) -> io::Result<Self> {
        Self::builder(name).start().await
    }

    fn new(server: Arc<Server>, task: JoinHandle<()>) -> Self {
        let task = Mutex::new(Some(task));
        Self { running: Arc::new(Running { server, task }) }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.server().settings.name
    }

    /// Where it listens, or listened while it is down.
    pub fn address(&self) -> SocketAddr {
        self.server().address
    }

    /// The base URL as an OpenAI SDK wants it: `http://127.0.0.1:PORT/v1`. Of a provider that listens everywhere,
    /// the loopback address.
    pub fn base_url(&self) -> String {
        let mut address = self.address();
        if address.ip().is_unspecified() {
            address.set_ip(match address {
                SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        format!("http://{address}/v1")
    }

    /// Sets what requests meet from now on, until it is changed.
    ///
    /// In effect when this returns: no request whose head is read later meets the old fault.
    /// [`Down`](SimulatedFault::Down) has closed the listener and reset every connection, requests in flight
    /// included; whatever other fault follows it has opened the same port again. Should another program have
    /// taken the port meanwhile, which only happens where a closed port cannot be reserved, the provider
    /// stays down and [`fault`](Self::fault) says so.
    ///
    /// Other faults leave requests in flight alone. Nothing happens after [`shutdown`](Self::shutdown).
    pub fn set_fault(&self, fault: SimulatedFault) {
        self.server().set_fault(fault, None);
    }

    /// Sets what the next `times` requests meet; the provider is healthy after them.
    ///
    /// Requests of all kinds count, `GET {base}/models` included. Being [`Down`](SimulatedFault::Down) is
    /// nothing that a request could use up: it lasts until changed, as with [`set_fault`](Self::set_fault).
    pub fn set_fault_times(&self, fault: SimulatedFault, times: u64) {
        self.server().set_fault(fault, Some(times));
    }

    /// Sets how answers are written from now on.
    pub fn set_style(&self, style: StreamStyle) {
        self.server().change_manner(|manner| manner.style = style);
    }

    /// Sets how an answer is continued that was begun by another.
    pub fn set_continuation(&self, continuation: Continuation) {
        self.server().change_manner(|manner| manner.continuation = continuation);
    }

    /// Sets whether a request whose last message is the assistant's is refused with a 400.
    pub fn set_prefill_refused(&self, refused: bool) {
        self.server().change_manner(|manner| manner.refuses_prefill = refused);
    }

    /// What the next request meets.
    pub fn fault(&self) -> SimulatedFault {
        self.server().fault()
    }

    /// How many requests came, those that met a fault included. Counted when the head was read, before any
    /// answer.
    pub fn request_count(&self) -> u64 {
        self.server().requests.load(Ordering::Relaxed)
    }

    /// How many connections were accepted.
    pub fn connection_count(&self) -> u64 {
        self.server().connections.load(Ordering::Relaxed)
    }

    /// How many requests the caller left before their answer had been sent to its end: while they were being
    /// received, waited, or streamed. Answers that this side broke off do not count.
    ///
    /// A caller's leaving is noticed some time after it left.
    pub fn aborted_count(&self) -> u64 {
        self.server().aborted.load(Ordering::Relaxed)
    }

    /// The last 1,000 requests, oldest first; fewer where their bodies have more than 64 MiB together.
    pub fn received(&self) -> Vec<ReceivedRequest> {
        self.server().received()
    }

    /// Forgets what was received, and counts from zero. The fault remains.
    pub fn clear(&self) {
        self.server().clear();
    }

    /// Closes the port and resets every connection; returns when nothing of the server runs any more.
    ///
    /// Other handles may still be asked for what was received.
    pub async fn shutdown(&self) {
        self.server().stop();
        let task = {
            let mut task = self.running.task.lock().unwrap_or_else(PoisonError::into_inner);
            task.take()
        };
        if let Some(task) = task {
            // It ends early only together with its runtime.
            let _ = task.await;
        }
    }

    fn server(&self) -> &Server {
        &self.running.server
    }
}

impl fmt::Debug for SimulatedProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedProvider")
            .field("name", &self.name())
            .field("address", &self.address())
            .field("fault", &self.fault())
            .finish_non_exhaustive()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.server.stop();
    }
}
