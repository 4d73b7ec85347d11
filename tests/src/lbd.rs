//! The balancer under test: `lbd` as a child process in a balancer's namespace, and `lbctl` to ask
//! it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{config::Config, netns::Namespace, process::Process, tools, topology::Host, wait};

/// The longest time until `lbd` is ready. The verifier alone takes a second of a CPU that other
/// tests may need, too.
const STARTING: Duration = Duration::from_secs(120);

/// Path of a binary of the project: in the folder that `LBD_BIN_DIR` names, else beside the running
/// executable or in a folder above it.
///
/// # Errors
///
/// When there is none; the message says how to build it.
pub fn binary(name: &str) -> Result<PathBuf> {
    if let Some(folder) = env::var_os("LBD_BIN_DIR") {
        let path = Path::new(&folder).join(name);
        ensure!(
            path.is_file(),
            "{} does not exist, although LBD_BIN_DIR names that folder",
            path.display()
        );
        return Ok(path);
    }
    let executable = env::current_exe()?;
    let mut folders = executable.ancestors().skip(1).take(2);
    folders.find_map(|folder| Some(folder.join(name)).filter(|path| path.is_file())).with_context(|| {
        format!(
            "there is no {name} beside or above {}: build it first (`cargo build -p lb-userspace`) or set LBD_BIN_DIR",
            executable.display()
        )
    })
}

/// An `lbd` in a balancer's namespace. On drop it is ended, and what it left in the kernel is
/// detached.
#[derive(Debug)]
pub struct Lbd<'a> {
    namespace: &'a Namespace,
    config: Config,
    binary: PathBuf,
    process: Option<Process>,
}

impl<'a> Lbd<'a> {
    /// Writes the configuration, starts `lbd` and waits until it is ready.
    ///
    /// # Errors
    ///
    /// When it ends, or is not ready in time; the message has its log.
    pub fn start(host: &'a Host, config: Config) -> Result<Self> {
        fs::write(&config.file, config.text())?;
        let mut lbd = Self {
            namespace: &host.namespace,
            config,
            binary: binary("lbd")?,
            process: None,
        };
        lbd.restart()?;
        Ok(lbd)
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Changes its configuration, from the next start on.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn reconfigure(&mut self, change: impl FnOnce(&mut Config)) -> Result<()> {
        change(&mut self.config);
        Ok(fs::write(&self.config.file, self.config.text())?)
    }

    /// Takes another program, from the next start on.
    pub fn upgrade(&mut self, binary: PathBuf) {
        self.binary = binary;
    }

    /// Starts it again after it has ended, and does not wait for anything.
    ///
    /// # Errors
    ///
    /// When it cannot be started, or is still running.
    pub fn begin(&mut self) -> Result<()> {
        self.process = Some(self.run(&[])?);
        Ok(())
    }

    /// Starts it again after it has ended, and waits until it is ready.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start), and when it is still running.
    pub fn restart(&mut self) -> Result<()> {
        self.restart_with(&[])
    }

    /// The same with further arguments of `lbd run`.
    ///
    /// # Errors
    ///
    /// As [`restart`](Self::restart).
    pub fn restart_with(&mut self, arguments: &[&str]) -> Result<()> {
        let mut process = self.run(arguments)?;
        let mut ended = None;
        let ready = wait::until(STARTING, || {
            ended = process.status().ok().flatten();
            ended.is_some() || self.answers(process.id())
        });
        match (ended, ready) {
            (Some(status), _) => bail!(
                "lbd ended with {status} before it was ready; its log:\n{}",
                final_log(process)
            ),
            (None, false) => {
                let error = self.lbctl(&["node", "status"]).err();
                bail!(
                    "lbd is not ready after {STARTING:?}: {error:?}; its log:\n{}",
                    process.log()
                )
            }
            (None, true) => self.process = Some(process),
        }
        Ok(())
    }

    fn run(&self, arguments: &[&str]) -> Result<Process> {
        ensure!(self.process.is_none(), "lbd is still running");
        let mut command = self.namespace.command(path_text(&self.binary)?);
        command
            .arg("run")
            .arg("--config")
            .arg(&self.config.file)
            .args(arguments);
        Process::start("lbd", command)
    }

    /// Whether the daemon with that process id answers at the socket; a predecessor or `lbctl`
    /// alone does not count.
    fn answers(&self, process: u32) -> bool {
        self.lbctl(&["node", "status"])
            .is_ok_and(|status| status["pid"] == process)
    }

    /// What `lbctl ARGUMENTS --json` answers.
    ///
    /// # Errors
    ///
    /// When it does not succeed, or its output is not JSON.
    pub fn lbctl(&self, arguments: &[&str]) -> Result<Value> {
        let output = self.lbctl_text(arguments)?;
        serde_json::from_str(&output)
            .with_context(|| format!("lbctl {arguments:?} does not answer with JSON: {output:?}"))
    }

    /// What `lbctl ARGUMENTS --json` prints.
    ///
    /// # Errors
    ///
    /// When it does not succeed.
    pub fn lbctl_text(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.namespace.command(path_text(&binary("lbctl")?)?);
        command
            .arg("--socket")
            .arg(&self.config.socket)
            // The maps of a node are found without its controller.
            .arg("--bpffs")
            .arg(&self.config.bpffs)
            .arg("--node")
            .arg(&self.config.name)
            .args(arguments)
            .arg("--json");
        tools::output(&mut command)
    }

    /// The state that each backend of a service is in, by name: `up`, `down`, `draining` or
    /// `unknown`.
    ///
    /// # Errors
    ///
    /// When `lbctl` does not answer as expected.
    pub fn backend_states(&self, service: &str) -> Result<Vec<(String, String)>> {
        let list = self.lbctl(&["backend", "list"])?;
        let rows = list.as_array().context("`lbctl backend list --json` is not an array")?;
        let rows = rows.iter().filter(|row| row["service"] == service);
        let text = |row: &Value, key: &str| {
            row[key]
                .as_str()
                .map(str::to_owned)
                .with_context(|| format!("no {key} in {row}"))
        };
        rows.map(|row| Ok((text(row, "name")?, text(row, "state")?))).collect()
    }

    /// Waits until a backend is in a state.
    ///
    /// # Panics
    ///
    /// When it is not in time; the message has the states and the log of `lbd`.
    #[track_caller]
    pub fn await_state(&self, service: &str, backend: &str, state: &str) {
        let holds = |states: &[(String, String)]| states.iter().any(|(name, now)| name == backend && now == state);
        let reached = wait::until(wait::PATIENCE, || {
            self.backend_states(service).is_ok_and(|states| holds(&states))
        });
        assert!(
            reached,
            "backend {backend} of {service} is not {state} after {:?}: {:?}; log of lbd:\n{}",
            wait::PATIENCE,
            self.backend_states(service),
            self.log()
        );
    }

    /// Waits until all backends of a service are up.
    ///
    /// # Panics
    ///
    /// As [`await_state`](Self::await_state).
    #[track_caller]
    pub fn await_all_up(&self, service: &str) {
        let wanted = self.config.services.iter().find(|candidate| candidate.name == service);
        for (backend, _, _) in &wanted.expect("the service is in the configuration").backends {
            self.await_state(service, backend, "up");
        }
    }

    /// What it wrote so far, since its last start.
    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }

