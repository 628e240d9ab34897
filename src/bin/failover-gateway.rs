//! The gateway's command line.

use std::{
    io::{IsTerminal, Write},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use tokio::net::TcpListener;
use tower_failover::{
    Dialect,
    config::{Config, LogFormat},
    fault_injection::InjectedFault,
    gateway::{
        self, Demo, Gateway, Paint,
        check::Check,
        drill::{Drill, DrillSettings, progress_bar},
        explain::{Explanation, Question},
        stop_signal,
    },
};

const HELP: &str = "\
Examples:
  failover-gateway
      Two simulated providers to try failover on; nothing leaves the machine.
  failover-gateway check gateway.toml --online
      Is the file right, and does every key and model work?
  failover-gateway serve --config gateway.toml
      Serve it. Point an OpenAI, Anthropic or Google SDK at it by its base URL.
  failover-gateway drill
      What do clients see when the primary goes away? On simulated providers.
  failover-gateway explain request.json --config gateway.toml
      Which targets would a request be sent to, and which not, and why?
  failover-gateway completions bash > /etc/bash_completion.d/failover-gateway

Environment:
  RUST_LOG    What is logged to standard error, such as info (the default of serve) or tower_failover=debug
  NO_COLOR    No colours, even on a terminal
  The variables that the configuration names as { env = \"NAME\" } hold the providers' keys.

Exit codes:
  0    Stopped as asked; the check or the drill passed
  1    It cannot start; the check found a mistake or a target that fails; the drill missed its SLO
  2    The command line is wrong
  130  Stopped at once, by a second Ctrl-C";

const CHECK_HELP: &str = "\
Examples:
  failover-gateway check gateway.toml
  failover-gateway check gateway.toml --online --json | jq '.online[] | select(.ok | not)'

Exit codes:
  0    The file can be used (there may be warnings) and, with --online, every target answered
  1    The file has mistakes, or a target failed
  2    The command line is wrong";

const EXPLAIN_HELP: &str = "\
Examples:
  failover-gateway explain request.json
      At a well-known model of each of three vendors.
  failover-gateway explain request.json --config gateway.toml --tags eu
  failover-gateway explain gemini.json --dialect gemini --route gemini-2.5-pro --json | jq .targets

Exit codes:
  0    A target would be asked
  1    None would, or nothing can be said
  2    The command line is wrong";

const DRILL_HELP: &str = "\
Examples:
  failover-gateway drill
      On simulated providers: what a report looks like, at no cost.
  failover-gateway drill --config gateway.toml --route gpt-4o --yes
      Take the primary of a real route away, for 20 requests.
  failover-gateway drill --config gateway.toml --fault hang --requests 5
      What if it does not fail, but says nothing?
  failover-gateway drill --config gateway.toml --every 1h --yes --json >> drills.jsonl
      Again each hour, a line of JSON for each.

Faults (--fault):
  down, reset, hang, overloaded, unavailable, server-error, unauthorized, rate-limited[:30s], status:404,
  latency[:5s], cut[:BYTES]
  Of these, latency and cut let the primary answer, and pay for it.

Exit codes:
  0    The SLO was held in each phase
  1    It was missed, or the drill could not be held
  2    The command line is wrong";

/// Keeps LLM applications answering when a provider does not.
#[derive(Debug, Parser)]
#[command(name = "failover-gateway", version, args_conflicts_with_subcommands = true, after_long_help = HELP)]
#[command(after_help = "Examples, environment and exit codes: --help")]
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
    /// Look a configuration over: what is wrong, what is unwise and, with --online, whether every key and model works.
    #[command(after_long_help = CHECK_HELP)]
    Check(CheckArguments),
    /// Take the primary away under a bounded load, and report what clients saw before, during and after.
    #[command(after_long_help = DRILL_HELP)]
    Drill(DrillArguments),
    /// Say which targets a request would be sent to, which not and why, and send nothing.
    #[command(after_long_help = EXPLAIN_HELP)]
    Explain(ExplainArguments),
    /// Print what makes a shell complete this command's arguments.
    Completions {
        /// Which shell.
        shell: Shell,
    },
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

#[derive(Debug, clap::Args)]
struct CheckArguments {
    /// The configuration file.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Ask every target for a few words: at most 16 tokens each, which cost what they cost.
    #[arg(long)]
    online: bool,
    /// With --online: how long a target may take to answer.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct DrillArguments {
    /// The configuration file, whose providers are asked in earnest. Without one, simulated providers are.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The route, by its name or a model that it serves [default: the first one with a fallback]
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
    /// The model to ask for, where the route passes on what it is asked for.
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// What happens to the primary; all of them: --help
    #[arg(long, value_name = "FAULT", default_value = "down")]
    fault: InjectedFault,
    /// The most requests in each of the three phases [default: 20; 200 on simulated providers]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    requests: Option<u64>,
    /// How long each of the three phases lasts at most, such as 30s
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
    /// How many requests are asked at a time [default: 2; 8 on simulated providers]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..=1024))]
    concurrency: Option<u64>,
    /// How many of a hundred requests ask for a stream; the others for JSON
    #[arg(long, value_name = "PERCENT", default_value_t = 80, value_parser = clap::value_parser!(u8).range(..=100))]
    stream: u8,
    /// The most tokens of an answer
    #[arg(long, value_name = "NUMBER", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: u32,
    /// How many of a hundred requests must be answered in each phase
    #[arg(long, value_name = "PERCENT", default_value_t = 99.9, value_parser = percent)]
    slo: f64,
    /// Do it again and again, that long from one beginning to the next, such as 1h, until stopped
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    every: Option<Duration>,
    /// Do not ask whether real providers may be asked
    #[arg(long)]
    yes: bool,
    /// Print JSON; with --every, one line for each drill
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct ExplainArguments {
    /// The request's body; - reads it from standard input.
    #[arg(value_name = "FILE")]
    request: PathBuf,
    /// The configuration file. Without one, a well-known model of each of three vendors is asked about.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The route, by its name or a model that it serves [default: the one of the request's model]
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
    /// The API that the request is for [default: guessed]
    #[arg(long, value_name = "NAME", value_parser = dialects())]
    dialect: Option<String>,
    /// Tags that each target must carry, as x-failover-tags has them
    #[arg(long, value_name = "TAGS", value_delimiter = ',')]
    tags: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn dialects() -> Vec<&'static str> {
    Dialect::ALL.iter().map(|dialect| dialect.name()).collect()
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let command = arguments.command.unwrap_or(Command::Serve(arguments.serve));
    if !matches!(command, Command::Serve(_)) {
        // What is logged of failures that were asked for would only be in the report's way.
        gateway::log::init(LogFormat::Human, "off");
    }
    let result = match command {
        Command::Serve(serve) => serve.run().await.map(|()| true),
        Command::Check(check) => check.run().await,
        Command::Drill(drill) => drill.run().await,
        Command::Explain(explain) => explain.run(),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "failover-gateway", &mut script);
            print(&String::from_utf8_lossy(&script)).map(|()| true).map_err(Into::into)
        }
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
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
        gateway::log::init(format.or(config.as_ref().map(|config| config.log)).unwrap_or_default(), "info");
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

impl CheckArguments {
    async fn run(self) -> Result<bool, Box<dyn std::error::Error>> {
        let mut check = Check::of_file(&self.file);
        if self.online {
            check = check.online(self.timeout).await;
        }
        let text = if self.json { format!("{:#}\n", check.to_json()) } else { check.describe(Paint::of_output()) };
        print(&text)?;
        Ok(check.passed())
    }
}

impl DrillArguments {
    async fn run(self) -> Result<bool, Box<dyn std::error::Error>> {
        let mut settings = DrillSettings::default();
        settings.route = self.route;
        settings.model = self.model;
        settings.requests = self.requests;
        settings.duration = self.duration;
        settings.concurrency = self.concurrency.and_then(|number| usize::try_from(number).ok());
        settings.streams = self.stream;
        settings.max_tokens = self.max_tokens;
        settings.fault = self.fault;
        settings.slo = self.slo;
        let drill = match &self.config {
            Some(file) => Drill::new(&Config::load(file)?, settings)?,
            None => Drill::on_simulated_providers(settings).await?,
        };
        eprint!("{}", drill.announcement());
        if !drill.is_simulated() && !self.yes && std::io::stdin().is_terminal() && !agreed()? {
            return Err("nothing was asked".into());
        }
        let Some(every) = self.every else {
            let report = drill.run(progress_bar(&drill)).await?;
            let paint = Paint::of_output();
            print(&if self.json { format!("{:#}\n", report.to_json()) } else { report.describe(paint) })?;
            return Ok(report.slo_held());
        };
        let mut stop = std::pin::pin!(stop_signal()?);
        let mut times = tokio::time::interval(every);
        times.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut held = true;
        loop {
            let next = async {
                times.tick().await;
                drill.run(progress_bar(&drill)).await
            };
            let report = tokio::select! {
                () = &mut stop => return Ok(held),
                report = next => report?,
            };
            held &= report.slo_held();
            let paint = Paint::of_output();
            print(&if self.json { format!("{}\n", report.to_json()) } else { report.describe(paint) + "\n" })?;
        }
    }
}

impl ExplainArguments {
    fn run(self) -> Result<bool, Box<dyn std::error::Error>> {
        let config = match &self.config {
            Some(file) => Explanation::read_config(file)?,
            None => Explanation::example(),
        };
        let body = match self.request.to_str() {
            Some("-") => std::io::read_to_string(std::io::stdin()),
            _ => std::fs::read_to_string(&self.request),
        };
        let body = body.map_err(|error| format!("{}: {error}", self.request.display()))?;
        let mut question = Question::default();
        question.dialect = self.dialect.as_deref().and_then(Dialect::from_name);
        question.route = self.route;
        question.tags = self.tags;
        let explanation = Explanation::of(&config, body, &question)?;
        let paint = Paint::of_output();
        print(&if self.json { format!("{:#}\n", explanation.to_json()) } else { explanation.describe(paint) })?;
        Ok(explanation.would_be_sent())
    }
}

fn percent(text: &str) -> Result<f64, String> {
    let percent = text.parse().ok().filter(|percent| (0.0..=100.0).contains(percent));
    percent.ok_or_else(|| "not a number from 0 to 100".to_owned())
}

/// Prints; whoever reads may have gone, which is no reason to panic.
fn print(text: &str) -> std::io::Result<()> {
    let mut output = std::io::stdout().lock();
    output.write_all(text.as_bytes())?;
    output.flush()
}

/// Asks whether to go on.
fn agreed() -> std::io::Result<bool> {
    eprint!("Go on? [y/N] ");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
