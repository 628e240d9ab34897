//! What the program says to whoever runs it, on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Sends what is logged to standard error, as `RUST_LOG` filters it; without that, as `usual` does.
///
/// For programs, once: a second call changes nothing.
pub fn init(format: LogFormat, usual: &str) {
    let filter = match std::env::var("RUST_LOG") {
        Ok(directives) => EnvFilter::try_new(&directives).unwrap_or_else(|error| {
            eprintln!("RUST_LOG is not used: {error}");
            EnvFilter::new(usual)
        }),
        Err(_) => EnvFilter::new(usual),
    };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let _ = match format {
        LogFormat::Human => log.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
}
