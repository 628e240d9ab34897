//! What of the gateway is for whom.

use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::{HeaderValue, StatusCode, header};

use crate::{
    Dialect, Fault,
    gateway::{Gateway, generate, refuse, refuse_in},
};

/// Whom a path is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Area {
    /// Anybody: whoever looks whether the gateway is alive has no key.
    Open,
    /// Whoever may ask for answers.
    Clients,
    /// Whoever runs the gateway.
    Operators,
}

/// The one list of what is for whom. What is not in it, be it a page that nobody thought of here, is for operators.
fn area(path: &str) -> Area {
    match path {
        "/healthz" | "/readyz" => Area::Open,
        // Unknown ones too: a client that asks for an endpoint that is not served should read that, not that its key is no
        // operator's.
        path if ["/v1/", "/v1beta/", "/v1alpha/"].iter().any(|api| path.starts_with(api)) => Area::Clients,
        _ => Area::Operators,
    }
}

/// Lets through who may, as a layer around all routes. The endpoints that generate look for themselves, because most of their
/// requests do not come this way.
pub(in crate::gateway) async fn guard(State(gateway): State<Gateway>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let live = gateway.live();
    let access = &live.access;
    match area(parts.uri.path()) {
        Area::Open => {}
        Area::Clients => {
            if let Err(fault) = access.client(&parts) {
                return challenge(generate::dialect_of(parts.uri.path()), fault, "Bearer");
            }
        }
        Area::Operators => {
            if let Err(fault) = access.admit_operator(&parts) {
                // A browser asks for a password then, and needs nothing else.
                return challenge(None, fault, "Basic realm=\"failover-gateway\", charset=\"UTF-8\"");
            }
        }
    }
    next.run(Request::from_parts(parts, body)).await
}

/// An answer that says which kind of key is wanted, where one is.
fn challenge(dialect: Option<Dialect>, fault: Fault, scheme: &'static str) -> Response {
    let mut response = match dialect {
        Some(dialect) => refuse_in(dialect, fault).map(Body::new),
        None => refuse(fault),
    };
    if response.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(scheme));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_thought_of_is_for_operators() {
        for (path, expected) in [
            ("/healthz", Area::Open),
            ("/readyz", Area::Open),
            ("/v1/models", Area::Clients),
            ("/v1/chat/completions", Area::Clients),
            ("/v1beta/models/m:generateContent", Area::Clients),
            ("/v1/nothing", Area::Clients),
            ("/", Area::Operators),
            ("/metrics", Area::Operators),
            ("/status.json", Area::Operators),
            ("/status/events", Area::Operators),
            ("/admin/targets/p/m/open", Area::Operators),
            ("/simulated/primary/down", Area::Operators),
            ("/healthz/", Area::Operators),
            ("//healthz", Area::Operators),
            ("/HEALTHZ", Area::Operators),
            ("/v1", Area::Operators),
            ("", Area::Operators),
        ] {
            assert_eq!(area(path), expected, "{path}");
        }
    }
}
