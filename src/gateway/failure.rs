//! Failures that the gateway finds itself.

use axum::{body::Body, response::Response};
use http::{HeaderValue, header};

use crate::{Dialect, Fault, dialect};

/// The fault as a response in the client's dialect.
pub(super) fn response(dialect: Dialect, fault: &Fault) -> Response {
    let mut response = Response::new(Body::from(dialect::error_body(dialect, fault)));
    *response.status_mut() = fault.response_status();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
