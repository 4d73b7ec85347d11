//! The first question to a kernel: does it take the XDP program, and at what cost?

use std::time::Instant;

use anyhow::{Context as _, Result};
use aya::programs::Xdp;
use lb_core::config::{Capacity, PacketLog};
use lb_userspace::dataplane::{self, Pins};
use serde::Serialize;

use crate::{bpffs::Bpffs, kernel, tools};

/// What the kernel says about the program that it took.
#[derive(Debug, Serialize)]
pub struct Loaded {
    /// Release of the kernel.
    pub kernel: String,
    /// Instructions that the verifier walked through, with all branches and turns of loops. Linux
    /// 5.16 and newer report it.
    pub verified_instructions: Option<u32>,
    /// Length of the program as the kernel keeps it, in bytes; an instruction has eight.
    pub translated_bytes: Option<u32>,
    /// Length of the machine code, in bytes; none without the compiler of the kernel.
    pub jited_bytes: Option<u32>,
    /// How long it took to create the maps and to load the program, in milliseconds.
    pub milliseconds: u64,
}

/// The programs that a packet may pass; the figures are of all together.
const PROGRAMS: [&str; 3] = ["lb_xdp", "lb_slow_v4", "lb_slow_v6"];

/// Loads the programs over maps of its own, which are gone afterwards.
///
/// # Errors
///
/// When the kernel refuses a map or the program; the message ends with what the verifier said last.
pub fn load() -> Result<Loaded> {
    tools::require_root()?;
    let bpffs = Bpffs::mount()?;
    let pins = Pins::new(bpffs.path(), "smoke");
    pins.prepare()?;
    let begin = Instant::now();
    let capacity = Capacity {
        flows_v4: 1024,
        flows_v6: 1024,
        ..Capacity::default()
    };
    let mut object = dataplane::load(&pins, &capacity, crate::fixture::NAT_PORTS, PacketLog::Off)?.into_object();
    let milliseconds = u64::try_from(begin.elapsed().as_millis())?;
    let mut loaded = Loaded {
        kernel: kernel::release()?,
        verified_instructions: Some(0),
        translated_bytes: Some(0),
        jited_bytes: Some(0),
        milliseconds,
    };
    let add = |sum: Option<u32>, one: Option<u32>| Some(sum? + one?);
    for name in PROGRAMS {
        let program: &mut Xdp = object
            .program_mut(name)
            .with_context(|| format!("the object has no program {name}"))?
            .try_into()?;
        let info = program.info().context("the kernel reports nothing about the program")?;
        loaded.verified_instructions = add(loaded.verified_instructions, info.verified_instruction_count());
        loaded.translated_bytes = add(loaded.translated_bytes, info.size_translated());
        loaded.jited_bytes = add(loaded.jited_bytes, Some(info.size_jitted()));
    }
    loaded.jited_bytes = loaded.jited_bytes.filter(|bytes| *bytes > 0);
    Ok(loaded)
}

/// The end of an error, whose log of the verifier may be as long as the program, and then its
/// reason in one line.
pub fn ending(message: &str, most: usize) -> String {
    let lines: Vec<&str> = message.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(most)..];
    let first = lines.first().copied().unwrap_or_default();
    let complaints = last.iter().copied().filter(|line| is_complaint(line) && *line != first);
    let reason: Vec<&str> = std::iter::once(first).chain(complaints).map(str::trim).collect();
    format!("{}\n\n{}", last.join("\n"), reason.join(" | "))
}

/// Whether a line of the verifier's log says what is wrong, instead of where it is and what it did
/// to get there.
fn is_complaint(line: &str) -> bool {
    let numbers = ["verification time", "stack depth", "processed ", "from ", "; ", ":"];
    !numbers.iter().any(|start| line.starts_with(start)) && !line.starts_with(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_found_at_the_end_of_a_log() {
        let log = "cannot load: 0: (b7) r0 = 1\n1: (b7) r0 = 2\n; call(x)\n2: (85) call x#1\ninvalid access\nR3 is bad\n\
                   verification time 5 usec\nprocessed 3 insns\n: Permission denied\n";
        let ending = ending(log, 6);
        assert!(ending.starts_with("2: (85) call"), "{ending}");
        assert!(
            ending.ends_with("\n\ncannot load: 0: (b7) r0 = 1 | invalid access | R3 is bad"),
            "{ending}"
        );
        assert_eq!(super::ending("alone", 3), "alone\n\nalone");
    }
}
