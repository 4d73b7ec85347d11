//! Does a command end with status 0?

use std::{io, net::SocketAddr, os::unix::process::ExitStatusExt, process::Stdio, time::Duration};

use nix::{
    libc,
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    io::AsyncReadExt,
    process::{Child, ChildStderr, Command},
};

use super::{ProbeFailure, TargetId};
use crate::{config::CommandProbe, health::means::Ids};

/// What commands find programs by.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How much of what a command complains of is kept, in bytes.
const LONGEST_COMPLAINT: u64 = 4096;
/// How much of that is told, in characters.
const LONGEST_LINE: usize = 200;
/// How long the last words of a command that has ended are waited for: a process that it left may hold the pipe.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// The group of processes that a command is; it ends with this.
struct Group(Pid);

impl Drop for Group {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = killpg(self.0, Signal::SIGKILL);
    }
}

/// Runs the command. Dropping the future kills it, with all processes that it began in its group.
pub(super) async fn probe(
    id: &TargetId,
    address: SocketAddr,
    probe: &CommandProbe,
    user: Option<Ids>,
) -> Result<(), ProbeFailure> {
    let mut child = spawn(id, address, probe, user).map_err(|error| not_run(probe, error))?;
    let group = child.id().map(|id| Group(Pid::from_raw(id.cast_signed())));
    let mut complaint = Vec::new();
    let listened = child.stderr.take();
    let status = {
        let mut reading = std::pin::pin!(read(listened, &mut complaint));
        let mut has_read = false;
        let status = loop {
            tokio::select! {
                status = child.wait() => break status,
                () = &mut reading, if !has_read => has_read = true,
            }
        };
        drop(group);
        if !has_read {
            let _ = tokio::time::timeout(LAST_WORDS, reading).await;
        }
        status.map_err(ProbeFailure::Here)?
    };
    if status.success() {
        return Ok(());
    }
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    };
    Err(ProbeFailure::Command(match line(&complaint) {
        Some(line) => format!("{how}: {line}"),
        None => how,
    }))
}

fn spawn(id: &TargetId, address: SocketAddr, probe: &CommandProbe, user: Option<Ids>) -> io::Result<Child> {
    let (program, arguments) = probe
        .argv
        .split_first()
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .envs(&probe.environment)
        .env("LBD_SERVICE", &id.service)
        .env("LBD_BACKEND", &id.backend)
        .env("LBD_ADDRESS", address.ip().to_string())
        .env("LBD_PORT", address.port().to_string())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    if let Some(Ids { uid, gid }) = user {
        // With that the standard library also drops all supplementary groups.
        command.uid(uid.as_raw()).gid(gid.as_raw());
    }
    // SAFETY: between fork and exec it makes system calls alone, and allocates nothing.
    unsafe { command.pre_exec(renounce) };
    command.spawn()
}

/// Gives up what a daemon that is not root hands on to its children.
fn renounce() -> io::Result<()> {
    // SAFETY: the call takes numbers alone.
    let cleared = unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
    if cleared != 0 {
        return Err(io::Error::last_os_error());
    }
    nix::sys::prctl::set_no_new_privs()?;
    Ok(())
}

fn not_run(probe: &CommandProbe, error: io::Error) -> ProbeFailure {
    use io::ErrorKind::{NotFound, PermissionDenied};
    let program = probe.argv.first().map_or("", String::as_str);
    match error.kind() {
        NotFound => ProbeFailure::Command(format!("there is no {program}")),
        PermissionDenied => ProbeFailure::Command(format!("{program} may not be run by {}", probe.user)),
        _ => ProbeFailure::Here(error),
    }
}

async fn read(from: Option<ChildStderr>, into: &mut Vec<u8>) {
    let Some(mut from) = from else { return };
    let _ = (&mut from).take(LONGEST_COMPLAINT).read_to_end(into).await;
    // Who writes on must not wait for a reader, nor die of its absence.
    let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
}

/// The last line that says something.
fn line(complaint: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(complaint);
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    let clean = line.chars().map(|c| if c.is_control() { ' ' } else { c });
    Some(clean.take(LONGEST_LINE).collect())
}
