//! What the gateway says when it starts.

use std::{fmt::Write, net::SocketAddr};

use super::Gateway;

impl Gateway {
    /// A few lines for whoever started it: where it listens, what it serves, and what to try.
    #[must_use]
    pub fn banner(&self, address: SocketAddr) -> String {
        let scheme = if self.live().config.tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{address}");
        let mut banner = format!("failover-gateway {} listening on {url}\n", env!("CARGO_PKG_VERSION"));
        // Writing to a String cannot fail.
        let _ = match &self.inner.demo {
            Some(_) => write!(banner, "{}", DEMO.replace("URL", &url)),
            None => self.live().config.routes.iter().try_for_each(|route| {
                let chain: Vec<_> = route.route.targets().iter().map(|target| target.id().as_str()).collect();
                writeln!(banner, "  {} → {}", route.route.name(), chain.join(" → "))
            }),
        };
        banner
    }
}

const DEMO: &str = r#"
No configuration file was given: two SIMULATED providers answer, `primary` and `fallback`. Nothing leaves this machine.

Ask (or point an OpenAI SDK at URL/v1):
  curl URL/v1/chat/completions -H 'content-type: application/json' \
    -d '{"model":"gpt-4o","messages":[{"role":"user","content":"Hello!"}]}'

Take the primary down, ask again, and see who answers; then bring it back:
  curl -X POST URL/simulated/primary/down
  curl -X POST URL/simulated/primary/up

Watch it happen in a browser: URL/

More ways to fail: rate-limited, overloaded, silent, reset, error-first-event, cut, … All of them:
  curl URL/simulated/faults

For real providers: failover-gateway serve --config gateway.toml
"#;
