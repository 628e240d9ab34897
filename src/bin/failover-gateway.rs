//! The gateway's command line.

use std::{io::IsTerminal, net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use tokio::{net::TcpListener, signal};
use tower_failover::{
    config::Config,
    gateway::{Demo, Gateway},
};
use tracing_subscriber::EnvFilter;

/// Keeps LLM applications answering when a provider does not.
#[derive(Debug, Parser)]
#[command(version, about, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve (the default): real providers with a configuration file, simulated ones without.
    Serve(Serve),
}

#[derive(Debug, clap::Args)]
struct Serve {
    /// The configuration file. Without one, two simulated providers are started to try failover on.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to listen, instead of the configuration's `listen`, such as 127.0.0.1:8080; port 0 takes a free one.
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<SocketAddr>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = match std::env::var("RUST_LOG") {
        Ok(directives) => EnvFilter::try_new(&directives).unwrap_or_else(|error| {
            eprintln!("RUST_LOG is not used: {error}");
            EnvFilter::new("info")
        }),
        Err(_) => EnvFilter::new("info"),
    };
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
    let Command::Serve(serve) = arguments.command.unwrap_or(Command::Serve(arguments.serve));
    match serve.run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

impl Serve {
    async fn run(self) -> Result<(), Box<dyn std::error::Error>> {
        let stop = stop_signal()?;
        let (gateway, listen) = match &self.config {
            Some(file) => {
                let config = Config::load(file).map_err(|errors| errors.report(std::io::stderr().is_terminal()))?;
                config.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
                (Gateway::new(&config), config.listen)
            }
            None => {
                let demo = Demo::start().await?;
                (Gateway::with_demo(demo), SocketAddr::from(([127, 0, 0, 1], 8080)))
            }
        };
        let listen = self.listen.unwrap_or(listen);
        if !listen.ip().to_canonical().is_loopback() {
            return Err(format!("{listen} is not a loopback address: anyone who reaches it could use the keys").into());
        }
        let listener =
            TcpListener::bind(listen).await.map_err(|error| format!("cannot listen on {listen}: {error}"))?;
        tokio::spawn(gateway.watch());
        println!("{}", gateway.banner(listener.local_addr()?));
        gateway.serve(listener, stop).await?;
        Ok(())
    }
}

/// Ready at the first SIGTERM or Ctrl-C.
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    let mut terminate = signal::unix::signal(signal::unix::SignalKind::terminate())?;
    Ok(async move {
        #[cfg(unix)]
        let terminated = terminate.recv();
        #[cfg(not(unix))]
        let terminated = std::future::pending::<Option<()>>();
        tokio::select! {
            _ = terminated => {}
            _ = signal::ctrl_c() => {}
        }
        tracing::info!(
            "stopping: new requests are refused, answers that have begun are finished; once more stops at once"
        );
        tokio::spawn(async {
            // Whoever asks twice does not want to wait.
            let _ = signal::ctrl_c().await;
            std::process::exit(130);
        });
    })
}
