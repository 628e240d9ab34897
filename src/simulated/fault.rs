//! What a simulated provider can be told to do wrong.

use std::error::Error;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::stream_fault::{self, StreamFault, StreamPoint};

/// One way for a provider to fail, or [`None`](SimulatedFault::None).
///
/// Each has a kebab-case name, which [`Display`](fmt::Display) prints and [`FromStr`] reads. Those with a
/// parameter take it after a colon (`rate-limited:30s`, `cut:5`, `slow-first-token:500ms`); the bare name
/// means the default, and the default is printed as the bare name.
///
/// ```
/// use std::time::Duration;
/// use tower_failover::simulated::SimulatedFault;
///
/// let fault: SimulatedFault = "rate-limited:30s".parse()?;
/// assert_eq!(fault, SimulatedFault::RateLimited { retry_after: Some(Duration::from_secs(30)) });
/// assert_eq!(fault.to_string(), "rate-limited:30s");
/// # Ok::<(), tower_failover::simulated::ParseFaultError>(())
/// ```
///
/// In the faults of a stream that count chunks, a *content chunk* is an event that carries output: a piece of text, the head of
/// a tool call or a piece of its arguments. The chunk that only opens the assistant's turn is none, so
/// `after_chunks: 0` fails after that one. A stream with fewer chunks fails after the last of them, always
/// before its finish reason.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum SimulatedFault {
    /// Healthy.
    #[default]
    None,
    /// The listener is closed, so that connecting is refused, and every open connection is reset.
    Down,
    /// The request is read, then the connection is reset before any byte of an answer.
    Reset,
    /// The request is read, the connection stays open, and nothing is ever answered.
    Silent,
    /// 429 `rate_limit_exceeded`.
    RateLimited {
        /// Told in `retry-after`, `retry-after-ms` and the message; without it no hint is given in any of them.
        retry_after: Option<Duration>,
    },
    /// 429 `insufficient_quota`.
    QuotaExhausted,
    /// 503, the model is overloaded.
    Overloaded,
    /// 500.
    ServerError,
    /// 502 with the HTML page of a proxy.
    BadGatewayHtml,
    /// 401 `invalid_api_key`.
    Unauthorized,
    /// 403, the country is not supported.
    Forbidden,
    /// 404 `model_not_found`, naming the model asked for.
    ModelNotFound,
    /// 400 `context_length_exceeded`.
    ContextLengthExceeded,
    /// 400 `unsupported_parameter`.
    UnsupportedParameter,
    /// 400, the request itself is wrong.
    BadRequest,
    /// 400 `content_policy_violation`.
    ContentFiltered,
    /// A stream sends its head and opens the turn at once, then waits before the first output.
    /// A JSON answer waits before its head.
    SlowFirstToken {
        /// How long; 20 s by default.
        delay: Duration,
    },
    /// The connection is reset within the answer: a stream after so many content chunks, a JSON answer after
    /// half of the announced body.
    Cut {
        /// How many content chunks come first; 3 by default.
        after_chunks: usize,
    },
    /// The body ends cleanly but too early: a stream after so many content chunks, without finish reason and
    /// `[DONE]`; a JSON answer is truncated JSON with a true `content-length`.
    EndEarly {
        /// How many content chunks come first; 3 by default.
        after_chunks: usize,
    },
    /// The answer falls silent for ever with its connection open: a stream after so many content chunks, a
    /// JSON answer after half of the announced body.
    Stall {
        /// How many content chunks come first; 3 by default.
        after_chunks: usize,
    },
    /// 200, and the very first event is an error, then `[DONE]`. A JSON answer is a 200 with an error as body.
    ErrorFirstEvent,
    /// An error event after so many content chunks ends the stream, without `[DONE]`. A JSON answer is a 200
    /// with an error as body.
    ErrorMidStream {
        /// How many content chunks come first; 3 by default.
        after_chunks: usize,
    },
    /// 200 with an event stream that ends at once. A JSON answer is a 200 with an empty body.
    EmptyStream,
    /// 200 with an HTML page.
    HtmlOk,
    /// A stream goes wrong in some way at some point: `stream:cut@in-text`, which is also the default. In a JSON answer,
    /// whatever the point, it is the nearest thing: a cut, a stall, half of it, or a 200 with an error.
    Stream {
        /// What happens.
        fault: StreamFault,
        /// Where.
        at: StreamPoint,
    },
}

const SLOW: Duration = Duration::from_secs(20);
const CHUNKS: usize = 3;
const STREAM: (StreamFault, StreamPoint) = (StreamFault::Cut, StreamPoint::InText);

