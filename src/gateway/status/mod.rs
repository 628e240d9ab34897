//! How everything is: a page for people at `/`, the same for programs at `/status.json`, and what an operator may do about it.

mod admin;
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
use http::{HeaderValue, header};
use serde_json::Value;
use tokio::time::Instant;

pub(super) use self::feed::Feed;
use self::report::Report;
use super::Gateway;

/// How old an answer may be: whoever looks costs the gateway no more than this often, however many they are.
const FRESH: Duration = Duration::from_millis(250);

/// What the status is made of besides configuration and registries.
#[derive(Debug)]
pub(super) struct Status {
    feed: Feed,
    started: SystemTime,
    running: Instant,
    /// The latest answer.
    cached: Mutex<Option<(Instant, Bytes)>>,
}

impl Status {
    pub(super) fn new(feed: Feed) -> Self {
        Status { feed, started: SystemTime::now(), running: Instant::now(), cached: Mutex::new(None) }
    }

    /// The text of `/status.json`, put together unless a fresh one is there.
    fn text(&self, gateway: &Gateway) -> Bytes {
        // Held while it is put together: whoever else asks meanwhile gets the same.
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((made, text)) = &*cached {
            if made.elapsed() < FRESH {
                return text.clone();
            }
        }
        let live = gateway.live();
        let report = Report::new(&live.config, &live.shared);
        let text = Bytes::from(report.describe(&self.feed, self.started, self.running.elapsed()).to_string());
        *cached = Some((Instant::now(), text.clone()));
        text
    }

    /// Something was changed by hand, which is to be seen at once.
    fn forget(&self) {
        *self.cached.lock().unwrap_or_else(PoisonError::into_inner) = None;
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

async fn status(State(gateway): State<Gateway>) -> Response {
    json_of(gateway.inner.status.text(&gateway))
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
