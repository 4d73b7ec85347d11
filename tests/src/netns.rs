//! Network namespaces that a test enters and that disappear with it.

use std::{
    fs::{self, File},
    io,
    panic::resume_unwind,
    path::Path,
    process::{self, Command},
    sync::{
        Arc, Once,
        atomic::{AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result};
use nix::sched::{CloneFlags, setns};

use crate::tools;

/// First part of the names of all namespaces and folders of the harness; the id of the process that
/// made them follows.
pub const PREFIX: &str = "lbt";

const FOLDER: &str = "/run/netns";

/// A network namespace with a name, made for one test and deleted on drop.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    handle: Arc<File>,
}

impl Namespace {
    /// A fresh namespace with its loopback interface up; `label` ends its name and is for people.
    ///
    /// # Errors
    ///
    /// When this process is not root or the kernel refuses.
    pub fn new(label: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        static REAP: Once = Once::new();
        tools::require_root()?;
        tools::require(&["ip"])?;
        REAP.call_once(reap_leftovers);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}-{}-{number}-{label}", process::id());
        tools::output(Command::new("ip").args(["netns", "add", &name]))?;
        let path = Path::new(FOLDER).join(&name);
        let handle = File::open(&path).with_context(|| format!("cannot open namespace {}", path.display()))?;
        let namespace = Self {
            name,
            handle: Arc::new(handle),
        };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Its name, as ip(8) knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `work` on a thread of its own inside the namespace and waits for it. Sockets made there
    /// stay there, whichever thread uses them later.
    ///
    /// Child processes of the harness die with the *thread* that started them: start those with
    /// [`command`](Self::command) instead.
    ///
    /// # Panics
    ///
    /// When `work` does, or when the namespace cannot be entered.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                enter(&self.handle).expect("the namespace can be entered");
                work()
            });
            inside.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// Starts a thread inside the namespace.
    ///
    /// # Panics
    ///
    /// The thread panics when the namespace cannot be entered.
    pub fn spawn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let handle = Arc::clone(&self.handle);
        thread::spawn(move || {
            enter(&handle).expect("the namespace can be entered");
            work()
        })
    }

    /// A command that will run inside the namespace. Unlike with `ip netns exec`, mounts stay as
    /// they are.
    pub fn command(&self, program: &str) -> Command {
        use std::os::unix::process::CommandExt as _;
        let mut command = Command::new(tools::find(program).unwrap_or_else(|| program.into()));
        let handle = Arc::clone(&self.handle);
        // SAFETY: between fork and exec the closure only calls setns(2), which is async-signal-safe
        // and touches no memory of the process; the closure keeps the descriptor open.
        unsafe {
            command.pre_exec(move || enter(&handle));
        }
        command
    }

    /// Runs lines of ip(8) commands inside.
    ///
    /// # Errors
    ///
    /// When one of them fails.
    pub fn ip(&self, lines: &str) -> Result<()> {
        tools::ip_batch(Some(&self.name), lines)
    }

    /// Sets a variable below /proc/sys/net, such as `ipv4/ip_forward`.
    ///
    /// # Errors
    ///
    /// When there is no such variable or the value is refused.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys/net").join(key);
        self.run(|| fs::write(&path, value))
            .with_context(|| format!("cannot write {value:?} to {} in {}", path.display(), self.name))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = delete(&self.name) {
            eprintln!("namespace {} is left behind: {error:#}", self.name);
        }
    }
}

fn enter(handle: &File) -> io::Result<()> {
    setns(handle, CloneFlags::CLONE_NEWNET).map_err(io::Error::from)
}

fn delete(name: &str) -> Result<()> {
    tools::output(Command::new("ip").args(["netns", "del", name])).map(drop)
}

/// The names of all namespaces that a process made, this one or another.
pub fn names_of(process: u32) -> Vec<String> {
    let prefix = format!("{PREFIX}-{process}-");
    names().filter(|name| name.starts_with(&prefix)).collect()
}

fn names() -> impl Iterator<Item = String> {
    let entries = fs::read_dir(FOLDER).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

/// Whether a name belongs to the harness, and the process that made it has ended.
pub(crate) fn is_leftover(name: &str) -> bool {
    let owner = name
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.strip_prefix('-'))
        .and_then(|rest| rest.split('-').next());
    let owner = owner.and_then(|number| number.parse::<u32>().ok());
    owner.is_some_and(|number| !Path::new("/proc").join(number.to_string()).exists())
}

fn reap_leftovers() {
    for name in names().filter(|name| is_leftover(name)) {
        // Another run may remove the same leftovers. The second one finds nothing.
        let _ = delete(&name);
    }
}