impl SimulatedFault {
    /// The name of every fault, in the order of [`all`](Self::all).
    pub const NAMES: &'static [&'static str] = &[
        "none",
        "down",
        "reset",
        "silent",
        "rate-limited",
        "quota-exhausted",
        "overloaded",
        "server-error",
        "bad-gateway-html",
        "unauthorized",
        "forbidden",
        "model-not-found",
        "context-length-exceeded",
        "unsupported-parameter",
        "bad-request",
        "content-filtered",
        "slow-first-token",
        "cut",
        "end-early",
        "stall",
        "error-first-event",
        "error-mid-stream",
        "empty-stream",
        "html-ok",
        "stream",
    ];

    const ALL: &'static [Self] = &[
        Self::None,
        Self::Down,
        Self::Reset,
        Self::Silent,
        Self::RateLimited { retry_after: None },
        Self::QuotaExhausted,
        Self::Overloaded,
        Self::ServerError,
        Self::BadGatewayHtml,
        Self::Unauthorized,
        Self::Forbidden,
        Self::ModelNotFound,
        Self::ContextLengthExceeded,
        Self::UnsupportedParameter,
        Self::BadRequest,
        Self::ContentFiltered,
        Self::SlowFirstToken { delay: SLOW },
        Self::Cut { after_chunks: CHUNKS },
        Self::EndEarly { after_chunks: CHUNKS },
        Self::Stall { after_chunks: CHUNKS },
        Self::ErrorFirstEvent,
        Self::ErrorMidStream { after_chunks: CHUNKS },
        Self::EmptyStream,
        Self::HtmlOk,
        Self::Stream { fault: STREAM.0, at: STREAM.1 },
    ];

    /// Every fault, with its default parameters.
    pub const fn all() -> &'static [Self] {
        Self::ALL
    }

    /// The name without parameters.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Down => "down",
            Self::Reset => "reset",
            Self::Silent => "silent",
            Self::RateLimited { .. } => "rate-limited",
            Self::QuotaExhausted => "quota-exhausted",
            Self::Overloaded => "overloaded",
            Self::ServerError => "server-error",
            Self::BadGatewayHtml => "bad-gateway-html",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::ModelNotFound => "model-not-found",
            Self::ContextLengthExceeded => "context-length-exceeded",
            Self::UnsupportedParameter => "unsupported-parameter",
            Self::BadRequest => "bad-request",
            Self::ContentFiltered => "content-filtered",
            Self::SlowFirstToken { .. } => "slow-first-token",
            Self::Cut { .. } => "cut",
            Self::EndEarly { .. } => "end-early",
            Self::Stall { .. } => "stall",
            Self::ErrorFirstEvent => "error-first-event",
            Self::ErrorMidStream { .. } => "error-mid-stream",
            Self::EmptyStream => "empty-stream",
            Self::HtmlOk => "html-ok",
            Self::Stream { .. } => "stream",
        }
    }
}

impl fmt::Display for SimulatedFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::RateLimited { retry_after: Some(wait) } => write!(f, ":{}", Wait(*wait)),
            Self::SlowFirstToken { delay } if *delay != SLOW => write!(f, ":{}", Wait(*delay)),
            Self::Cut { after_chunks }
            | Self::EndEarly { after_chunks }
            | Self::Stall { after_chunks }
            | Self::ErrorMidStream { after_chunks }
                if *after_chunks != CHUNKS =>
            {
                write!(f, ":{after_chunks}")
            }
            Self::Stream { fault, at } if (*fault, *at) != STREAM => write!(f, ":{fault}@{at}"),
            _ => Ok(()),
        }
    }
}

impl FromStr for SimulatedFault {
    type Err = ParseFaultError;

    fn from_str(text: &str) -> Result<Self, ParseFaultError> {
        let (name, value) = match text.split_once(':') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let error = |problem| ParseFaultError { text: text.to_owned(), problem };
        let fault = Self::ALL.iter().find(|fault| fault.name() == name).ok_or_else(|| error(Problem::Name))?;
        let Some(value) = value else {
            return Ok(fault.clone());
        };
        let wait = || parse_wait(value).ok_or_else(|| error(Problem::Duration));
        let chunks = || value.parse().map_err(|_| error(Problem::Count));
        Ok(match fault {
            Self::RateLimited { .. } => Self::RateLimited { retry_after: Some(wait()?) },
            Self::SlowFirstToken { .. } => Self::SlowFirstToken { delay: wait()? },
            Self::Cut { .. } => Self::Cut { after_chunks: chunks()? },
            Self::EndEarly { .. } => Self::EndEarly { after_chunks: chunks()? },
            Self::Stall { .. } => Self::Stall { after_chunks: chunks()? },
            Self::ErrorMidStream { .. } => Self::ErrorMidStream { after_chunks: chunks()? },
            Self::Stream { .. } => {
                let (fault, at) = stream_fault::parse(value).ok_or_else(|| error(Problem::Place))?;
                Self::Stream { fault, at }
            }
            _ => return Err(error(Problem::NoParameter)),
        })
    }
}

