//! Child processes that are watched, and that never outlive the test.

use std::{
    io::{BufRead as _, BufReader, Read},
    os::unix::process::CommandExt as _,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::{
    sys::{
        prctl::set_pdeathsig,
        signal::{Signal, kill},
    },
    unistd::Pid,
};

use crate::wait;

const GRACE: Duration = Duration::from_secs(3);

/// A running program with its output captured. Ended on drop: SIGTERM, and SIGKILL if that takes
/// too long.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts a command. The kernel kills it when the calling *thread* ends, so call this from one
    /// that stays.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn start(name: &str, mut command: Command) -> Result<Self> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // Ctrl-C in the terminal is for the harness, which then ends its children.
        command.process_group(0);
        // SAFETY: between fork and exec the closure only calls prctl(2), which is
        // async-signal-safe.
        unsafe {
            command.pre_exec(|| set_pdeathsig(Signal::SIGKILL).map_err(std::io::Error::from));
        }
        let mut child = command
            .spawn()
            .with_context(|| format!("{name} cannot be started: {command:?}"))?;
        let log = Arc::new(Mutex::new(String::new()));
        let readers = vec![
            collect(child.stdout.take().expect("standard output is piped"), &log),
            collect(child.stderr.take().expect("standard error is piped"), &log),
        ];
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
            readers,
        })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote so far, both streams together.
    pub fn log(&self) -> String {
        self.log.lock().expect("no reader panicked").clone()
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    ///
    /// When the kernel does not know the child.
    pub fn status(&mut self) -> Result<Option<ExitStatus>> {
        self.child
            .try_wait()
            .with_context(|| format!("cannot ask for the state of {}", self.name))
    }

    /// Sends it a signal.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.pid(), signal).with_context(|| format!("cannot send {signal} to {}", self.name))
    }

    /// Waits for its end.
    ///
    /// # Errors
    ///
    /// When it is still running after `patience`; the message has its log.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        let mut ended = None;
        wait::until(patience, || {
            ended = self.child.try_wait().ok().flatten();
            ended.is_some()
        });
        let status =
            ended.with_context(|| format!("{} did not end in {patience:?}; its log:\n{}", self.name, self.log()))?;
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        Ok(status)
    }

    /// Kills it like a crash would: at once, with nothing cleaned up.
    ///
    /// # Errors
    ///
    /// When it has ended before.
    pub fn kill9(&mut self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.wait(wait::PATIENCE).map(drop)
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Until it is waited for, the id cannot belong to another process.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill(self.pid(), Signal::SIGTERM);
            if self.wait(GRACE).is_err() {
                eprintln!("{} does not end on SIGTERM: killed", self.name);
                let _ = self.child.kill();
            }
        }
        let _ = self.child.wait();
    }
}

fn collect(stream: impl Read + Send + 'static, log: &Arc<Mutex<String>>) -> JoinHandle<()> {
    let log = Arc::clone(log);
    thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            let mut log = log.lock().expect("no other reader panicked");
            log.push_str(&String::from_utf8_lossy(&line));
            log.push('\n');
        }
    })
}
