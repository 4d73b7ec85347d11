//! The virtual machine: QEMU without virtualisation, with two serial lines. One writes the messages
//! of the kernel to a file, the other passes the output of its programs to us.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::packages::{self, Archive};
use crate::process::{self, announce};

const PROGRAM: &str = "qemu-system-x86_64";
const PACKAGE: &str = "qemu-system-x86";
/// The first version that is reliable without virtualisation. An older one is used when there is no
/// other.
const RELIABLE: u32 = 8;

/// A QEMU, installed on this machine or unpacked for this purpose.
#[derive(Debug)]
pub(super) struct Qemu {
    program: PathBuf,
    /// The folder that it was unpacked in, with its libraries and firmware.
    unpacked: Option<PathBuf>,
}

impl Qemu {
    /// The one of this machine if it is new enough, else one of the project's own, downloaded when
    /// it is not there yet.
    ///
    /// # Errors
    ///
    /// When there is none and none can be had.
    pub(super) fn obtain(machines: &Path, mirror: Option<&str>) -> Result<Self> {
        let installed = process::which(PROGRAM).map(|program| Self {
            program,
            unpacked: None,
        });
        let mut found = [installed, Self::unpacked(machines)].into_iter().flatten();
        if let Some(reliable) = found.find(|qemu| qemu.major().is_some_and(|major| major >= RELIABLE)) {
            return Ok(reliable);
        }
        announce(format_args!("getting {PACKAGE}; nothing is installed"));
        if let Err(error) = Self::unpack(machines, mirror) {
            announce(format_args!("warning: {error:#}"));
        }
        let found = Self::unpacked(machines)
            .into_iter()
            .chain(process::which(PROGRAM).map(|program| Self {
                program,
                unpacked: None,
            }));
        let mut usable = found.filter(|qemu| qemu.major().is_some());
        usable.next().with_context(|| {
            format!("there is no {PROGRAM} that starts: install {PACKAGE}, of version {RELIABLE} or newer")
        })
    }

    fn unpack(machines: &Path, mirror: Option<&str>) -> Result<()> {
        let archive = Archive::of_machine(machines, mirror)?;
        archive.update()?;
        for package in archive.download_with_dependencies(&[PACKAGE])? {
            packages::unpack(&package, &machines.join("qemu"))?;
        }
        Ok(())
    }

    fn unpacked(machines: &Path) -> Option<Self> {
        let folder = machines.join("qemu");
        let program = folder.join("usr/bin").join(PROGRAM);
        program.is_file().then_some(Self {
            program,
            unpacked: Some(folder),
        })
    }

    /// Its version, such as 10 of "QEMU emulator version 10.0.2". `None` when it does not start.
    fn major(&self) -> Option<u32> {
        let output = process::output_of(self.command().arg("--version"))?;
        let version = output.split_once("version ")?.1;
        version.split('.').next()?.parse().ok()
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(folder) = &self.unpacked {
            let libraries = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"].map(|path| folder.join(path));
            let libraries = std::env::join_paths(libraries).unwrap_or_default();
            command.env("LD_LIBRARY_PATH", libraries);
            for firmware in ["usr/share/qemu", "usr/share/seabios"] {
                command.arg("-L").arg(folder.join(firmware));
            }
        }
        command
    }
}

/// How long after the time to kill it a machine ends itself.
const MARGIN: Duration = Duration::from_secs(60);

/// What a machine is started with.
pub(super) struct Machine<'a> {
    pub(super) qemu: &'a Qemu,
    pub(super) kernel: &'a Path,
    /// Its first, and only, file system.
    pub(super) files: &'a Path,
    /// Where the messages of the kernel go.
    pub(super) console: &'a Path,
}

/// How a machine ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    ByItself,
    /// It was killed because its time was over.
    Late,
}

impl Machine<'_> {
    /// Runs it until it ends, or until the time is over; `line` gets what it prints, line by line.
    ///
    /// # Errors
    ///
    /// When QEMU cannot be started or refuses its arguments.
    pub(super) fn run(&self, limit: Duration, mut line: impl FnMut(&str)) -> Result<Ended> {
        fs::write(self.console, "").with_context(|| format!("cannot write {}", self.console.display()))?;
        let mut console = std::ffi::OsString::from("file:");
        console.push(self.console);
        let mut command = self.qemu.command();
        command
            .args([
                "-nodefaults",
                "-no-user-config",
                "-no-reboot",
                "-display",
                "none",
                "-monitor",
                "none",
            ])
            .args([
                "-machine",
                "q35",
                "-accel",
                "tcg,thread=multi",
                "-cpu",
                "max",
                "-smp",
                "2",
                "-m",
                "1536",
            ])
            .arg("-append")
            .arg(format!("console=ttyS0 panic=-1 LIMIT={}", (limit + MARGIN).as_secs()))
            .arg("-kernel")
            .arg(self.kernel)
            .arg("-initrd")
            .arg(self.files)
            .arg("-serial")
            .arg(console)
            .args(["-serial", "stdio"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut running = Running(child.context("cannot start QEMU")?);
        let lines = lines_of(running.0.stdout.take().context("QEMU has no output")?);
        let end = Instant::now() + limit;
        loop {
            match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(text) => line(&text),
                Err(RecvTimeoutError::Timeout) => return Ok(Ended::Late),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let status = running.0.wait().context("cannot wait for QEMU")?;
        ensure!(status.success(), "QEMU ended with {status}");
        Ok(Ended::ByItself)
    }
}

/// A started QEMU. It is killed on drop.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Until it is waited for, its id belongs to no other process; one that has ended is left
        // alone.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn lines_of(output: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
        }
    });
    receiver
}
