//! `smoke`: loads the XDP program into the running kernel and prints what the kernel says about it,
//! as one line of JSON.

use std::process::ExitCode;

use harness::smoke;

/// Lines of the verifier's log that are worth showing.
const LINES: usize = 12;

fn main() -> ExitCode {
    let loaded = smoke::load().and_then(|loaded| Ok(serde_json::to_string(&loaded)?));
    match loaded {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{}", smoke::ending(&format!("{error:#}"), LINES));
            ExitCode::FAILURE
        }
    }
}
