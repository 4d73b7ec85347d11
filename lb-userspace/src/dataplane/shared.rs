//! Array maps as memory that this process shares with the packet path.
//!
//! The update system call copies an element in no defined order. VipForwarder shared memory the
//! controller changes an entry word by word, so that the packet path never sees a half-written
//! value.

use std::{
    io,
    marker::PhantomData,
    num::NonZeroUsize,
    os::fd::AsFd,
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use lb_common::{
    Backend, BackendLoad, BackendSignals, NextHop, RingSlot, Service, ServiceState, Settings, VirtualRouter, abi::Abi,
    flow_table::Spills, next_hop::ClientHop,
};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// Upper bound for the size of an entry, in bytes.
const LARGEST: usize = 128;

/// An entry of a shared array.
pub trait Record: Abi {
    /// Index of the 64-bit word that makes the entry valid. It is written last, and is zero in an
    /// unused entry.
    const PUBLISH: usize;
}

impl Record for Service {
    const PUBLISH: usize = 0;
}
impl Record for Backend {
    const PUBLISH: usize = 0;
}
impl Record for BackendLoad {
    const PUBLISH: usize = 0;
}
impl Record for BackendSignals {
    const PUBLISH: usize = 0;
}
impl Record for VirtualRouter {
    // The end of the lease.
    const PUBLISH: usize = 1;
}
impl Record for RingSlot {
    const PUBLISH: usize = 0;
}
impl Record for u64 {
    const PUBLISH: usize = 0;
}
impl Record for ServiceState {
    const PUBLISH: usize = 0;
}
impl Record for Settings {
    const PUBLISH: usize = 0;
}
impl Record for Spills {
    const PUBLISH: usize = 0;
}
impl Record for ClientHop {
    // The state.
    const PUBLISH: usize = 3;
}
impl Record for NextHop {
    // The interface index, in the second word. It is zero while the hop is not resolved.
    const PUBLISH: usize = 1;
}

/// A mapped array map.
pub struct SharedArray<T> {
    memory: NonNull<AtomicU64>,
    entries: u32,
    bytes: NonZeroUsize,
    _entry: PhantomData<T>,
}

// SAFETY: all access is atomic, except in `SharedArray::drop`.
unsafe impl<T> Send for SharedArray<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for SharedArray<T> {}

impl<T: Record> SharedArray<T> {
    const WORDS: usize = {
        assert!(size_of::<T>().is_multiple_of(8), "an entry is made of 64-bit words");
        assert!(size_of::<T>() <= LARGEST, "an entry is larger than any known one");
        size_of::<T>() / 8
    };

    /// Maps an array map of `entries` entries.
    ///
    /// # Errors
    ///
    /// When the kernel refuses, for example because the map was created without `BPF_F_MMAPABLE`.
    pub fn map(fd: impl AsFd, entries: u32, writable: bool) -> io::Result<Self> {
        let bytes = NonZeroUsize::new(entries as usize * size_of::<T>())
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "an array map without entries"))?;
        let protection = if writable {
            ProtFlags::PROT_READ | ProtFlags::PROT_WRITE
        } else {
            ProtFlags::PROT_READ
        };
        // SAFETY: a new mapping at an address that the kernel chooses.
        let memory = unsafe { mmap(None, bytes, protection, MapFlags::MAP_SHARED, fd, 0) }?;
        Ok(Self {
            memory: memory.cast(),
            entries,
            bytes,
            _entry: PhantomData,
        })
    }

    /// Number of entries.
    pub fn len(&self) -> u32 {
        self.entries
    }

    /// Whether there are no entries. Always false, see [`SharedArray::map`].
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Reads an entry; `None`: the index is out of range.
    pub fn read(&self, index: u32) -> Option<T> {
        let words = self.words(index)?;
        let mut bytes = [0; LARGEST];
        for (bytes, word) in bytes.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.load(Ordering::Acquire).to_ne_bytes());
        }
        T::from_bytes(&bytes[..size_of::<T>()])
    }

    /// Fills an unused entry. The last store makes it valid. Ignores an index out of range.
    pub fn publish(&self, index: u32, entry: &T) {
        let Some(words) = self.words(index) else { return };
        for (position, new) in split(entry).enumerate() {
            if position != T::PUBLISH {
                words[position].store(new, Ordering::Release);
            }
        }
        if let Some(new) = split(entry).nth(T::PUBLISH) {
            words[T::PUBLISH].store(new, Ordering::Release);
        }
    }

    /// Replaces an entry that is in use. It is invalid during the change, never mixed. Ignores an
    /// index out of range.
    pub fn replace(&self, index: u32, entry: &T) {
        let Some(words) = self.words(index) else { return };
        words[T::PUBLISH].store(0, Ordering::SeqCst);
        self.publish(index, entry);
    }

    /// Changes all words but the one that makes the entry valid, one store for each word. Ignores
    /// an index out of range.
    pub fn update(&self, index: u32, entry: &T) {
        let Some(words) = self.words(index) else { return };
        for (position, new) in split(entry).enumerate() {
            if position != T::PUBLISH && words[position].load(Ordering::Acquire) != new {
                words[position].store(new, Ordering::SeqCst);
            }
        }
    }

    /// Changes the word that makes the entry valid. Ignores an index out of range.
    pub fn set_publish_word(&self, index: u32, word: u64) {
        if let Some(words) = self.words(index) {
            words[T::PUBLISH].store(word, Ordering::SeqCst);
        }
    }

    pub(super) fn words(&self, index: u32) -> Option<&[AtomicU64]> {
        if index >= self.entries {
            return None;
        }
        // SAFETY: within the mapping, which is page-aligned and lives as long as `self`.
        Some(unsafe { std::slice::from_raw_parts(self.memory.as_ptr().add(index as usize * Self::WORDS), Self::WORDS) })
    }
}

