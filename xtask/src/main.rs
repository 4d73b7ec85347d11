//! Every developer command of the project, as `cargo xtask <command>`.
//!
//! Progress and the output of compilers go to standard error. Standard output has only the result
//! of the command: a table, the tests, the JSON of a bench.

mod build_ebpf;
mod cargo;
mod ci;
mod lint;
mod process;
mod project;
mod run;
mod setup;
mod test;
mod test_kernel;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::project::Project;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Developer commands of the load balancer"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Setup(setup::Args),
    BuildEbpf(build_ebpf::Args),
    Test(test::Args),
    TestKernel(test_kernel::Args),
    Tidy(tidy::Args),
    Lint(lint::Args),
    Ci(ci::Args),
    Demo(run::DemoArgs),
    Bench(run::BenchArgs),
    Fuzz(run::FuzzArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let project = Project::find();
    let result = match cli.command {
        Command::Setup(args) => setup::run(&project, args),
        Command::BuildEbpf(args) => build_ebpf::run(&project, args),
        Command::Test(args) => test::run(&project, args),
        Command::TestKernel(args) => test_kernel::run(&project, args),
        Command::Tidy(args) => tidy::run(&project, args),
        Command::Lint(args) => lint::run(&project, args),
        Command::Ci(args) => ci::run(&project, args),
        Command::Demo(args) => run::demo(&project, args),
        Command::Bench(args) => run::bench(&project, args),
        Command::Fuzz(args) => run::fuzz(&project, args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
