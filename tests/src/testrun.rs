//! Runs an XDP program on a packet without any network: BPF_PROG_TEST_RUN.

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
};

use anyhow::{Result, bail};
use nix::libc;

/// What a program made of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The action that it returned, as a number.
    pub action: u32,
    /// The frame after it.
    pub bytes: Vec<u8>,
    /// How long a run took in the mean, in nanoseconds.
    pub nanoseconds: u32,
}

/// Action: drop the packet.
pub const DROP: u32 = 1;
/// Action: pass it to the kernel.
pub const PASS: u32 = 2;
/// Action: send it out of the interface it came in on.
pub const TRANSMIT: u32 = 3;
/// Action: send it out of another interface.
pub const REDIRECT: u32 = 4;

#[repr(C)]
#[derive(Default)]
struct Attributes {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    reserved: u32,
}

/// Runs the program `repeat` times on the frame. The frame seems to come in on the loopback
/// interface, whose index is 1.
///
/// # Errors
///
/// When the kernel refuses, such as for a frame shorter than an Ethernet header.
pub fn run(program: impl AsFd, frame: &[u8], repeat: u32) -> Result<Run> {
    const BPF_PROG_TEST_RUN: libc::c_int = 10;
    let mut bytes = vec![0_u8; 4096];
    let mut attributes = Attributes {
        prog_fd: program.as_fd().as_raw_fd() as u32,
        data_size_in: frame.len() as u32,
        data_size_out: bytes.len() as u32,
        data_in: frame.as_ptr() as u64,
        data_out: bytes.as_mut_ptr() as u64,
        repeat,
        ..Attributes::default()
    };
    // SAFETY: the attributes have the layout that the kernel reads; both buffers outlive the call
    // and are as long as said.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_TEST_RUN,
            &raw mut attributes,
            size_of::<Attributes>(),
        )
    };
    if result < 0 {
        bail!("a test run of {repeat} packets failed: {}", io::Error::last_os_error());
    }
    bytes.truncate(attributes.data_size_out as usize);
    Ok(Run {
        action: attributes.retval,
        bytes,
        nanoseconds: attributes.duration,
    })
}
