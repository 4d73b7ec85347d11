//! Runs a target behind the wrapper, and the kernel's count of nanoseconds.

use std::{
    fs,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
};

use anyhow::{Context, Result};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, ProgramArray},
    programs::Xdp,
};

use crate::testrun;

/// Bytes of every packet. The wrapper has the same number.
pub(super) const LENGTH: usize = 96;

/// What the wrapper does. Its source has the same layout.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Script {
    pub(super) packet: [u8; LENGTH],
    pub(super) mask: u64,
    pub(super) address: u32,
    pub(super) port: u32,
    pub(super) target: u32,
    pub(super) reserved: u32,
}

// SAFETY: plain numbers without padding: 96 + 8 + 4 * 4 bytes.
unsafe impl aya::Pod for Script {}

/// The targets in the order of the program array.
pub(super) const REAL: u32 = 3;
const FLOORS: [&str; 3] = ["floor_null", "floor_mac_swap", "floor_adjust_head"];

/// The wrapper with its targets.
pub(super) struct Runner {
    object: Ebpf,
    wrapper: OwnedFd,
}

impl Runner {
    /// Loads wrapper and floors; `real` is the program that is measured.
    pub(super) fn new(real: &Xdp) -> Result<Self> {
        let path = object_path();
        let bytes =
            fs::read(&path).with_context(|| format!("cannot read {}: run `cargo xtask build-ebpf`", path.display()))?;
        let mut object = EbpfLoader::new()
            .load(&bytes)
            .context("cannot load the programs of the bench")?;
        let mut targets = ProgramArray::try_from(object.take_map("TARGETS").context("no map TARGETS")?)?;
        let real = real.fd()?;
        targets
            .set(REAL, real, 0)
            .context("cannot call the program by tail call")?;
        for (index, name) in (0..).zip(FLOORS) {
            let floor = program(&mut object, name)?;
            targets.set(index, floor.fd()?, 0)?;
        }
        let wrapper = program(&mut object, "wrapper")?.fd()?.as_fd().try_clone_to_owned()?;
        Ok(Self {
            object: keep(object, targets),
            wrapper,
        })
    }

    /// Sets the packet, how its source varies, and the target.
    pub(super) fn set(&mut self, script: &Script) -> Result<()> {
        let mut map = Array::<_, Script>::try_from(self.object.map_mut("SCRIPT").context("no map SCRIPT")?)?;
        Ok(map.set(0, script, 0)?)
    }

    /// Begins counting turns, and so sources, anew.
    pub(super) fn rewind(&mut self) -> Result<()> {
        let mut map = Array::<_, u64>::try_from(self.object.map_mut("TURNS").context("no map TURNS")?)?;
        Ok(map.set(0, 0_u64, 0)?)
    }

    /// Runs `repeat` times; the mean of nanoseconds.
    pub(super) fn run(&self, script: &Script, repeat: u32) -> Result<f64> {
        Ok(f64::from(
            testrun::run(&self.wrapper, &script.packet, repeat)?.nanoseconds,
        ))
    }
}

/// The program array must live as long as the wrapper runs; without it the kernel empties it.
fn keep(object: Ebpf, targets: ProgramArray<aya::maps::MapData>) -> Ebpf {
    std::mem::forget(targets);
    object
}

fn program<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let program: &mut Xdp = object
        .program_mut(name)
        .with_context(|| format!("no program {name}"))?
        .try_into()?;
    program.load().with_context(|| format!("the kernel refuses {name}"))?;
    Ok(program)
}

fn object_path() -> PathBuf {
    let folder = std::env::var_os("LBD_BPF_DIR").map_or_else(|| PathBuf::from("target/bpf"), PathBuf::from);
    folder.join("lb-bench.o")
}
