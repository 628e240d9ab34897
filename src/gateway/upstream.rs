//! The HTTP client that reaches providers.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, Error, ResponseFuture, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tower_layer::Layer;
use tower_service::Service;

use crate::fault_injection::{FaultInjection, FaultInjectionLayer, FaultSwitch};

type HttpClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// What speaks to providers, and fails to where a drill says so.
pub(super) type Upstream = FaultInjection<SharedClient>;

/// The client. Each attempt has a clone of the services down to here, and hyper-util's own takes a good many steps to clone.
#[derive(Clone, Debug)]
pub(super) struct SharedClient(Arc<HttpClient>);

impl Service<Request<Full<Bytes>>> for SharedClient {
    type Response = Response<Incoming>;
    type Error = Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        // As the client: it waits for a connection when it is called.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> ResponseFuture {
        self.0.request(request)
    }
}

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
    FaultInjectionLayer::new(faults).layer(SharedClient(Arc::new(client)))
}
