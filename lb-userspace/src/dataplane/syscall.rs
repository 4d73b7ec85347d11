//! BPF system calls that aya does not offer: batch lookup, update and delete with keys of LPM maps,
//! and link information.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use lb_common::abi::Abi;
use nix::libc;

const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
const BPF_MAP_DELETE_ELEM: libc::c_int = 3;
const BPF_OBJ_GET: libc::c_int = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_MAP_LOOKUP_BATCH: libc::c_int = 24;
/// Entries of a batch, at first.
const BATCH: usize = 4096;
/// Size of the position at which a batch ended, in 64-bit words. It is a number for hash maps and a
/// key for others.
const POSITION: usize = 8;

#[repr(C)]
#[derive(Default)]
struct BatchAttributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    element_flags: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct ElementAttributes {
    map_fd: u32,
    reserved: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct PinAttributes {
    path: u64,
    fd: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct InfoAttributes {
    fd: u32,
    length: u32,
    info: u64,
}

/// What the kernel knows of a link to an interface.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LinkInfo {
    kind: u32,
    id: u32,
    /// Id of the program that the link runs.
    pub(super) program: u32,
    reserved: u32,
    /// Index of the interface; 0: the interface does not exist any more.
    pub(super) ifindex: u32,
}

fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: the attributes have the layout and size that the kernel reads for the command;
    // pointers in them refer to memory that the callers keep.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<T>()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Reads the interface and the program of a pinned link.
pub(super) fn link_info(pin: &Path) -> io::Result<LinkInfo> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let mut pinned = PinAttributes {
        path: path.as_ptr() as u64,
        ..PinAttributes::default()
    };
    let fd = bpf(BPF_OBJ_GET, &mut pinned)?;
    // SAFETY: the command returns a new descriptor that nothing else owns.
    let link = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let mut info = LinkInfo::default();
    let mut attributes = InfoAttributes {
        fd: link.as_raw_fd() as u32,
        length: size_of::<LinkInfo>() as u32,
        info: &raw mut info as u64,
    };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attributes)?;
    Ok(info)
}

/// Calls `each` for the entries of a map. Entries that are added or removed meanwhile may be
/// missed.
pub(super) fn for_each<K: Abi, V: Abi>(map: &impl AsFd, mut each: impl FnMut(&K, &V)) -> io::Result<()> {
    const { assert!(size_of::<K>() <= 8 * POSITION, "a key is larger than any known one") };
    let map_fd = map.as_fd().as_raw_fd() as u32;
    let mut size = BATCH;
    let mut position: Option<[u64; POSITION]> = None;
    loop {
        let mut keys = vec![0_u8; size * size_of::<K>()];
        let mut values = vec![0_u8; size * size_of::<V>()];
        let mut start = position.unwrap_or_default();
        let mut next = [0_u64; POSITION];
        let mut attributes = BatchAttributes {
            in_batch: if position.is_some() { &raw mut start as u64 } else { 0 },
            out_batch: &raw mut next as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: size as u32,
            map_fd,
            ..BatchAttributes::default()
        };
        let result = bpf(BPF_MAP_LOOKUP_BATCH, &mut attributes);
        let last = match result {
            Ok(_) => false,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
            // One chain of the hash table is longer than the batch.
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) && size < BATCH << 8 => {
                size *= 2;
                continue;
            }
            Err(error) => return Err(error),
        };
        let count = attributes.count as usize;
        let pairs = keys
            .chunks_exact(size_of::<K>())
            .zip(values.chunks_exact(size_of::<V>()));
        for (key, value) in pairs.take(count) {
            if let (Some(key), Some(value)) = (K::from_bytes(key), V::from_bytes(value)) {
                each(&key, &value);
            }
        }
        if last {
            return Ok(());
        }
        position = Some(next);
    }
}

/// Adds an entry or replaces its value.
pub(super) fn put<K: Abi, V: Abi>(map: &impl AsFd, key: &K, value: &V) -> io::Result<()> {
    let mut attributes = ElementAttributes {
        map_fd: map.as_fd().as_raw_fd() as u32,
        key: key.as_bytes().as_ptr() as u64,
        value: value.as_bytes().as_ptr() as u64,
        ..ElementAttributes::default()
    };
    bpf(BPF_MAP_UPDATE_ELEM, &mut attributes).map(drop)
}

/// Removes an entry if it exists.
pub(super) fn remove<K: Abi>(map: &impl AsFd, key: &K) -> io::Result<()> {
    let mut attributes = ElementAttributes {
        map_fd: map.as_fd().as_raw_fd() as u32,
        key: key.as_bytes().as_ptr() as u64,
        ..ElementAttributes::default()
    };
    match bpf(BPF_MAP_DELETE_ELEM, &mut attributes) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        result => result.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        os::fd::{FromRawFd, OwnedFd},
    };

    use lb_common::{Be16, PortRangeKey, V6};

    use super::*;

    const BPF_MAP_CREATE: libc::c_int = 0;
    const LPM_TRIE: u32 = 11;
    const BPF_F_NO_PREALLOC: u32 = 1;

    /// Creates an LPM map.
    fn trie<K: Abi>() -> OwnedFd {
        let mut attributes = [LPM_TRIE, size_of::<K>() as u32, 4, 1 << 16, BPF_F_NO_PREALLOC];
        // SAFETY: the attributes are the first five words that the kernel reads for the command.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                BPF_MAP_CREATE,
                &raw mut attributes,
                size_of_val(&attributes),
            )
        };
        assert!(
            fd >= 0,
            "the tests of this module need root: {}",
            io::Error::last_os_error()
        );
        // SAFETY: a new descriptor that nothing else owns.
        unsafe { OwnedFd::from_raw_fd(fd as i32) }
    }

    fn key(port: u16) -> PortRangeKey<V6> {
        PortRangeKey {
            prefix: 160,
            address: [1, 2, 3, 4],
            protocol: 6,
            reserved: 0,
            port: Be16::from_host(port),
        }
    }

    fn entries(map: &OwnedFd) -> BTreeMap<u16, u32> {
        let mut found = BTreeMap::new();
        for_each::<PortRangeKey<V6>, u32>(map, |key, value| {
            assert_eq!((key.prefix, key.address), (160, [1, 2, 3, 4]));
            assert_eq!(found.insert(key.port.host(), *value), None, "seen twice");
        })
        .unwrap();
        found
    }

    #[test]
    fn all_entries_of_an_lpm_map_are_read_in_several_batches() {
        let map = trie::<PortRangeKey<V6>>();
        assert_eq!(entries(&map), BTreeMap::new());
        let count = 2 * BATCH as u16 + 7;
        for port in 0..count {
            put(&map, &key(port), &u32::from(port)).unwrap();
        }
        assert_eq!(entries(&map), (0..count).map(|port| (port, u32::from(port))).collect());
    }

    #[test]
    fn entries_are_replaced_and_removed_and_removing_a_missing_one_is_no_error() {
        let map = trie::<PortRangeKey<V6>>();
        put(&map, &key(1), &1_u32).unwrap();
        put(&map, &key(1), &2_u32).unwrap();
        put(&map, &key(2), &3_u32).unwrap();
        assert_eq!(entries(&map), [(1, 2), (2, 3)].into());
        remove(&map, &key(1)).unwrap();
        remove(&map, &key(1)).unwrap();
        assert_eq!(entries(&map), [(2, 3)].into());
    }
}
