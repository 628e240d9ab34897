//! How a simulated provider is set up.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio::runtime::Handle;

use super::SimulatedProvider;
use super::server::Server;

/// What stays the same while a provider runs.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) name: String,
    pub(super) listen: SocketAddr,
    pub(super) answer: Option<String>,
    pub(super) chunks: usize,
    pub(super) first_output_delay: Duration,
    pub(super) chunk_delay: Duration,
    pub(super) key: Option<SecretString>,
    pub(super) models: Vec<String>,
}

/// Sets up a [`SimulatedProvider`]; from [`SimulatedProvider::builder`].
#[derive(Clone, Debug)]
#[must_use = "nothing runs before `start`"]
pub struct SimulatedProviderBuilder {
    settings: Settings,
}

impl SimulatedProviderBuilder {
    pub(super) fn new(name: String) -> Self {
        Self {
            settings: Settings {
                name,
                listen: (Ipv4Addr::LOCALHOST, 0).into(),
                answer: None,
                chunks: usize::MAX,
                first_output_delay: Duration::ZERO,
                chunk_delay: Duration::ZERO,
                key: None,
                models: vec!["gpt-4o".to_owned(), "gpt-4o-mini".to_owned()],
            },
        }
    }

    /// Where to listen; a free port of 127.0.0.1 by default.
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.settings.listen = address;
        self
    }

    /// What every text answer says, instead of a sentence that repeats the last user message.
    ///
    /// Requests for a tool call or for structured output are still answered with those.
    pub fn answer(mut self, text: impl Into<String>) -> Self {
        self.settings.answer = Some(text.into());
        self
    }

    /// How many content chunks a stream has at most, at least one; a chunk a word by default.
    pub fn chunks(mut self, most: usize) -> Self {
        self.settings.chunks = most.max(1);
        self
    }

    /// How long an answer takes to begin: a stream sends its head and opens the turn at once and waits before
    /// its first content chunk, a JSON answer waits before its head. Zero by default.
    pub fn first_output_delay(mut self, delay: Duration) -> Self {
        self.settings.first_output_delay = delay;
        self
    }

    /// How long a stream waits between two content chunks. Zero by default.
    pub fn chunk_delay(mut self, delay: Duration) -> Self {
        self.settings.chunk_delay = delay;
        self
    }

    /// The key that every request must bring as `Authorization: Bearer` (or, to Anthropic's paths, as `x-api-key`),
    /// or be answered 401. None by default.
    pub fn require_key(mut self, key: impl Into<SecretString>) -> Self {
        self.settings.key = Some(key.into());
        self
    }

    /// The models that `GET {base}/models` lists; `gpt-4o` and `gpt-4o-mini` by default. Requests may name any
    /// model.
    pub fn models<I>(mut self, models: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.settings.models = models.into_iter().map(Into::into).collect();
        self
    }

    /// Starts the provider on the current tokio runtime. It accepts connections when this returns.
    ///
    /// # Errors
    ///
    /// If the address cannot be listened on, or outside of a tokio runtime.
    pub async fn start(self) -> io::Result<SimulatedProvider> {
        let runtime = Handle::try_current().map_err(io::Error::other)?;
        let server = Arc::new(Server::bind(self.settings, runtime.clone())?);
        let task = runtime.spawn(server.clone().run());
        Ok(SimulatedProvider::new(server, task))
    }
}
