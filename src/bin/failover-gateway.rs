//! The gateway's command line.

use std::{io::IsTerminal, net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use tokio::net::TcpListener;
use tower_failover::{
    config::{Config, LogFormat},
    gateway::{self, Demo, Gateway, stop_signal},
};

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
    /// What the log looks like, instead of the configuration's `[log] format`.
    #[arg(long, value_name = "FORMAT", value_parser = LogFormat::NAMES)]
    log_format: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
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
        let config = self.config.as_deref().map(Config::load).transpose();
        let config = config.map_err(|errors| errors.report(std::io::stderr().is_terminal()))?;
        let format = self.log_format.as_deref().and_then(LogFormat::from_name);
        gateway::log::init(format.or(config.as_ref().map(|config| config.log)).unwrap_or_default());
        let open = Config::default();
        let config = config.as_ref().unwrap_or(&open);
        config.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        let gateway = match self.config {
            Some(_) => Gateway::new(config),
            None => Gateway::with_demo(Demo::start().await?),
        };
        let listen = self.listen.unwrap_or(config.listen);
        config.may_listen(listen).map_err(|why| format!("{listen} {why}"))?;
        let listener =
            TcpListener::bind(listen).await.map_err(|error| format!("cannot listen on {listen}: {error}"))?;
        tokio::spawn(gateway.watch());
        println!("{}", gateway.banner(listener.local_addr()?));
        gateway.serve(listener, stop).await?;
        Ok(())
    }
}
