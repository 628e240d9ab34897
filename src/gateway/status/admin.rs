//! `POST /admin/targets/{id}/open`, `/close` and `/drain`.

use std::sync::PoisonError;

use axum::{extract::State, response::Response};
use http::{HeaderMap, Uri, header};
use percent_encoding::percent_decode_str;

use super::{
    super::{Gateway, refuse, unknown_path},
    Report, json_value,
};
use crate::{Fault, FaultKind, circuit_breaker::CircuitRegistry, statistics::Period};

const PREFIX: &str = "/admin/targets/";

pub(super) async fn act(State(gateway): State<Gateway>, uri: Uri, headers: HeaderMap) -> Response {
    if !is_same_origin(&headers) {
        let fault = Fault::new(FaultKind::BadRequest, "another site's page may not do that").with_code("forbidden");
        return refuse(fault.with_status(http::StatusCode::FORBIDDEN));
    }
    // A router in which this one is nested has taken its own prefix off.
    let Some((id, action)) = uri.path().strip_prefix(PREFIX).and_then(|path| path.rsplit_once('/')) else {
        return unknown_path(uri.path());
    };
    let Some(apply) = action_named(action) else { return unknown_path(uri.path()) };
    let id = percent_decode_str(id).decode_utf8_lossy();
    // What is done to a configuration that another one is just taking the place of would be done to nobody.
    let _nobody_reloads = gateway.inner.handing_on.lock().unwrap_or_else(PoisonError::into_inner);
    let live = gateway.live();
    let Some(target) = live.config.targets().find(|target| target.id().as_str() == id) else {
        let fault = Fault::new(FaultKind::BadRequest, format!("there is no target {id:?}"));
        return refuse(fault.with_status(http::StatusCode::NOT_FOUND).with_code("target_not_found"));
    };
    let shared = &live.shared;
    apply(&shared.circuits, target);
    tracing::warn!(target_id = %target.id(), action, "by hand");
    gateway.inner.status.forget();
    json_value(&Report::new(&live, Period::FiveMinutes).describe_target(target))
}

fn action_named(name: &str) -> Option<fn(&CircuitRegistry, &crate::Target)> {
    Some(match name {
        "open" => CircuitRegistry::open,
        "close" => CircuitRegistry::close,
        "drain" => CircuitRegistry::drain,
        _ => return None,
    })
}

/// Whether the call does not come from another site's page. A browser sends along the password that it knows for this one,
/// whoever made the page; and without a password, whoever makes a page can have its readers' browsers call a loopback port.
/// Programs other than browsers say nothing of where they come from, and need not.
fn is_same_origin(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return site == "same-origin" || site == "none";
    }
    // Not sent to plain HTTP beyond loopback, nor by old browsers: all of those send this one.
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    origin.is_some_and(|(_, authority)| Some(authority) == host)
}

#[cfg(test)]
mod tests {
    use std::{
        path::Path,
        sync::atomic::{AtomicBool, Ordering},
    };

    use futures_util::FutureExt;

    use super::*;
    use crate::config::Config;

    fn told(headers: &[(&'static str, &'static str)]) -> bool {
        is_same_origin(&headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect())
    }

    #[tokio::test]
    async fn what_is_done_while_another_configuration_comes_is_not_lost() {
        // Other settings are other circuits, which begin as those before are.
        let config = |failures: usize| {
            let toml = format!(
                "[providers.p]\ndialect = 'openai-chat'\nbase_url = 'http://h'\n[routes.r]\n\
                 targets = [{{ provider = 'p', model = 'm', breaker = {{ failures = {failures} }} }}]\n"
            );
            Config::from_toml(&toml, Path::new("test.toml"), &|_| None).unwrap()
        };
        let (gateway, done) = (Gateway::new(&config(2)), AtomicBool::new(false));
        let configs = [config(2), config(3)];
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for config in configs.iter().cycle().take_while(|_| !done.load(Ordering::Relaxed)) {
                    gateway.replace(config).unwrap();
                }
            });
            let lost = (0..500).any(|round| {
                let (action, drained) = if round % 2 == 0 { ("drain", true) } else { ("close", false) };
                let uri = format!("/admin/targets/p%2Fm/{action}").parse().unwrap();
                let acted = act(State(gateway.clone()), uri, HeaderMap::new()).now_or_never().unwrap();
                let live = gateway.live();
                let target = live.config.targets().next().unwrap();
                acted.status() != 200 || live.shared.circuits.is_drained(target) != drained
            });
            done.store(true, Ordering::Relaxed);
            assert!(!lost);
        });
    }

    #[test]
    fn pages_of_other_sites_may_not_act() {
        assert!(told(&[]));
        assert!(told(&[("sec-fetch-site", "same-origin")]));
        assert!(told(&[("host", "h:8080"), ("origin", "http://h:8080")]));
        for site in ["cross-site", "same-site"] {
            assert!(!told(&[("sec-fetch-site", site), ("host", "h"), ("origin", "http://h")]));
        }
        for origin in ["null", "http://evil", "http://h:8081", "http://h.evil"] {
            assert!(!told(&[("host", "h"), ("origin", origin)]));
        }
    }
}
