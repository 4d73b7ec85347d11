//! What the running kernel offers beyond what every test needs, and how a test that misses it is
//! counted.
//!
//! ```no_run
//! if harness::kernel::lacks(&["ipip"]) {
//!     return;
//! }
//! ```

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context as _, Result};

use crate::tools;

/// Release of the running kernel, such as `6.1.0-56-cloud-amd64`.
///
/// # Errors
///
/// When /proc is not there.
pub fn release() -> Result<String> {
    let text =
        std::fs::read_to_string("/proc/sys/kernel/osrelease").context("cannot read the release of the kernel")?;
    Ok(text.trim().to_owned())
}

/// Whether the kernel has a module: built in, loaded, or loaded now.
pub fn has(module: &str) -> bool {
    is_present(module) || (modprobe(module) && (is_present(module) || is_built_in(module)))
}

/// Whether the kernel lacks any of these modules. If so, the calling test is counted as skipped by
/// `cargo xtask test`, with its name and the reason, and has to return.
pub fn lacks(modules: &[&str]) -> bool {
    let absent: Vec<_> = modules.iter().copied().filter(|module| !has(module)).collect();
    if absent.is_empty() {
        return false;
    }
    skip(&format!("this kernel has no module {}", absent.join(", ")));
    true
}

/// Counts the calling test as skipped. The line goes past libtest, which hides what passing tests
/// print.
pub fn skip(reason: &str) {
    let thread = thread::current();
    let line = format!("\nskipped: {}: {reason}\n", thread.name().unwrap_or("a test"));
    let mut output = std::io::stdout().lock();
    // Without standard output the test is not counted.
    let _ = output.write_all(line.as_bytes()).and_then(|()| output.flush());
}

/// A module, loaded or built in, has a folder; one that is built in without parameters has none.
fn is_present(module: &str) -> bool {
    Path::new("/sys/module").join(module.replace('-', "_")).exists()
}

fn is_built_in(module: &str) -> bool {
    let list = release().and_then(|release| {
        Ok(std::fs::read_to_string(format!(
            "/lib/modules/{release}/modules.builtin"
        ))?)
    });
    let file = format!("/{module}.ko");
    list.is_ok_and(|list| list.lines().any(|line| line.ends_with(&file)))
}

fn modprobe(module: &str) -> bool {
    let Some(program) = tools::find("modprobe") else {
        return false;
    };
    let mut command = Command::new(program);
    command
        .args(["-q", module])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
