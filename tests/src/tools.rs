//! Running the programs that the harness is built on: ip(8), ethtool(8) and the like.

use std::{
    env,
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};

/// Runs a command to its end and answers with its standard output.
///
/// # Errors
///
/// When it cannot be started or does not succeed; the message has the command and its standard
/// error.
pub fn output(command: &mut Command) -> Result<String> {
    finish(command, None)
}

/// Like [`output`], with text on standard input.
///
/// # Errors
///
/// As [`output`].
pub fn output_with_input(command: &mut Command, input: &str) -> Result<String> {
    finish(command, Some(input))
}

fn finish(command: &mut Command, input: Option<&str>) -> Result<String> {
    command
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .with_context(|| format!("{:?} cannot be started", command.get_program()))?;
    if let (Some(text), Some(mut pipe)) = (input, child.stdin.take()) {
        // A program that fails early closes its input; what it says about that is in its standard
        // error.
        let _ = pipe.write_all(text.as_bytes());
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!(
            "{command:?} ended with {}: {}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim(),
            input.map(|text| format!("\ninput was:\n{text}")).unwrap_or_default(),
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs lines of ip(8) commands, in the namespace of that name if one is given.
///
/// # Errors
///
/// When one of the lines fails; those before it have taken effect.
pub fn ip_batch(namespace: Option<&str>, lines: &str) -> Result<()> {
    let mut command = Command::new("ip");
    if let Some(name) = namespace {
        command.args(["-n", name]);
    }
    output_with_input(command.args(["-batch", "-"]), lines).map(drop)
}

/// The path of a program in PATH.
pub fn find(program: &str) -> Option<PathBuf> {
    let folders = env::var_os("PATH")?;
    env::split_paths(&folders)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

/// Makes sure that the machine has these programs.
///
/// # Errors
///
/// Names all that are missing.
pub fn require(programs: &[&str]) -> Result<()> {
    let missing: Vec<_> = programs
        .iter()
        .copied()
        .filter(|program| find(program).is_none())
        .collect();
    ensure!(
        missing.is_empty(),
        "this machine lacks the programs this needs: {}",
        missing.join(", ")
    );
    Ok(())
}

/// Makes sure that this process may create namespaces and load BPF programs.
///
/// # Errors
///
/// When it does not run as root.
pub fn require_root() -> Result<()> {
    let user = nix::unistd::geteuid();
    ensure!(
        user.is_root(),
        "this creates network namespaces and loads XDP programs, which needs root, but it runs as uid {user}: use sudo"
    );
    Ok(())
}
