//! Runs operators' commands: with their own environment and user, and killed together with their
//! children.

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

/// The `PATH` of commands.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Size of the error output of a command that is kept, in bytes: its end.
const MAX_ERROR_OUTPUT: usize = 4096;
/// The part of it that is shown, in characters.
const MAX_ERROR_LINE: usize = 200;
/// How long the error output of an ended command is awaited. A process that it left behind may hold
/// the pipe.
const OUTPUT_PATIENCE: Duration = Duration::from_millis(50);

/// The user of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunAs {
    name: String,
    /// `None`: the user of this process.
    ids: Option<(Uid, Gid)>,
}

/// Why commands cannot run as a user.
#[derive(Debug, thiserror::Error)]
#[error("the user \"{name}\" {wrong}")]
pub struct UserError {
    /// The name.
    name: String,
    /// The reason.
    wrong: String,
}

/// Looks a user up. If this process is not root, every command runs as this process's user. Root is
/// accepted only if `may_be_root` is true.
///
/// # Errors
///
/// When the user does not exist, or is root and may not be.
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
        .ok_or_else(|| error("does not exist on this machine".to_owned()))?;
    if !may_be_root && (found.uid.is_root() || found.gid.as_raw() == 0) {
        return Err(error("is root, or in root's group".to_owned()));
    }
    Ok(RunAs {
        name: name.to_owned(),
        ids: Some((found.uid, found.gid)),
    })
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandFailure {
    /// It ended with another status than 0, or cannot be run.
    #[error("{0}")]
    Failed(String),
    /// This machine cannot run it.
    #[error("not possible on this machine: {0}")]
    Here(io::Error),
}

/// The process group of a command. Dropping it kills the group.
struct Group(Pid);

impl Drop for Group {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = killpg(self.0, Signal::SIGKILL);
    }
}

/// Runs a command to its end. Dropping the future kills it, with all processes in its group.
///
/// # Errors
///
/// When it does not end with status 0. The error has the last line that it wrote to standard error.
pub(crate) async fn run(
    argv: &[String],
    environment: &BTreeMap<String, String>,
    user: &RunAs,
) -> Result<(), CommandFailure> {
    let (argv, environment, user) = (argv.to_vec(), environment.clone(), user.clone());
    let runtime = Handle::current();
    // Dropped last: it ends the thread, and with it what is left of the command.
    let (_running, ended) = std::sync::mpsc::channel::<()>();
    let (spawned, child) = oneshot::channel();
    // A thread of its own: fork takes longer the more memory this process uses, and would block
    // this thread. The thread stays until the command has ended, because the kernel kills the child
    // when the thread that forked it ends.
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
    let mut error_output = Vec::new();
    let listened = child.stderr.take();
    let status = {
        let mut reading = std::pin::pin!(read(listened, &mut error_output));
        let mut has_read = false;
        let status = loop {
            tokio::select! {
                status = child.wait() => break status,
                () = &mut reading, if !has_read => has_read = true,
            }
        };
        drop(group);
        if !has_read {
            let _ = tokio::time::timeout(OUTPUT_PATIENCE, reading).await;
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
    Err(CommandFailure::Failed(match line(&error_output) {
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
        // The standard library then also drops all supplementary groups.
        command.uid(uid.as_raw()).gid(gid.as_raw());
    }
    let parent = Pid::this();
    // SAFETY: between fork and exec it only makes system calls, and allocates nothing.
    unsafe { command.pre_exec(move || die_with(parent).and_then(|()| fd_limit::restore())) };
    if user.ids.is_none_or(|(uid, _)| !uid.is_root()) {
        // SAFETY: as above.
        unsafe { command.pre_exec(drop_privileges) };
    }
    command.spawn()
}

/// Has the kernel kill this process when its parent ends.
fn die_with(parent: Pid) -> io::Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    if getppid() != parent {
        // The parent ended before the request.
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    Ok(())
}

/// Drops the ambient capabilities, which a daemon without root passes to its children.
fn drop_privileges() -> io::Result<()> {
    // SAFETY: the call takes only numbers.
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
        NotFound => CommandFailure::Failed(format!("{program} does not exist")),
        PermissionDenied => CommandFailure::Failed(format!("{} may not run {program}", user.name)),
        _ => CommandFailure::Here(error),
    }
}

async fn read(from: Option<ChildStderr>, into: &mut Vec<u8>) {
    let Some(mut from) = from else { return };
    let mut piece = [0; MAX_ERROR_OUTPUT];
    // Reads to the end: a command that writes must not block, nor get a broken pipe.
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        into.extend_from_slice(&piece[..length]);
        into.drain(..into.len().saturating_sub(MAX_ERROR_OUTPUT));
    }
}

/// The last line that is not empty.
fn line(error_output: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(error_output);
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    Some(printable(line).chars().take(MAX_ERROR_LINE).collect())
}
