//! Access to the bytes of a packet: one bounds check for a header, then whole-word loads and
//! stores.

use aya_ebpf::{
    EbpfContext,
    bindings::xdp_md,
    helpers::{bpf_tail_call, bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_load_bytes, bpf_xdp_store_bytes},
    programs::XdpContext,
};
use lb_common::Outcome;

pub mod frame;
pub mod parsed;

use crate::bpf::{maps::PROGRAMS, opaque};

/// The largest offset of a window, all ones: no header that is read begins after it. The verifier
/// wants a bound for offsets that were loaded from memory.
pub const MOST_OFFSET: usize = 0x3fff;

/// A packet as the driver passed it.
pub struct Packet {
    context: XdpContext,
}

impl Packet {
    #[inline(always)]
    pub fn new(context: XdpContext) -> Self {
        Self { context }
    }

    /// The context as the kernel passed it.
    #[inline(always)]
    pub fn raw(&self) -> *mut xdp_md {
        self.context.ctx
    }

    /// The context, for logging.
    #[inline(always)]
    pub fn context(&self) -> &XdpContext {
        &self.context
    }

    /// Length of the frame in bytes.
    #[inline(always)]
    pub fn length(&self) -> usize {
        // The verifier knows the difference of two pointers only when it is taken in 64 bits.
        opaque((self.context.data_end() - self.context.data()) as u64) as usize
    }

    /// Index of the interface that received the packet.
    #[inline(always)]
    pub fn interface(&self) -> u32 {
        // SAFETY: the context is valid as long as the program runs.
        unsafe { (*self.context.ctx).ingress_ifindex }
    }

    /// `N` bytes from `offset` on, or [`Outcome::Malformed`] when the packet ends before.
    #[inline(always)]
    pub fn window<const N: usize>(&self, offset: usize) -> Result<Window<N>, Outcome> {
        let start = self.context.data() + (offset & MOST_OFFSET);
        if start + N > self.context.data_end() {
            return Err(Outcome::Malformed);
        }
        Ok(Window {
            start: start as *mut u8,
        })
    }

    /// Makes the frame `length` bytes long. Windows taken before are invalid after.
    #[inline(always)]
    pub fn resize(&self, length: usize) -> Result<(), Outcome> {
        let change = length as i32 - self.length() as i32;
        // SAFETY: the helper checks its arguments.
        match unsafe { bpf_xdp_adjust_tail(self.context.ctx, change) } {
            0 => Ok(()),
            _ => Err(Outcome::NoSpace),
        }
    }

    /// Adds `bytes` before the frame, or removes them when negative. Windows taken before are
    /// invalid after.
    #[inline(always)]
    pub fn grow_front(&self, bytes: i32) -> Result<(), Outcome> {
        // SAFETY: the helper checks its arguments.
        match unsafe { bpf_xdp_adjust_head(self.context.ctx, -bytes) } {
            0 => Ok(()),
            _ => Err(Outcome::NoSpace),
        }
    }

    /// Calls the program at an index of the map `PROGRAMS`. Returns only when the index is empty.
    #[inline(always)]
    pub fn tail_call(&self, index: u32) {
        // SAFETY: the map is an array of programs, and the context is this program's own.
        unsafe {
            bpf_tail_call(
                self.context.as_ptr(),
                core::ptr::from_ref(&PROGRAMS).cast_mut().cast(),
                index,
            )
        };
    }

    /// Copies `length` bytes from `offset` on to `target`.
    #[inline(always)]
    pub fn copy_to(&self, offset: usize, target: *mut u8, length: u32) -> Result<(), Outcome> {
        // SAFETY: the verifier checks that `target` has `length` bytes.
        match unsafe { bpf_xdp_load_bytes(self.context.as_ptr().cast(), offset as u32, target.cast(), length) } {
            0 => Ok(()),
            _ => Err(Outcome::Malformed),
        }
    }

    /// Copies `length` bytes from `source` into the packet, from `offset` on.
    #[inline(always)]
    pub fn copy_from(&self, offset: usize, source: *const u8, length: u32) -> Result<(), Outcome> {
        // SAFETY: the verifier checks that `source` has `length` bytes.
        match unsafe {
            bpf_xdp_store_bytes(
                self.context.as_ptr().cast(),
                offset as u32,
                source.cast_mut().cast(),
                length,
            )
        } {
            0 => Ok(()),
            _ => Err(Outcome::Malformed),
        }
    }
}

/// A number in a packet.
pub trait Word: Copy {}
impl Word for u8 {}
impl Word for u16 {}
impl Word for u32 {}
impl Word for u64 {}

/// `N` bytes of a packet, within its bounds.
#[derive(Clone, Copy)]
pub struct Window<const N: usize> {
    start: *mut u8,
}

impl<const N: usize> Window<N> {
    /// Its first byte, for helpers.
    #[inline(always)]
    pub fn start(&self) -> *mut u8 {
        self.start
    }

    /// The number at `offset`, as it lies in memory.
    #[inline(always)]
    pub fn load<T: Word>(&self, offset: usize) -> T {
        // SAFETY: within the window by the callers' constant offsets, which the verifier checks.
        // Packet memory may be misaligned for `T`: this target loads it as one word anyway.
        // `read_unaligned` would become one load for each byte.
        unsafe { core::ptr::read_volatile(self.start.add(offset).cast::<T>()) }
    }

    /// Stores a number at `offset`, as it lies in memory.
    #[inline(always)]
    pub fn store<T: Word>(&self, offset: usize, value: T) {
        // SAFETY: as in `load`.
        unsafe { core::ptr::write_volatile(self.start.add(offset).cast::<T>(), value) }
    }
}
