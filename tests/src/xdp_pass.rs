//! The smallest XDP program, for the far ends of veth pairs.
//!
//! What an XDP program transmits out of a veth is delivered at once only if the peer runs an XDP
//! program too; on a real wire the far end is a switch and there is nothing to do. Two instructions
//! do not need a compiler or an ELF file.

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result};
use nix::libc;

use crate::netns::Namespace;

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// `r0 = 2; exit`, where 2 is XDP_PASS.
const INSTRUCTIONS: [u64; 2] = [0x0000_0002_0000_00b7, 0x0000_0000_0000_0095];

/// The part of `union bpf_attr` for BPF_PROG_LOAD that matters here; the kernel takes the rest as
/// zero.
#[repr(C)]
struct ProgramLoad {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
}

/// The part of `union bpf_attr` for BPF_LINK_CREATE.
#[repr(C)]
struct LinkCreate {
    program: u32,
    interface: u32,
    attach_type: u32,
    flags: u32,
}

/// The loaded program.
#[derive(Debug)]
pub struct PassProgram(OwnedFd);

/// The program on one interface, until this is dropped.
#[derive(Debug)]
pub struct PassLink(#[expect(dead_code, reason = "held for its drop")] OwnedFd);

impl PassProgram {
    /// Loads it.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn load() -> Result<Self> {
        let attributes = ProgramLoad {
            program_type: BPF_PROG_TYPE_XDP,
            instruction_count: INSTRUCTIONS.len() as u32,
            instructions: INSTRUCTIONS.as_ptr() as u64,
            license: c"Dual MIT/GPL".as_ptr() as u64,
        };
        let program = bpf(BPF_PROG_LOAD, &attributes).context("the kernel refuses a trivial XDP program")?;
        Ok(Self(program))
    }

    /// Attaches it to an interface of a namespace, in the driver.
    ///
    /// # Errors
    ///
    /// When there is no such interface, or it takes no native XDP program.
    pub fn attach(&self, namespace: &Namespace, interface: &str) -> Result<PassLink> {
        let link = namespace.run(|| {
            let index = nix::net::if_::if_nametoindex(interface)?;
            let attributes = LinkCreate {
                program: self.0.as_raw_fd() as u32,
                interface: index,
                attach_type: BPF_XDP,
                flags: XDP_FLAGS_DRV_MODE,
            };
            bpf(BPF_LINK_CREATE, &attributes)
        });
        link.map(PassLink).with_context(|| {
            format!(
                "cannot attach a native XDP program to {interface} in {}",
                namespace.name()
            )
        })
    }
}

/// Calls bpf(2) with a command that answers with a file descriptor.
fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: `attributes` is a live value of the given size, all its pointers are to static data,
    // and both commands only read it.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: both commands return a new descriptor without another owner.
    Ok(unsafe { OwnedFd::from_raw_fd(answer as i32) })
}
