//! `lbctl`, the command that shows and controls a balancer.

use std::{io::Write, process::ExitCode};

use lb_userspace::cli::{self, Arguments};

fn main() -> ExitCode {
    if cli::complete_if_asked() {
        return ExitCode::SUCCESS;
    }
    let arguments = Arguments::of_process();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("lbctl: cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    cli::fit_to_terminal();
    let json = arguments.json;
    match runtime.block_on(cli::run_or_watch(arguments, &mut std::io::stdout().lock())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is_closed_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error may be closed.
            let _ = if json {
                writeln!(std::io::stderr(), "{}", error.problem())
            } else {
                writeln!(std::io::stderr(), "lbctl: {error}")
            };
            ExitCode::from(error.exit_code())
        }
    }
}
