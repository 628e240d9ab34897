//! SIGHUP, by which an operator says that files have changed.

/// The signals that ask for a reload; where there are none, for ever nothing.
pub(super) struct Hangup(#[cfg(unix)] Option<tokio::signal::unix::Signal>);

impl Hangup {
    #[cfg(unix)]
    pub(super) fn new() -> Self {
        let signal = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup());
        Hangup(signal.inspect_err(|error| tracing::warn!(%error, "SIGHUP will not be heard")).ok())
    }

    #[cfg(not(unix))]
    pub(super) fn new() -> Self {
        Hangup()
    }

    #[cfg(unix)]
    pub(super) async fn next(&mut self) {
        match &mut self.0 {
            Some(signal) => _ = signal.recv().await,
            None => std::future::pending().await,
        }
    }

    #[cfg(not(unix))]
    pub(super) async fn next(&mut self) {
        std::future::pending().await
    }
}
