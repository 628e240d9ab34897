//! Whether a response or an error is a failure, and which.

use http::{Extensions, HeaderMap, StatusCode};

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

/// Classifies by the fault in the extensions, else by the HTTP status alone: for plain HTTP services, and above a
/// [`ProviderLayer`](crate::ProviderLayer), which has read the provider's error body by then.
#[derive(Clone, Copy, Debug, Default)]
pub struct StatusClassifier;

impl Classify for StatusClassifier {
    fn classify_head(&self, status: StatusCode, headers: &HeaderMap, extensions: &Extensions) -> Option<Fault> {
        if let Some(fault) = extensions.get::<Fault>() {
            return Some(fault.clone());
        }
        let kind = FaultKind::from_status(status)?;
        let fault = Fault::new(kind, format!("the upstream service answered {status}"));
        let fault = fault.with_status(status).with_retry_after(retry_after::from_headers(headers));
        Some(fault.with_should_retry(retry_after::should_retry(headers)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Response;
    use std::{convert::Infallible, time::Duration};

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
}