impl SharedArray<RingSlot> {
    /// The words of some slots, as far as they exist.
    pub fn slots(&self, from: u32, count: u32) -> impl Iterator<Item = u64> + '_ {
        const { assert!(size_of::<RingSlot>() == 8, "a slot is one word") };
        let end = from.saturating_add(count).min(self.entries);
        let count = end.saturating_sub(from) as usize;
        // SAFETY: within the mapping, which is page-aligned and lives as long as `self`.
        let words = unsafe { std::slice::from_raw_parts(self.memory.as_ptr().add(from.min(end) as usize), count) };
        words.iter().map(|word| word.load(Ordering::Relaxed))
    }
}

impl SharedArray<BackendLoad> {
    /// Adds to the embryonic and active flows of a backend. Negative amounts subtract.
    pub fn adjust(&self, index: u32, embryonic: i32, active: i32) {
        let Some(words) = self.words(index) else { return };
        let halves = words[0].as_ptr().cast::<AtomicU32>();
        // SAFETY: the first word is the two 32-bit numbers, aligned, within the mapping.
        unsafe {
            (*halves).fetch_add(embryonic as u32, Ordering::SeqCst);
            (*halves.add(1)).fetch_add(active as u32, Ordering::SeqCst);
        }
    }
}

impl SharedArray<BackendLoad> {
    /// Sets the embryonic and active flows of a backend to zero. Returns their sum.
    pub fn take_flows(&self, index: u32) -> i32 {
        let Some(words) = self.words(index) else { return 0 };
        let both = words[0].swap(0, Ordering::SeqCst);
        (both as u32).wrapping_add((both >> 32) as u32) as i32
    }
}

impl SharedArray<ClientHop> {
    /// Replaces the state `old` by `new`. Returns whether the state was `old`.
    pub fn swap_state(&self, index: u32, old: u32, new: u32) -> bool {
        const WORD: usize = std::mem::offset_of!(ClientHop, state) / 8;
        let Some(words) = self.words(index) else { return false };
        let half = words[WORD].as_ptr().cast::<AtomicU32>();
        // SAFETY: the first half of the word is the state, aligned, within the mapping.
        let swapped = unsafe { (*half).compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst) };
        swapped.is_ok()
    }
}

impl SharedArray<ServiceState> {
    /// Adds to the flows of a service. A negative amount subtracts.
    pub fn adjust_flows(&self, index: u32, amount: i32) {
        const WORD: usize = std::mem::offset_of!(ServiceState, flows) / 8;
        let Some(words) = self.words(index) else { return };
        let half = words[WORD].as_ptr().cast::<AtomicU32>();
        // SAFETY: the first half of the word is the number, aligned, within the mapping.
        unsafe { (*half).fetch_add(amount as u32, Ordering::SeqCst) };
    }
}

impl<T> Drop for SharedArray<T> {
    fn drop(&mut self) {
        // SAFETY: mapped in `map` with this length; nothing borrowed from it outlives `self`.
        let _ = unsafe { munmap(self.memory.cast(), self.bytes.get()) };
    }
}

fn split<T: Record>(entry: &T) -> impl Iterator<Item = u64> + '_ {
    entry
        .as_bytes()
        .chunks_exact(8)
        .map(|chunk| u64::from_ne_bytes(chunk.try_into().unwrap_or_default()))
}
