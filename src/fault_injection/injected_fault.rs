//! What can be injected.

use std::{error::Error, fmt, str::FromStr, time::Duration};

use http::StatusCode;

/// One way for a call to fail on purpose.
///
/// Each has a name, which [`Display`](fmt::Display) prints and [`FromStr`] reads; a parameter comes after a colon
/// (`latency:500ms`, `rate-limited:30s`, `cut:200`, `status:404`).
///
/// ```
/// use std::time::Duration;
/// use tower_failover::fault_injection::InjectedFault;
///
/// let fault: InjectedFault = "rate-limited:30s".parse()?;
/// assert_eq!(fault, InjectedFault::RateLimited { retry_after: Some(Duration::from_secs(30)) });
/// assert_eq!(fault.to_string(), "rate-limited:30s");
/// # Ok::<(), tower_failover::fault_injection::ParseInjectedFaultError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum InjectedFault {
    /// The connection is refused: the request never leaves.
    Down,
    /// The connection ends without an answer.
    Reset,
    /// Nothing is ever answered.
    Hang,
    /// 429.
    RateLimited {
        /// Told in `retry-after` and `retry-after-ms`, if at all.
        retry_after: Option<Duration>,
    },
    /// 529, as Anthropic says that it has too much to do.
    Overloaded,
    /// 503.
    Unavailable,
    /// 500.
    ServerError,
    /// 401.
    Unauthorized,
    /// Any other error status, with nothing but a general error as its body.
    Status(StatusCode),
    /// The call begins so much later, and then goes on as it would have.
    Latency(Duration),
    /// The call goes on as it would have, and its answer's body is cut. A shorter one is left whole.
    Cut {
        /// How many bytes of the body come first. With 0 it is cut before the first event.
        after_bytes: u64,
    },
}

const LATENCY: Duration = Duration::from_secs(5);

impl InjectedFault {
    /// Every name that can be read.
    pub const NAMES: &'static [&'static str] = &[
        "down",
        "reset",
        "hang",
        "rate-limited",
        "overloaded",
        "unavailable",
        "server-error",
        "unauthorized",
        "status",
        "latency",
        "cut",
    ];

    /// The name without its parameter.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Reset => "reset",
            Self::Hang => "hang",
            Self::RateLimited { .. } => "rate-limited",
            Self::Overloaded => "overloaded",
            Self::Unavailable => "unavailable",
            Self::ServerError => "server-error",
            Self::Unauthorized => "unauthorized",
            Self::Status(_) => "status",
            Self::Latency(_) => "latency",
            Self::Cut { .. } => "cut",
        }
    }

    /// The status that is answered, where an error is.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        Some(match self {
            Self::RateLimited { .. } => StatusCode::TOO_MANY_REQUESTS,
            // Not one of those that have a name.
            Self::Overloaded => StatusCode::from_u16(529).unwrap_or(StatusCode::SERVICE_UNAVAILABLE),
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::ServerError => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Status(status) => *status,
            Self::Down | Self::Reset | Self::Hang | Self::Latency(_) | Self::Cut { .. } => return None,
        })
    }

    /// Whether a call that meets it goes on to whoever would have answered it.
    #[must_use]
    pub const fn reaches_the_provider(&self) -> bool {
        matches!(self, Self::Latency(_) | Self::Cut { .. })
    }

    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after } => *retry_after,
            _ => None,
        }
    }
}

impl fmt::Display for InjectedFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::RateLimited { retry_after: Some(wait) } | Self::Latency(wait) => {
                write!(f, ":{}", humantime::format_duration(*wait).to_string().replace(' ', ""))
            }
            Self::Status(status) => write!(f, ":{}", status.as_u16()),
            Self::Cut { after_bytes } if *after_bytes > 0 => write!(f, ":{after_bytes}"),
            _ => Ok(()),
        }
    }
}

impl FromStr for InjectedFault {
    type Err = ParseInjectedFaultError;

    fn from_str(text: &str) -> Result<Self, ParseInjectedFaultError> {
        let (name, value) = match text.split_once(':') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let wrong = |expected| ParseInjectedFaultError { text: text.to_owned(), expected };
        let duration = |value| humantime::parse_duration(value).map_err(|_| wrong("a duration such as 30s or 500ms"));
        let plain = match name {
            "down" => Self::Down,
            "reset" => Self::Reset,
            "hang" => Self::Hang,
            "overloaded" => Self::Overloaded,
            "unavailable" => Self::Unavailable,
            "server-error" => Self::ServerError,
            "unauthorized" => Self::Unauthorized,
            "rate-limited" => return Ok(Self::RateLimited { retry_after: value.map(duration).transpose()? }),
            "latency" => return value.map_or(Ok(LATENCY), duration).map(Self::Latency),
            "cut" => {
                let bytes = value.map(str::parse).transpose().map_err(|_| wrong("a number of bytes"))?;
                return Ok(Self::Cut { after_bytes: bytes.unwrap_or_default() });
            }
            "status" => {
                let status =
                    value.and_then(|value| value.parse().ok()).and_then(|code| StatusCode::from_u16(code).ok());
                let status = status.filter(|status| status.is_client_error() || status.is_server_error());
                return status.map(Self::Status).ok_or_else(|| wrong("an error status, such as status:404"));
            }
            _ => return Err(wrong("")),
        };
        if value.is_some() { Err(wrong("no parameter")) } else { Ok(plain) }
    }
}

/// The text is not an [`InjectedFault`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseInjectedFaultError {
    text: String,
    /// What stands in the place of something else; empty where the name itself is not known.
    expected: &'static str,
}

impl fmt::Display for ParseInjectedFaultError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.expected {
            "" => write!(f, "unknown fault {:?}, expected one of {}", self.text, InjectedFault::NAMES.join(", ")),
            expected => write!(f, "{:?}: expected {expected}", self.text),
        }
    }
}

impl Error for ParseInjectedFaultError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_and_printed_again() {
        for name in InjectedFault::NAMES.iter().filter(|name| **name != "status") {
            let fault: InjectedFault = name.parse().unwrap();
            assert_eq!(fault.name(), *name);
            assert_eq!(fault.to_string().parse::<InjectedFault>().unwrap(), fault);
        }
        for text in ["rate-limited:1s", "latency:500ms", "latency:1m30s", "cut:17", "status:404"] {
            assert_eq!(text.parse::<InjectedFault>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |text: &str| text.parse::<InjectedFault>().unwrap_err().to_string();
        assert!(error("explode").contains("down, reset"));
        assert!(error("down:3").contains("no parameter"));
        assert!(error("latency:soon").contains("duration"));
        assert!(error("cut:-1").contains("number of bytes"));
        for status in ["status", "status:200", "status:x"] {
            assert!(error(status).contains("status:404"), "{status}");
        }
    }
}
