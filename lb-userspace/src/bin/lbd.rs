//! `lbd`: the controller's command line.

use std::{
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};
use lb_userspace::{
    daemon::{self, MapChoice, preflight},
    system::fd_limit,
};
use tracing_subscriber::EnvFilter;

/// How long blocking tasks may take to end.
const SHUTDOWN: Duration = Duration::from_secs(5);

/// Layer-4 load balancer: an XDP program and its controller.
#[derive(Parser)]
#[command(name = "lbd", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the controller in the foreground until SIGTERM or SIGINT.
    ///
    /// Forwarding continues when the controller ends or is killed. The next start adopts maps,
    /// flows and interfaces. Use `lbd detach` to end forwarding.
    Run {
        /// Configuration file.
        #[arg(long, value_name = "FILE", default_value = "/etc/lbd/lbd.toml")]
        config: PathBuf,
        /// Format of log lines on standard error.
        #[arg(long, value_enum, default_value_t = LogFormat::Text)]
        log_format: LogFormat,
        /// Log level: error, warn, info, debug, trace; or filters such as
        /// `info,lb_userspace::health=debug`.
        #[arg(long, value_name = "FILTER", env = "LBD_LOG", default_value = "info", value_parser = filter)]
        log: Box<EnvFilter>,
        /// Start with new, empty maps, with this version's layout and the configured sizes.
        ///
        /// The interfaces switch in one step. Connections of the modes nat and dnat are reset.
        /// Other connections continue if the scheduler is maglev or source-hash.
        #[arg(long)]
        replace_maps: bool,
    },
    /// Check a configuration file. Changes nothing.
    ///
    /// Exit status 0: valid; 1: invalid.
    Check {
        /// Configuration file.
        #[arg(value_name = "FILE", default_value = "/etc/lbd/lbd.toml")]
        file: PathBuf,
        /// Print the result as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Stop forwarding: detach the XDP program from all interfaces, remove all maps and flows.
    Detach {
        /// Configuration file of the node.
        #[arg(long, value_name = "FILE", default_value = "/etc/lbd/lbd.toml")]
        config: PathBuf,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Run {
            config,
            log_format,
            log,
            replace_maps,
        } => {
            let maps = if replace_maps {
                MapChoice::Replace
            } else {
                MapChoice::TakeOver
            };
            run(&config, log_format, *log, maps)
        }
        Command::Check { file, json } => check(&file, json),
        Command::Detach { config } => detach(&config),
    };
    result.unwrap_or_else(|error| {
        eprintln!("lbd: {error:#}");
        ExitCode::FAILURE
    })
}

fn filter(text: &str) -> Result<Box<EnvFilter>, String> {
    let expected = "expected a level such as info, or filters such as info,lb_userspace::health=debug";
    EnvFilter::try_new(text)
        .map(Box::new)
        .map_err(|error| format!("{error}; {expected}"))
}

fn run(config: &Path, format: LogFormat, filter: EnvFilter, maps: MapChoice) -> anyhow::Result<ExitCode> {
    // The path is shown to clients in other folders.
    let config = std::path::absolute(config).with_context(|| config.display().to_string())?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // The reader of the log may end; this process must not end with it.
        .with_writer(|| LossyLog(std::io::stderr()))
        .log_internal_errors(false);
    match format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => lines.json().init(),
    }
    fd_limit::raise()?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let outcome = runtime.block_on(daemon::run(&config, maps));
    runtime.shutdown_timeout(SHUTDOWN);
    outcome?;
    Ok(ExitCode::SUCCESS)
}

/// A log that loses lines when nothing reads it.
struct LossyLog(std::io::Stderr);

impl Write for LossyLog {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        // A line is never repeated: it is reported as written even if a part of it is lost.
        let _ = self.0.write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let _ = self.0.flush();
        Ok(())
    }
}

fn check(file: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let result = lb_userspace::system::config_file::load_source(file)
        .and_then(|source| preflight::check(&source).map(|_| source.config));
    if json {
        let (error, diagnostics) = match &result {
            Ok(_) => (None, Vec::new()),
            Err(error) if error.diagnostics().is_empty() => (Some(error.to_string()), Vec::new()),
            Err(error) => (None, error.diagnostics().to_vec()),
        };
        let warnings = result.as_ref().map(preflight::warnings).unwrap_or_default();
        let found = serde_json::json!({
            "valid": result.is_ok(),
            "error": error,
            "diagnostics": diagnostics,
            "warnings": warnings,
        });
        println!("{found}");
        return Ok(if result.is_ok() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        });
    }
    let config = result?;
    for warning in preflight::warnings(&config) {
        eprintln!("warning: {warning}");
    }
    let backends: usize = config.services.iter().map(|service| service.backends.len()).sum();
    let number = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let mut found = format!(
        "{} with {}",
        number(config.services.len(), "service"),
        number(backends, "backend")
    );
    if !config.vrrp.is_empty() {
        found += &format!(", {}", number(config.vrrp.len(), "virtual router"));
    }
    println!("{}: valid: {found}", file.display());
    Ok(ExitCode::SUCCESS)
}

fn detach(config: &Path) -> anyhow::Result<ExitCode> {
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .without_time()
        .with_target(false)
        .init();
    if daemon::detach(config)? {
        println!("forwarding has ended; the maps are removed");
    } else {
        println!("nothing was attached");
    }
    Ok(ExitCode::SUCCESS)
}
