//! The gateway as its command serves it: the same client, the same log (which goes nowhere).

use std::{future::pending, net::SocketAddr, path::Path};

use tokio::net::TcpListener;
use tower_failover::{config::Config, gateway::Gateway};
use tracing_subscriber::EnvFilter;

/// One attempt for each target, and circuits that stay closed whatever happens.
const CONFIG: &str = r#"
[providers.primary]
dialect = "openai-chat"
base_url = "http://PRIMARY/v1"
api_key = { value = "sk-primary" }

[providers.fallback]
dialect = "openai-chat"
base_url = "http://FALLBACK/v1"
api_key = { value = "sk-fallback" }

[defaults]
retry = { attempts = 1 }
breaker = { failures = 4000000000, failure_rate = 1.0, min_calls = 4000000000 }

[routes."kept"]
targets = [{ provider = "primary", model = "gpt-4o" }]
cache = { ttl = "1h" }

[routes."*"]
targets = [{ provider = "primary" }, { provider = "fallback" }]
"#;

pub(crate) async fn serve(providers: [SocketAddr; 2]) {
    let filter = EnvFilter::new("info");
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(std::io::stderr).init();
    let [primary, fallback] = providers.map(|address| address.to_string());
    let text = CONFIG.replace("PRIMARY", &primary).replace("FALLBACK", &fallback);
    let config = Config::from_toml(&text, Path::new("bench.toml"), &|_| None).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    Gateway::new(&config).serve(listener, pending()).await.unwrap();
}
