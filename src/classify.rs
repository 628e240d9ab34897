//! Whether a response or an error is a failure, and which.

use std::time::Duration;

use http::{Extensions, HeaderMap, HeaderValue, StatusCode, header};

use crate::{Fault, FaultKind, retry_after};

/// Tells failures from answers. Failover, retry and the circuit breaker each ask one of these.
///
/// A [`Fault`] that already stands in a response's extensions is the last word: whoever put it there knew more than
/// a status tells. Implementations should look there first, as [`StatusClassifier`] does.
pub trait Classify: Clone {
    /// The failure that the head of a response means; `None` for an answer.
    fn classify_head(&self, status: StatusCode, headers: &HeaderMap, extensions: &Extensions) -> Option<Fault>;

    /// The failure that a service's error means.
    fn classify_error<E: 'static>(&self, error: &E) -> Fault {
        Fault::from_transport(error)
    }

    /// The failure that a call's result means; `None` for an answer.
    fn classify<B, E: 'static>(&self, result: &Result<http::Response<B>, E>) -> Option<Fault> {
        match result {
            Ok(response) => self.classify_head(response.status(), response.headers(), response.extensions()),
            Err(error) => Some(self.classify_error(error)),
        }
    }
}

/// Classifies by the fault in the extensions, else by the status: gRPC's where the response is a gRPC one (by its
/// content type: see [`GrpcClassifier`]), HTTP's elsewhere. For plain HTTP and gRPC services, and above a
/// [`ProviderLayer`](crate::ProviderLayer), which has read the provider's error body by then.
#[derive(Clone, Copy, Debug, Default)]
pub struct StatusClassifier;

impl Classify for StatusClassifier {
    fn classify_head(&self, status: StatusCode, headers: &HeaderMap, extensions: &Extensions) -> Option<Fault> {
        let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
        if content_type.is_some_and(|kind| kind.starts_with(b"application/grpc")) {
            return GrpcClassifier.classify_head(status, headers, extensions);
        }
        if let Some(fault) = extensions.get::<Fault>() {
            return Some(fault.clone());
        }
        let kind = FaultKind::from_status(status)?;
        let fault = Fault::new(kind, format!("the upstream service answered {status}"));
        let fault = fault.with_status(status).with_retry_after(retry_after::from_headers(headers));
        Some(fault.with_should_retry(retry_after::should_retry(headers)))
    }
}

/// Classifies by the fault in the extensions, else by `grpc-status`, and by the HTTP status where that is missing.
///
/// It sees the status of a call that fails at once (trailers-only, in the head). One that fails in its trailers has
/// begun to answer, and what has begun is passed on. `grpc-retry-pushback-ms` is
/// [honoured](https://github.com/grpc/proposal/blob/master/A6-client-retries.md#pushback): how long to wait, or not to
/// retry at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct GrpcClassifier;

/// gRPC's codes by their numbers, by what they mean: <https://grpc.github.io/grpc/core/md_doc_statuscodes.html>.
const GRPC_CODES: [(&str, FaultKind); 17] = [
    ("OK", FaultKind::Unavailable),
    ("CANCELLED", FaultKind::Cancelled),
    ("UNKNOWN", FaultKind::Unavailable),
    ("INVALID_ARGUMENT", FaultKind::BadRequest),
    ("DEADLINE_EXCEEDED", FaultKind::Timeout),
    ("NOT_FOUND", FaultKind::NotFound),
    ("ALREADY_EXISTS", FaultKind::BadRequest),
    ("PERMISSION_DENIED", FaultKind::PermissionDenied),
    ("RESOURCE_EXHAUSTED", FaultKind::RateLimited),
    ("FAILED_PRECONDITION", FaultKind::BadRequest),
    ("ABORTED", FaultKind::Unavailable),
    ("OUT_OF_RANGE", FaultKind::BadRequest),
    ("UNIMPLEMENTED", FaultKind::Unsupported),
    ("INTERNAL", FaultKind::Unavailable),
    ("UNAVAILABLE", FaultKind::Unavailable),
    ("DATA_LOSS", FaultKind::Unavailable),
    ("UNAUTHENTICATED", FaultKind::AuthFailed),
];

/// What stands for a code that nobody knows, as gRPC has it.
const UNKNOWN: usize = 2;