/// The text is not a [`SimulatedFault`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseFaultError {
    text: String,
    problem: Problem,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Problem {
    Name,
    NoParameter,
    Duration,
    Count,
    Place,
}

impl fmt::Display for ParseFaultError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { text, problem } = self;
        match problem {
            Problem::Name => write!(f, "unknown fault {text:?}, expected one of {}", SimulatedFault::NAMES.join(", ")),
            Problem::NoParameter => write!(f, "{text:?}: this fault takes no parameter"),
            Problem::Duration => write!(f, "{text:?}: expected a duration such as 30s or 500ms"),
            Problem::Count => write!(f, "{text:?}: expected a number of chunks"),
            Problem::Place => {
                let faults: Vec<_> = StreamFault::ALL.iter().map(|fault| fault.name()).collect();
                let points: Vec<_> = StreamPoint::ALL.iter().map(|point| point.name()).collect();
                write!(f, "{text:?}: expected FAULT@POINT, of {} and {}", faults.join(", "), points.join(", "))
            }
        }
    }
}

impl Error for ParseFaultError {}

/// Prints a duration exactly, in the largest unit that divides it.
struct Wait(Duration);

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        let (unit, size) = [("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000)]
            .into_iter()
            .find(|(_, size)| nanos % size == 0)
            .unwrap_or(("ns", 1));
        write!(f, "{}{unit}", nanos / size)
    }
}

fn parse_wait(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    if unit == "ns" {
        // The one unit in which a whole `Duration` may need more than a `u64`.
        let nanos: u128 = number.parse().ok()?;
        let seconds = u64::try_from(nanos / 1_000_000_000).ok()?;
        let rest = u32::try_from(nanos % 1_000_000_000).ok()?;
        return Some(Duration::new(seconds, rest));
    }
    let number: u64 = number.parse().ok()?;
    match unit {
        "" | "s" => Some(Duration::from_secs(number)),
        "ms" => Some(Duration::from_millis(number)),
        "us" => Some(Duration::from_micros(number)),
        "m" => Some(Duration::from_secs(number.checked_mul(60)?)),
        "h" => Some(Duration::from_secs(number.checked_mul(3600)?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_faults_are_in_step() {
        let names: Vec<_> = SimulatedFault::all().iter().map(SimulatedFault::name).collect();
        assert_eq!(names, SimulatedFault::NAMES);
    }

    #[test]
    fn every_fault_round_trips() {
        for fault in SimulatedFault::all() {
            assert_eq!(fault.to_string(), fault.name());
            assert_eq!(&fault.to_string().parse::<SimulatedFault>().unwrap(), fault);
        }
        for text in [
            "rate-limited:30s",
            "rate-limited:644ms",
            "rate-limited:0s",
            "slow-first-token:500ms",
            "slow-first-token:7us",
            "slow-first-token:1000000001ns",
            "cut:0",
            "end-early:1",
            "stall:12",
            "error-mid-stream:2",
            "stream:pings@after-finish-reason",
        ] {
            let fault: SimulatedFault = text.parse().unwrap();
            assert_eq!(fault.to_string(), text);
        }
    }

    #[test]
    fn other_spellings_of_a_duration() {
        let fault = |text: &str| text.parse::<SimulatedFault>().unwrap();
        assert_eq!(fault("rate-limited:2m"), fault("rate-limited:120"));
        assert_eq!(fault("slow-first-token:20s"), fault("slow-first-token"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |text: &str| text.parse::<SimulatedFault>().unwrap_err().to_string();
        assert!(error("explode").contains("down, reset"));
        assert!(error("down:3").contains("no parameter"));
        assert!(error("rate-limited:soon").contains("duration"));
        assert!(error("rate-limited:").contains("duration"));
        assert!(error("cut:-1").contains("number of chunks"));
        assert!(error("stream:cut@nowhere").contains("before-output"));
    }
}
