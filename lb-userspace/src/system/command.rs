//! Commands of the operator: run with an environment of their own, as a user of their own, killed with all they began.

use std::{collections::BTreeMap, io, os::unix::process::ExitStatusExt, process::Stdio, thread, time::Duration};

use nix::{
    libc,
    sys::signal::{Signal, killpg},
    unistd::{Gid, Pid, Uid, User, getppid},
};
use tokio::{
    io::AsyncReadExt,
    process::{Child, ChildStderr, Command},
    runtime::Handle,
    sync::oneshot,
};

use crate::system::fd_limit;
use lb_core::printable::printable;

/// What commands find programs by.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How much of what a command complains of is kept, in bytes: the end of it.
const LONGEST_COMPLAINT: usize = 4096;
/// How much of that is told, in characters.
const LONGEST_LINE: usize = 200;
/// How long the last words of a command that has ended are waited for: a process that it left may hold the pipe.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// Whom a command runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunAs {
    name: String,
    /// `None`: whoever this process is.
    ids: Option<(Uid, Gid)>,
}

/// Why a user cannot be one that commands run as.
#[derive(Debug, thiserror::Error)]
#[error("the user \"{name}\" {wrong}")]
pub struct UserError {
    /// Its name.
    name: String,
    /// What is wrong with it.
    wrong: String,
}

/// Looks a user up. Where this process is not root, every command runs as it does. Root is one only where that is allowed.
///
/// # Errors
///
/// When there is no such user, or it is root.
pub(crate) fn user(name: &str, may_be_root: bool) -> Result<RunAs, UserError> {
    let error = |wrong: String| UserError {
        name: name.to_owned(),
        wrong,
    };
    if !Uid::effective().is_root() {
        let name = name.to_owned();
        return Ok(RunAs { name, ids: None });
    }
    let found = User::from_name(name)
        .map_err(|cause| error(format!("cannot be looked up: {cause}")))?
        .ok_or_else(|| error("is not known on this machine".to_owned()))?;
    if !may_be_root && (found.uid.is_root() || found.gid.as_raw() == 0) {
        return Err(error("is root, or of root's group".to_owned()));
    }
    Ok(RunAs {
        name: name.to_owned(),
        ids: Some((found.uid, found.gid)),
    })
}

/// Why a command did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandFailure {
    /// It ended otherwise than with status 0, or cannot be run.
    #[error("{0}")]
    Failed(String),
    /// This machine could not run it.
    #[error("not possible here: {0}")]
    Here(io::Error),
}

/// The group of processes that a command is; it ends with this.
struct Group(Pid);

impl Drop for Group {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = killpg(self.0, Signal::SIGKILL);
    }
}

/// Runs a command to its end. Dropping the future kills it, with all processes that it began in its group.
///
/// # Errors
///
/// When it does not end with status 0; the last line that it wrote to standard error says more.
pub(crate) async fn run(
    argv: &[String],
    environment: &BTreeMap<String, String>,
    user: &RunAs,
) -> Result<(), CommandFailure> {
    let (argv, environment, user) = (argv.to_vec(), environment.clone(), user.clone());
    let runtime = Handle::current();
    // Dropped last, with all that is left of the command.
    let (_running, ended) = std::sync::mpsc::channel::<()>();
    let (spawned, child) = oneshot::channel();
    // To fork takes the longer the more memory this process has, and others wait for this thread. The one that forks stays as
    // long as the command does: the kernel tells a child of the end of its parent when that thread ends.
    let forking = move || {
        let _runtime = runtime.enter();
        let child = spawn(&argv, &environment, &user).map_err(|error| not_run(&argv, &user, error));
        let child = child.map(|child| {
            let group = child.id().map(|id| Group(Pid::from_raw(id.cast_signed())));
            (child, group)
        });
        let _ = spawned.send(child);
        let _ = ended.recv();
    };
    let named = thread::Builder::new().name("command".to_owned());
    named.spawn(forking).map_err(CommandFailure::Here)?;
    let (mut child, group) = child
        .await
        .unwrap_or_else(|error| Err(CommandFailure::Here(io::Error::other(error))))?;
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
        status.map_err(CommandFailure::Here)?
    };
    if status.success() {
        return Ok(());
    }
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    };
    Err(CommandFailure::Failed(match line(&complaint) {
        Some(line) => format!("{how}: {line}"),
        None => how,
    }))
}

fn spawn(argv: &[String], environment: &BTreeMap<String, String>, user: &RunAs) -> io::Result<Child> {
    let (program, arguments) = argv
        .split_first()
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .envs(environment)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    if let Some((uid, gid)) = user.ids {
        // With that the standard library also drops all supplementary groups.
        command.uid(uid.as_raw()).gid(gid.as_raw());
    }
    let parent = Pid::this();
    // SAFETY: between fork and exec it makes system calls alone, and allocates nothing.
    unsafe { command.pre_exec(move || die_with(parent).and_then(|()| fd_limit::restore())) };
    if user.ids.is_none_or(|(uid, _)| !uid.is_root()) {
        // SAFETY: as above.
        unsafe { command.pre_exec(renounce) };
    }
    command.spawn()
}

/// Has the kernel kill this process when its parent ends, however that ends.
fn die_with(parent: Pid) -> io::Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    if getppid() != parent {
        // It ended before it was asked for.
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    Ok(())
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

fn not_run(argv: &[String], user: &RunAs, error: io::Error) -> CommandFailure {
    use io::ErrorKind::{NotFound, PermissionDenied};
    let program = argv.first().map_or("", String::as_str);
    match error.kind() {
        NotFound => CommandFailure::Failed(format!("there is no {program}")),
        PermissionDenied => CommandFailure::Failed(format!("{program} may not be run by {}", user.name)),
        _ => CommandFailure::Here(error),
    }
}

async fn read(from: Option<ChildStderr>, into: &mut Vec<u8>) {
    let Some(mut from) = from else { return };
    let mut piece = [0; LONGEST_COMPLAINT];
    // Who writes on must not wait for a reader, nor die of its absence.
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        into.extend_from_slice(&piece[..length]);
        into.drain(..into.len().saturating_sub(LONGEST_COMPLAINT));
    }
}

/// The last line that says something.
fn line(complaint: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(complaint);
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    Some(printable(line).chars().take(LONGEST_LINE).collect())
}
