//! How a failure is put to a gRPC client.

use std::{fmt::Write, time::Duration};

use http::HeaderValue;

use crate::{Fault, FaultKind, Refusal};

/// gRPC's code for a fault: <https://grpc.io/docs/guides/status-codes/>.
///
/// As with HTTP statuses, a rejected key of ours is not `UNAUTHENTICATED`, nor a model that a target lacks `NOT_FOUND`: the
/// caller's own were fine.
pub(super) fn status(fault: &Fault) -> HeaderValue {
    use FaultKind::*;
    HeaderValue::from_static(match fault.kind() {
        Cancelled => "1",                                            // CANCELLED
        BadRequest | ContentFiltered | ContextLengthExceeded => "3", // INVALID_ARGUMENT
        Timeout => "4",                                              // DEADLINE_EXCEEDED
        RateLimited | QuotaExhausted | PayloadTooLarge => "8",       // RESOURCE_EXHAUSTED
        Unsupported => "9",                                          // FAILED_PRECONDITION
        Refused => match fault.refusal() {
            Some(Refusal::Unmet(_)) => "9",
            Some(Refusal::LimitReached { .. }) => "8",
            Some(Refusal::CircuitOpen { .. } | Refusal::Drained | Refusal::Declined(_)) | None => "14",
        },
        Connect | ConnectionLost | Overloaded | Unavailable | StreamInterrupted | MalformedResponse | AuthFailed
        | PermissionDenied | NotFound => "14", // UNAVAILABLE
    })
}

/// The fault's message, percent-encoded as the
/// [protocol](https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#responses) has it: all but printable ASCII,
/// and the percent sign itself.
pub(super) fn message(fault: &Fault) -> HeaderValue {
    let mut encoded = String::with_capacity(fault.message().len());
    for byte in fault.message().bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(byte.into()),
            _ => _ = write!(encoded, "%{byte:02X}"), // a `String` takes whatever is written to it
        }
    }
    // Printable ASCII is a valid header.
    HeaderValue::try_from(encoded).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// What `Retry-After` is to HTTP:
/// [server pushback](https://github.com/grpc/proposal/blob/master/A6-client-retries.md#pushback).
pub(super) fn pushback(delay: Duration) -> HeaderValue {
    u64::try_from(delay.as_millis()).unwrap_or(u64::MAX).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_percent_encoded() {
        let of = |text: &'static str| message(&Fault::new(FaultKind::Unavailable, text));
        assert_eq!(of("no answer within 30s: \"x\""), "no answer within 30s: \"x\"");
        assert_eq!(of("100 % für\nalle"), "100 %25 f%C3%BCr%0Aalle");
    }

    #[test]
    fn only_faults_of_the_request_are_the_callers() {
        let code = |fault: Fault| status(&fault).to_str().unwrap().to_owned();
        let of = |kind| code(Fault::new(kind, ""));
        assert_eq!([FaultKind::AuthFailed, FaultKind::NotFound, FaultKind::Connect].map(of), ["14"; 3]);
        assert_eq!([FaultKind::BadRequest, FaultKind::PayloadTooLarge, FaultKind::Timeout].map(of), ["3", "8", "4"]);
        let limited = Refusal::LimitReached { retry_after: None };
        let open = Refusal::CircuitOpen { retry_after: Duration::ZERO, transient: true };
        assert_eq!([limited, open].map(|refusal| code(refusal.into())), ["8", "14"]);
    }
}
