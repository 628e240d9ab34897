//! The HTTP client that reaches providers.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tower_layer::Layer;

use crate::fault_injection::{FaultInjection, FaultInjectionLayer, FaultSwitch};

/// What speaks to providers, and fails to where a drill says so.
pub(super) type Upstream = FaultInjection<Client<HttpsConnector<HttpConnector>, Full<Bytes>>>;

/// How long connecting may take. A host that answers does so in well under a second.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How many idle connections to one host are kept.
const MAX_IDLE: usize = 1024;

/// HTTP/1.1 with one connection for each call at a time: an upstream that breaks takes one answer with it.
pub(super) fn client(faults: &FaultSwitch) -> Upstream {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let tls = rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions();
    #[expect(clippy::expect_used, reason = "ring has cipher suites for each of rustls' default TLS versions")]
    let tls = tls.expect("ring speaks TLS 1.2 and 1.3").with_root_certificates(roots).with_no_client_auth();
    let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(http);
    let client = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_max_idle_per_host(MAX_IDLE)
        // Retrying is a layer's job, where it is counted.
        .retry_canceled_requests(false)
        .build(https);
    FaultInjectionLayer::new(faults).layer(client)
}
