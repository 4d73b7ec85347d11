//! Starts other programs without standard input, prints what it starts, and explains errors.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Folders of administration tools that the search path of ordinary users lacks.
const SYSTEM_FOLDERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Prints on standard error what is being done.
pub(crate) fn announce(what: impl std::fmt::Display) {
    eprintln!("==> {what}");
}

/// A step that takes at least this long prints how long it took.
const NOTABLE: Duration = Duration::from_secs(3);

/// Does a step of the work. Prints what it is and how long it usually takes, and afterwards how
/// long it took.
///
/// # Errors
///
/// When the step fails.
pub(crate) fn step<T>(what: &str, usually: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    announce(format_args!("{what} ({usually})"));
    let begin = Instant::now();
    let result = work()?;
    let took = begin.elapsed();
    if took >= NOTABLE {
        announce(format_args!("{what}: done in {} s", took.as_secs()));
    }
    Ok(result)
}

/// Runs the command to its end. Its output goes to standard error, and it reads nothing.
///
/// # Errors
///
/// When it cannot be started or does not succeed.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    eprintln!("  $ {}", shown(command));
    let status = command
        .stdin(Stdio::null())
        .stdout(io::stderr())
        .status()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    if !status.success() {
        bail!("`{}` ended with {status}", shown(command));
    }
    Ok(())
}

/// What the command prints, on either stream, whether it succeeds or not. `None` when it cannot be
/// started.
pub(crate) fn output_of(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok()?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Some(text)
}

/// Whether the command can be started and succeeds; its output is dropped.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// The search path, with the system's administration tools and with `first` before everything else.
pub(crate) fn search_path(first: &[PathBuf]) -> OsString {
    let inherited = std::env::var_os("PATH").unwrap_or_default();
    let folders = first.iter().cloned().chain(std::env::split_paths(&inherited));
    let folders = folders.chain(SYSTEM_FOLDERS.iter().map(PathBuf::from));
    // Only a folder with a colon in its name cannot be joined; the inherited path has none after
    // the split.
    std::env::join_paths(folders).unwrap_or(inherited)
}

/// The full path of a program, looked for as the shell does.
pub(crate) fn which(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&search_path(&[]))
        .map(|folder| folder.join(program))
        .find(|path| is_executable(path))
}

pub(crate) fn is_root() -> bool {
    effective_uid() == Some(0)
}

/// The command, run as root: as it is for root, through sudo for others.
///
/// # Errors
///
/// When the user is not root and sudo is absent or would need a password that nobody can type.
pub(crate) fn as_root(program: impl AsRef<OsStr>) -> Result<Command> {
    if is_root() {
        return Ok(Command::new(program));
    }
    let mut command = Command::new("sudo");
    command.args(sudo_flags()?).arg(program);
    Ok(command)
}

/// The flags of sudo: it does not ask for a password where it needs none, and asks at a terminal.
///
/// # Errors
///
/// As [`as_root`].
pub(crate) fn sudo_flags() -> Result<&'static [&'static str]> {
    use std::io::IsTerminal;
    if which("sudo").is_none() {
        bail!("this needs root: run it as root, or install sudo");
    }
    if succeeds(Command::new("sudo").args(["-n", "true"])) {
        Ok(&["-n"])
    } else if io::stdin().is_terminal() {
        Ok(&[])
    } else {
        bail!("this needs root: sudo asks for a password and there is no terminal to type it; run it as root")
    }
}

fn effective_uid() -> Option<u32> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))?
        .split_whitespace()
        .nth(1)?
        .parse()
        .ok()
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// The command as one line, without scripts among its arguments.
fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy());
    words
        .map(|word| if word.contains('\n') { "<script>".into() } else { word })
        .collect::<Vec<_>>()
        .join(" ")
}
