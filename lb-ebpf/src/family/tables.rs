//! The maps of a family.

use aya_ebpf::btf_maps::lpm_trie::Key;
use lb_common::{
    Be16, GuardKey, PortRangeKey, RateKey, ServiceKey, V4, V6,
    flow_table::{Layout, Spills},
    fragment::{FragmentKey, FragmentPorts},
};

use crate::bpf::{bucket::Bucket, maps};

/// An address family's maps.
pub trait Tables: Layout {
    /// A bucket of the flow table.
    fn bucket(index: u32) -> Option<Bucket>;
    /// The number of buckets of the flow table.
    fn buckets() -> u32;
    /// Spill marks of 64 buckets.
    fn spills(index: u32) -> Option<*mut Spills>;
    /// The index of a service by address and port.
    fn service(key: &ServiceKey<Self>) -> Option<u32>;
    /// The index of a service with a port range.
    fn service_of_range(address: &Self::Address, protocol: u8, port: Be16) -> Option<u32>;
    /// What a service does with a source: `GUARD_ALLOW` or `GUARD_DENY`.
    fn guard(service: u32, source: &Self::Address) -> Option<u32>;
    /// When the next flow of a source is due, in nanoseconds of the monotonic clock.
    fn rate(key: &RateKey<Self>) -> Option<*mut u64>;
    /// Adds a source to the map of rates.
    fn set_rate(key: &RateKey<Self>, due: u64);
    /// The ports of a fragmented packet.
    fn fragment(key: &FragmentKey<Self>) -> Option<FragmentPorts>;
    /// Keeps the ports of a fragmented packet.
    fn set_fragment(key: &FragmentKey<Self>, ports: &FragmentPorts);
}

macro_rules! tables {
    ($family:ty: $flows:ident, $buckets:ident, $spills:ident, $services:ident, $ranges:ident, $guards:ident, $rates:ident, $fragments:ident) => {
        impl Tables for $family {
            #[inline(always)]
            fn bucket(index: u32) -> Option<Bucket> {
                maps::$flows.get_ptr_mut(index).map(Bucket::new)
            }

            #[inline(always)]
            fn buckets() -> u32 {
                maps::settings().map_or(0, |settings| settings.$buckets)
            }

            #[inline(always)]
            fn spills(index: u32) -> Option<*mut Spills> {
                maps::$spills.get_ptr_mut(index)
            }

            #[inline(always)]
            fn service(key: &ServiceKey<Self>) -> Option<u32> {
                // SAFETY: the value is one word that the controller writes whole.
                unsafe { maps::$services.get(key) }.copied()
            }

            #[inline(always)]
            fn service_of_range(address: &Self::Address, protocol: u8, port: Be16) -> Option<u32> {
                let mut rest = [0; { size_of::<PortRangeKey<$family>>() - 4 }];
                let last = (port.memory() as u32) << 16 | protocol as u32;
                put_words(&mut rest, address.as_ref(), last);
                let bits = 8 * (size_of::<PortRangeKey<Self>>() - 4) as u32;
                maps::$ranges.get(&Key::new(bits, rest)).copied()
            }

            #[inline(always)]
            fn guard(service: u32, source: &Self::Address) -> Option<u32> {
                let mut rest = [0; { size_of::<GuardKey<$family>>() - 4 }];
                put_first(&mut rest, service.to_be(), source.as_ref());
                let bits = 8 * (size_of::<GuardKey<Self>>() - 4) as u32;
                maps::$guards.get(&Key::new(bits, rest)).copied()
            }

            #[inline(always)]
            fn rate(key: &RateKey<Self>) -> Option<*mut u64> {
                maps::$rates.get_ptr_mut(key)
            }

            #[inline(always)]
            fn set_rate(key: &RateKey<Self>, value: u64) {
                // A source that cannot be kept is not limited.
                let _ = maps::$rates.insert(key, &value, 0);
            }

            #[inline(always)]
            fn fragment(key: &FragmentKey<Self>) -> Option<FragmentPorts> {
                // SAFETY: the value is copied; its one word is written whole.
                unsafe { maps::$fragments.get(key) }.copied()
            }

            #[inline(always)]
            fn set_fragment(key: &FragmentKey<Self>, ports: &FragmentPorts) {
                // Where this one cannot be kept, later fragments pass to the kernel, counted.
                let _ = maps::$fragments.insert(key, ports, 0);
            }
        }
    };
}

/// Writes the words of an address and one word after them.
#[inline(always)]
fn put_words<const N: usize>(bytes: &mut [u8; N], address: &[u32], last: u32) {
    let target: *mut u32 = bytes.as_mut_ptr().cast();
    let mut i = 0;
    while i < address.len() && 4 * i + 8 <= N {
        // SAFETY: within the array, by the condition.
        unsafe { target.add(i).write_unaligned(address[i]) };
        i += 1;
    }
    // SAFETY: the array is as long as the address and one word.
    unsafe { target.add(N / 4 - 1).write_unaligned(last) };
}

/// Writes a word and the words of an address after it.
#[inline(always)]
fn put_first<const N: usize>(bytes: &mut [u8; N], first: u32, address: &[u32]) {
    let target: *mut u32 = bytes.as_mut_ptr().cast();
    // SAFETY: within the array; so below.
    unsafe { target.write_unaligned(first) };
    let mut i = 0;
    while i < address.len() && 4 * i + 8 <= N {
        // SAFETY: as above.
        unsafe { target.add(i + 1).write_unaligned(address[i]) };
        i += 1;
    }
}

tables!(V4: FLOWS_V4, buckets_v4, SPILLS_V4, SERVICES_V4, PORT_RANGES_V4, GUARDS_V4, RATES_V4, FRAGMENTS_V4);
tables!(V6: FLOWS_V6, buckets_v6, SPILLS_V6, SERVICES_V6, PORT_RANGES_V6, GUARDS_V6, RATES_V6, FRAGMENTS_V6);
