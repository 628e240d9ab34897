//! How everything is: a page for people at `/`, the same for programs at `/status.json`, and what an operator may do about it.

mod admin;
mod changes;
mod feed;
mod page;
mod report;

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use axum::{
    Router,
    body::Body,
    extract::State,
    response::Response,
    routing::{get, post},
};
use bytes::Bytes;
use http::{HeaderValue, Uri, header};
use serde_json::Value;
use tokio::time::Instant;

use self::report::Report;
pub(super) use self::{changes::Changes, feed::Feed};
use super::{Gateway, refuse};
use crate::{Fault, FaultKind, statistics::Period};

/// How old an answer may be: whoever looks costs the gateway no more than this often, however many they are.
const FRESH: Duration = Duration::from_millis(250);

/// What the status is made of besides configuration and registries.
#[derive(Debug)]
pub(super) struct Status {
    feed: Feed,
    pub(super) changes: Changes,
    started: SystemTime,
    running: Instant,
    /// The latest answers, each for one of the periods that may be asked for.
    cached: Mutex<[Option<(Instant, Bytes)>; Period::ALL.len()]>,
}

impl Status {
    pub(super) fn new(feed: Feed) -> Self {
        let (started, running) = (SystemTime::now(), Instant::now());
        Status { feed, changes: Changes::new(), started, running, cached: Mutex::default() }
    }

    /// The text of `/status.json`, put together unless a fresh one is there.
    fn text(&self, gateway: &Gateway, window: Period) -> Bytes {
        // Held while it is put together: whoever else asks meanwhile gets the same.
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        let cached = &mut cached[window as usize];
        if let Some((made, text)) = cached {
            if made.elapsed() < FRESH {
                return text.clone();
            }
        }
        let live = gateway.live();
        let report = Report::new(&live, window);
        let text = Bytes::from(report.describe(self, self.running.elapsed()).to_string());
        *cached = Some((Instant::now(), text.clone()));
        text
    }

    /// Something was changed by hand, which is to be seen at once.
    pub(super) fn forget(&self) {
        *self.cached.lock().unwrap_or_else(PoisonError::into_inner) = Default::default();
    }
}

/// The paths of this module, all of them for operators only.
pub(super) fn router() -> Router<Gateway> {
    Router::new()
        .route("/", get(|| async { page::answer() }))
        .route("/status.json", get(status))
        // A target's name has a slash in it, escaped or not.
        .route("/admin/targets/{*action}", post(admin::act))
}

async fn status(State(gateway): State<Gateway>, uri: Uri) -> Response {
    let mut pairs = uri.query().unwrap_or_default().split('&');
    let window = match pairs.find_map(|pair| pair.strip_prefix("window=")) {
        None => Some(Period::FiveMinutes),
        Some(name) => Period::ALL.into_iter().find(|period| period.name() == name),
    };
    match window {
        Some(window) => json_of(gateway.inner.status.text(&gateway, window)),
        None => {
            let names = Period::ALL.map(Period::name).join(", ");
            let fault = Fault::new(FaultKind::BadRequest, format!("the window is to be one of {names}"));
            refuse(fault.with_code("invalid_window"))
        }
    }
}

fn json_of(text: Bytes) -> Response {
    let mut response = Response::new(Body::from(text));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn json_value(value: &Value) -> Response {
    json_of(Bytes::from(value.to_string()))
}
