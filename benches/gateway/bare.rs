//! The floor: what a reverse proxy on hyper and hyper-util's pooled client cannot do without.

use std::{convert::Infallible, net::SocketAddr};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, Request, Response, StatusCode, Uri, header,
    uri::{Authority, Parts, Scheme},
};
use http_body_util::{BodyExt, Either, Empty, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    client::legacy::{Client, Error, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use tokio::net::TcpListener;

/// Headers of one connection, not of the message.
const OF_CONNECTION: [HeaderName; 5] =
    [header::CONNECTION, header::HOST, header::TE, header::TRANSFER_ENCODING, header::UPGRADE];

type Answer = Either<Incoming, Empty<Bytes>>;

#[derive(Clone)]
struct Bare {
    client: Client<HttpConnector, Either<Incoming, Full<Bytes>>>,
    upstream: Authority,
    /// With it the request's body is held, without it passed through.
    fallback: Option<Authority>,
}

/// Two listeners: one passes both bodies through, the other tries the second upstream when the first fails.
pub(crate) async fn serve(upstreams: [SocketAddr; 2]) {
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let failover = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{} {}", plain.local_addr().unwrap(), failover.local_addr().unwrap());
    let [upstream, fallback] = upstreams.map(|address| address.to_string().parse::<Authority>().unwrap());
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client = Client::builder(TokioExecutor::new()).build(connector);
    let bare = Bare { client, upstream, fallback: None };
    let with_fallback = Bare { fallback: Some(fallback), ..bare.clone() };
    tokio::join!(bare.listen(plain), with_fallback.listen(failover));
}

impl Bare {
    async fn listen(self, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            _ = stream.set_nodelay(true);
            let bare = self.clone();
            let service = service_fn(move |request| bare.clone().answer(request));
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    }

    async fn answer(self, mut request: Request<Incoming>) -> Result<Response<Answer>, Infallible> {
        strip(request.headers_mut());
        let Some(fallback) = self.fallback else {
            *request.uri_mut() = at(self.upstream, request.uri());
            return Ok(answer(self.client.request(request.map(Either::Left)).await));
        };
        let (mut second, body) = request.into_parts();
        let Ok(body) = body.collect().await else { return Ok(refusal(StatusCode::BAD_REQUEST)) };
        let body = Full::new(body.to_bytes());
        let mut first = second.clone();
        first.uri = at(self.upstream, &second.uri);
        let result = self.client.request(Request::from_parts(first, Either::Right(body.clone()))).await;
        if result.as_ref().is_ok_and(|response| !response.status().is_server_error()) {
            return Ok(answer(result));
        }
        second.uri = at(fallback, &second.uri);
        Ok(answer(self.client.request(Request::from_parts(second, Either::Right(body))).await))
    }
}

fn at(upstream: Authority, uri: &Uri) -> Uri {
    let mut parts = Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(upstream);
    parts.path_and_query = uri.path_and_query().cloned();
    Uri::from_parts(parts).unwrap()
}

fn strip(headers: &mut HeaderMap) {
    OF_CONNECTION.iter().for_each(|name| _ = headers.remove(name));
}

fn answer(result: Result<Response<Incoming>, Error>) -> Response<Answer> {
    let Ok(mut response) = result else { return refusal(StatusCode::BAD_GATEWAY) };
    strip(response.headers_mut());
    response.map(Either::Left)
}

fn refusal(status: StatusCode) -> Response<Answer> {
    let mut response = Response::new(Either::Right(Empty::new()));
    *response.status_mut() = status;
    response
}