impl Classify for GrpcClassifier {
    fn classify_head(&self, status: StatusCode, headers: &HeaderMap, extensions: &Extensions) -> Option<Fault> {
        if let Some(fault) = extensions.get::<Fault>() {
            return Some(fault.clone());
        }
        let fault = match headers.get("grpc-status") {
            Some(code) => {
                let code = code.to_str().ok().and_then(|code| code.parse().ok()).unwrap_or(UNKNOWN);
                let (name, kind) = match code {
                    0 => return None,
                    code => *GRPC_CODES.get(code).unwrap_or(&GRPC_CODES[UNKNOWN]),
                };
                let message = headers.get("grpc-message").map(|message| percent_decoded(message.as_bytes()));
                let message = message.filter(|message| !message.is_empty());
                Fault::new(kind, message.unwrap_or_else(|| format!("the upstream service answered {name}")))
                    .with_code(name)
            }
            None => {
                let kind = FaultKind::from_status(status)?;
                Fault::new(kind, format!("the upstream service answered {status}")).with_status(status)
            }
        };
        let fault = fault.with_retry_after(retry_after::from_headers(headers));
        Some(match headers.get("grpc-retry-pushback-ms") {
            None => fault.with_should_retry(retry_after::should_retry(headers)),
            // What is negative or no number asks not to retry.
            Some(pushback) => match pushback.to_str().ok().and_then(|pushback| pushback.trim().parse::<u32>().ok()) {
                None => fault.with_should_retry(false),
                Some(0) => fault,
                Some(milliseconds) => fault.with_retry_after(Duration::from_millis(milliseconds.into())),
            },
        })
    }
}

/// `grpc-message` as it was before it was made fit for a header.
fn percent_decoded(text: &[u8]) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, behind)) = rest.split_first() {
        let hex = rest.get(1..3).and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = hex.filter(|hex| *first == b'%' && hex.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match byte.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                rest = &rest[3..];
            }
            None => {
                decoded.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Response;
    use std::convert::Infallible;

    #[test]
    fn a_fault_in_the_extensions_is_the_last_word() {
        let mut response = Response::new(());
        let fault = Fault::new(FaultKind::Overloaded, "an error event came first");
        response.extensions_mut().insert(fault.clone());
        assert_eq!(StatusClassifier.classify(&Ok::<_, Infallible>(response)), Some(fault));
    }

    #[test]
    fn without_one_the_status_decides() {
        let ok = Ok::<_, Infallible>(Response::new(()));
        assert_eq!(StatusClassifier.classify(&ok), None);
        let busy = Response::builder().status(429).header("retry-after", "3").body(()).unwrap();
        let fault = StatusClassifier.classify(&Ok::<_, Infallible>(busy)).unwrap();
        assert_eq!((fault.kind(), fault.retry_after()), (FaultKind::RateLimited, Some(Duration::from_secs(3))));
    }

    #[test]
    fn an_error_is_a_lost_connection_unless_it_says_more() {
        let error: Result<Response<()>, _> = Err(std::fmt::Error);
        assert_eq!(StatusClassifier.classify(&error).unwrap().kind(), FaultKind::ConnectionLost);
    }

    fn grpc(headers: &[(&str, &str)]) -> Option<Fault> {
        let response = Response::builder().header("content-type", "application/grpc+proto");
        let response = headers.iter().fold(response, |response, (name, value)| response.header(*name, *value));
        StatusClassifier.classify(&Ok::<_, Infallible>(response.body(()).unwrap()))
    }

    #[test]
    fn a_grpc_response_is_classified_by_its_own_status() {
        for (code, expected) in [
            ("1", FaultKind::Cancelled),
            ("3", FaultKind::BadRequest),
            ("4", FaultKind::Timeout),
            ("5", FaultKind::NotFound),
            ("7", FaultKind::PermissionDenied),
            ("8", FaultKind::RateLimited),
            ("9", FaultKind::BadRequest),
            ("12", FaultKind::Unsupported),
            ("14", FaultKind::Unavailable),
            ("16", FaultKind::AuthFailed),
            ("17", FaultKind::Unavailable),
            ("99999999999999999999999", FaultKind::Unavailable),
            ("soon", FaultKind::Unavailable),
        ] {
            assert_eq!(grpc(&[("grpc-status", code)]).unwrap().kind(), expected, "{code}");
        }
        assert_eq!(grpc(&[("grpc-status", "0")]), None);
        assert_eq!(grpc(&[]), None, "its status comes in the trailers");
        let plain = Response::builder().header("grpc-status", "14").body(()).unwrap();
        assert_eq!(StatusClassifier.classify(&Ok::<_, Infallible>(plain)), None);
        let proxy = Response::builder().status(502).header("content-type", "application/grpc").body(()).unwrap();
        assert_eq!(StatusClassifier.classify(&Ok::<_, Infallible>(proxy)).unwrap().kind(), FaultKind::Unavailable);
    }

    #[test]
    fn a_grpc_service_may_say_why_and_how_long_to_wait() {
        let fault = grpc(&[
            ("grpc-status", "14"),
            ("grpc-message", "caf%C3%A9 is 100% shut%2"),
            ("grpc-retry-pushback-ms", "25"),
        ]);
        let fault = fault.unwrap();
        assert_eq!((fault.message(), fault.code()), ("café is 100% shut%2", Some("UNAVAILABLE")));
        assert_eq!((fault.retry_after(), fault.should_retry()), (Some(Duration::from_millis(25)), None));
        for pushback in ["-1", "never"] {
            let fault = grpc(&[("grpc-status", "14"), ("grpc-retry-pushback-ms", pushback)]).unwrap();
            assert_eq!((fault.retry_after(), fault.should_retry()), (None, Some(false)), "{pushback}");
        }
    }
}
