//! `[limits]`, `[tls]` and `[log]`: what the server takes, and how it speaks.

use std::{path::PathBuf, time::Duration};

use super::reader::Table;

/// What the server takes of its clients at the most.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerLimits {
    /// The longest head of a request, in bytes.
    pub max_headers: usize,
    /// Connections at once; whoever comes then waits to be accepted.
    pub max_connections: usize,
    /// Requests at once, each until its answer has ended; the next is refused.
    pub max_requests: usize,
    /// How long the head of a request may take to come, and a connection may wait for the next.
    pub header_timeout: Duration,
    /// How long the body of a request may take to come.
    pub body_timeout: Duration,
    /// How long a client may leave unread what is sent to it.
    pub write_timeout: Duration,
    /// How long streams may go on once the server is told to stop; `None` until their end.
    pub shutdown_timeout: Option<Duration>,
}

impl Default for ServerLimits {
    fn default() -> Self {
        ServerLimits {
            max_headers: 64 << 10,
            max_connections: 10_000,
            max_requests: 10_000,
            header_timeout: Duration::from_secs(75),
            body_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(60),
            shutdown_timeout: None,
        }
    }
}

impl ServerLimits {
    /// Takes `[limits]`, with the longest request body where it says so.
    pub(super) fn read(root: &mut Table<'_>) -> (Self, Option<usize>) {
        let base = ServerLimits::default();
        let Some(mut table) = root.take_table("limits") else { return (base, None) };
        let mut size = |name| table.take(name).and_then(|value| value.size());
        let (max_body, max_headers) = (size("max_body"), size("max_headers"));
        let mut count = |name| table.take_u32(name).and_then(|number| usize::try_from(number).ok());
        let (max_connections, max_requests) = (count("max_connections"), count("max_requests"));
        let limits = ServerLimits {
            max_headers: max_headers.unwrap_or(base.max_headers),
            max_connections: max_connections.unwrap_or(base.max_connections),
            max_requests: max_requests.unwrap_or(base.max_requests),
            header_timeout: table.take_duration("header_timeout").unwrap_or(base.header_timeout),
            body_timeout: table.take_duration("body_timeout").unwrap_or(base.body_timeout),
            write_timeout: table.take_duration("write_timeout").unwrap_or(base.write_timeout),
            shutdown_timeout: table.take_duration("shutdown_timeout"),
        };
        table.finish();
        (limits, max_body)
    }
}

/// The files that TLS is served with, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsFiles {
    /// The certificate, and those between it and the root behind it.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl TlsFiles {
    /// Takes `[tls]`.
    pub(super) fn read(root: &mut Table<'_>) -> Option<Self> {
        let mut table = root.take_table("tls")?;
        let mut file = |name| {
            let value = table.take_required(name)?;
            let path = value.string()?;
            let file = value.spot().reader().path(path);
            if !value.spot().reader().looks_up_secrets() {
                return Some(file);
            }
            // Only whether it can be read: what is in it is for whoever speaks TLS.
            match std::fs::File::open(&file) {
                Ok(_) => Some(file),
                Err(error) => value.spot().fail(format_args!("the file {path:?} cannot be read: {error}")),
            }
        };
        let (certificate, key) = (file("certificate"), file("key"));
        table.finish();
        Some(TlsFiles { certificate: certificate?, key: key? })
    }
}

/// What the log looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Human,
    /// A JSON object a line.
    Json,
}

impl LogFormat {
    /// The names, as the file and the command line write them.
    pub const NAMES: [&'static str; 2] = ["human", "json"];

    /// The format of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "human" => Some(LogFormat::Human),
            "json" => Some(LogFormat::Json),
            _ => None,
        }
    }

    /// Takes `[log]`.
    pub(super) fn read(root: &mut Table<'_>) -> Option<Self> {
        let mut table = root.take_table("log")?;
        let format = table.take("format").and_then(|value| value.choice(&Self::NAMES)).and_then(Self::from_name);
        table.finish();
        format
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, ConfigErrors};
    use std::path::Path;

    fn read(root: &str) -> Result<Config, ConfigErrors> {
        let rest = "[providers.p]\ndialect = 'openai-chat'\nbase_url = 'http://h'\n\
            [routes.'*']\ntargets = [{ provider = 'p' }]\n";
        Config::from_toml(&format!("{root}\n{rest}"), Path::new("gateway.toml"), &|_| None)
    }

    #[test]
    fn every_bound_has_a_default_and_can_be_set() {
        let config = read("").unwrap();
        assert_eq!((&config.limits, config.log, &config.tls), (&ServerLimits::default(), LogFormat::Human, &None));
        let config = read(
            "[log]\nformat = 'json'\n[limits]\nmax_body = '1MiB'\nmax_headers = '8KiB'\nmax_connections = 5\n\
             max_requests = 6\nheader_timeout = '1s'\nbody_timeout = '2s'\nwrite_timeout = '3s'\n\
             shutdown_timeout = '4s'",
        )
        .unwrap();
        let seconds = Duration::from_secs;
        let expected = ServerLimits {
            max_headers: 8 << 10,
            max_connections: 5,
            max_requests: 6,
            header_timeout: seconds(1),
            body_timeout: seconds(2),
            write_timeout: seconds(3),
            shutdown_timeout: Some(seconds(4)),
        };
        assert_eq!((config.limits, config.max_body, config.log), (expected, 1 << 20, LogFormat::Json));
    }

    #[test]
    fn tls_needs_both_files() {
        let errors = read("[tls]\nkey = 'not-there.pem'").map(|_| ()).unwrap_err().to_string();
        assert!(errors.contains("tls.certificate: is missing"), "{errors}");
        assert!(errors.contains("tls.key: the file \"not-there.pem\" cannot be read"), "{errors}");
    }
}