    /// Process id, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Kills it like a crash would.
    ///
    /// # Errors
    ///
    /// When it is not running.
    pub fn kill9(&mut self) -> Result<()> {
        self.process.take().context("lbd is not running")?.kill9()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    ///
    /// When it is not running.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.as_ref().context("lbd is not running")?.signal(signal)
    }

    /// Ends it with SIGTERM, and answers with its log.
    ///
    /// # Errors
    ///
    /// When it is not running, does not end, or does not end with status 0.
    pub fn terminate(&mut self) -> Result<String> {
        let mut process = self.process.take().context("lbd is not running")?;
        process.signal(Signal::SIGTERM)?;
        let status = process.wait(wait::PATIENCE)?;
        ensure!(
            status.success(),
            "lbd ended with {status} on SIGTERM; its log:\n{}",
            process.log()
        );
        Ok(process.log())
    }

    /// Runs `lbd detach`.
    ///
    /// # Errors
    ///
    /// When it does not succeed.
    pub fn detach(&self) -> Result<()> {
        let mut command = self.namespace.command(path_text(&binary("lbd")?)?);
        tools::output(command.arg("detach").arg("--config").arg(&self.config.file)).map(drop)
    }
}

impl Drop for Lbd<'_> {
    fn drop(&mut self) {
        drop(self.process.take());
        if let Err(error) = self.detach() {
            eprintln!("{error:#}");
        }
    }
}

/// Runs `lbd run` where it is expected to refuse, and answers with its output and status.
///
/// # Errors
///
/// When it is still running after `patience`.
pub fn run_to_end(host: &Host, config: &Config, patience: Duration) -> Result<(std::process::ExitStatus, String)> {
    fs::write(&config.file, config.text())?;
    let mut command = host.namespace.command(path_text(&binary("lbd")?)?);
    command.arg("run").arg("--config").arg(&config.file);
    let mut process = Process::start("lbd", command)?;
    let status = process.wait(patience)?;
    Ok((status, process.log()))
}

/// Runs `lbd check` on a file.
///
/// # Errors
///
/// When `lbd` cannot be started.
pub fn check(file: &Path) -> Result<Output> {
    check_with(file, &[])
}

/// As [`check`], with options.
///
/// # Errors
///
/// When `lbd` cannot be started.
pub fn check_with(file: &Path, options: &[&str]) -> Result<Output> {
    Ok(Command::new(binary("lbd")?)
        .arg("check")
        .args(options)
        .arg(file)
        .output()?)
}

fn final_log(mut process: Process) -> String {
    // The readers of its output may be behind its end.
    let _ = process.wait(wait::PATIENCE);
    process.log()
}

fn path_text(path: &Path) -> Result<&str> {
    path.to_str()
        .with_context(|| format!("{} is not valid UTF-8", path.display()))
}
