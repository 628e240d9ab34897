//! Failover between two gRPC servers: one layer, two channels, and the client that tonic generated.
//!
//! ```sh
//! cargo run --example tonic_client
//! ```
//!
//! The primary first says that it is unavailable, and then is gone. The caller sees answers.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tokio::{sync::oneshot, task::JoinHandle};
use tonic::{
    Response, Status,
    body::Body,
    client::GrpcService,
    transport::{Channel, Server, server::TcpIncoming},
};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_check_response::ServingStatus,
    health_client::HealthClient,
    health_server::{Health, HealthServer},
};
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
use tower_failover::{CircuitBreakerLayer, FailoverLayer, Outcome, RequestContext, Route, Target, TimeoutLayer};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let (primary, primary_server) = serve(Err("being upgraded"))?;
    let (fallback, _fallback_server) = serve(Ok(ServingStatus::Serving))?;

    // A service for several targets: it looks up in the request which one this attempt is for.
    let channels = service_fn(move |request: Request<Full<Bytes>>| {
        let target = RequestContext::of(request.extensions()).and_then(RequestContext::target);
        let channel = match target.map(|target| target.id().as_str()) {
            Some("primary") => primary.clone(),
            _ => fallback.clone(),
        };
        // The layers gave it a body that can be sent again; a channel takes tonic's own.
        channel.oneshot(request.map(Body::new))
    });

    // What gRPC says of a failed call is understood as HTTP's statuses are: UNAVAILABLE fails over, INVALID_ARGUMENT does not.
    let route = Route::new("health", [Target::named("primary"), Target::named("fallback")])?;
    let service = ServiceBuilder::new()
        .layer(FailoverLayer::new(&route))
        .layer(CircuitBreakerLayer::default())
        .layer(TimeoutLayer::new())
        .service(channels);
    let mut client = HealthClient::new(service);

    ask(&mut client, "the primary says that it is unavailable").await?;
    primary_server.stop().await?;
    ask(&mut client, "the primary is gone").await
}

async fn ask<S>(client: &mut HealthClient<S>, situation: &str) -> Result<(), BoxError>
where
    S: GrpcService<Body, Error: Into<BoxError>, ResponseBody: Send + 'static>,
    S::ResponseBody: http_body::Body<Data = Bytes, Error: Into<BoxError> + Send>,
{
    let context = RequestContext::new();
    let mut request = tonic::Request::new(HealthCheckRequest::default());
    request.extensions_mut().insert(context.clone());
    let answer = client.check(request).await?.into_inner();
    println!("{situation}; the answer is {:?}, after:", answer.status());
    for attempt in context.attempts().iter() {
        let target = attempt.target().map(|target| target.id().as_str()).unwrap_or_default();
        match attempt.outcome() {
            Some(Outcome::Failed(fault)) => println!("  {target}: {fault}"),
            Some(Outcome::Answered) => println!("  {target}: answered"),
            other => println!("  {target}: {other:?}"),
        }
    }
    Ok(())
}

struct RunningServer {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl RunningServer {
    async fn stop(self) -> Result<(), BoxError> {
        drop(self.stop);
        Ok(self.task.await??)
    }
}

/// Starts a server that gives one answer to everything, and connects to it.
fn serve(answer: Result<ServingStatus, &'static str>) -> Result<(Channel, RunningServer), BoxError> {
    let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into())?;
    let channel = Channel::from_shared(format!("http://{}", incoming.local_addr()?))?.connect_lazy();
    let server = Server::builder().add_service(HealthServer::new(Fixed(answer)));
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async move { stopped.await.unwrap_or_default() };
    let task = tokio::spawn(server.serve_with_incoming_shutdown(incoming, stopped));
    Ok((channel, RunningServer { stop, task }))
}

struct Fixed(Result<ServingStatus, &'static str>);

#[tonic::async_trait]
impl Health for Fixed {
    async fn check(&self, _: tonic::Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let status = self.0.map_err(Status::unavailable)?;
        Ok(Response::new(HealthCheckResponse { status: status.into() }))
    }

    type WatchStream = tokio_stream::Empty<Result<HealthCheckResponse, Status>>;

    async fn watch(&self, _: tonic::Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("ask with Check"))
    }
}
