//! Looking a 5-tuple up in a bucket.

use super::{Bind, Cells, Layout, Meta, WAYS};
use crate::{
    Be16,
    flow::{Direction, Ports},
};

/// An entry that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit<F: Layout> {
    /// Where in its bucket.
    pub way: usize,
    /// What it was at that moment.
    pub meta: Meta,
    /// What it is bound to.
    pub bind: Bind,
    /// The client's address.
    pub address: F::Address,
    /// The ports of the client's packets.
    pub ports: Ports,
}

impl<F: Layout> Hit<F> {
    /// No entry at all.
    pub const BLANK: Self = Self {
        way: 0,
        meta: Meta(0),
        bind: Bind(0),
        address: F::UNSPECIFIED,
        ports: Ports(0),
    };

    /// Offset of its meta word. The kernel's verifier wants to see that it is inside the bucket.
    #[inline(always)]
    pub fn meta_offset(&self) -> Option<usize> {
        if self.way < WAYS { Some(F::meta(self.way)) } else { None }
    }

    /// Offset of its bind. As [`Hit::meta_offset`].
    #[inline(always)]
    pub fn bind_offset(&self) -> Option<usize> {
        if self.way < WAYS { Some(F::bind(self.way)) } else { None }
    }
}

/// 1 for zero, else 0, without a branch.
#[inline(always)]
pub(super) fn is_zero<C: Cells>(number: u64) -> u64 {
    C::opaque(number | number.wrapping_neg()) >> 63 ^ 1
}

/// The only way of a bucket for which `difference` is zero; [`WAYS`] where there is none, more where there are several.
///
/// Flows of many clients stand in any way, so branches on each would be mispredicted.
#[inline(always)]
fn only_way<C: Cells>(difference: impl Fn(usize) -> u64) -> usize {
    let mut sum = 0;
    sum += is_zero::<C>(difference(0)) * 0x101;
    sum += is_zero::<C>(difference(1)) * 0x102;
    sum += is_zero::<C>(difference(2)) * 0x103;
    sum += is_zero::<C>(difference(3)) * 0x104;
    sum += is_zero::<C>(difference(4)) * 0x105;
    sum += is_zero::<C>(difference(5)) * 0x106;
    // The upper byte counts the ways, the lower one tells which, counted from one.
    let sum = C::opaque(sum);
    if sum == 0 { WAYS } else { (sum - 0x101) as usize }
}

/// Looks for the entry of a client's packet with this source address and these ports.
///
/// The destination address is not part of an entry: `is` says by the backend whether it is the right one. `Err` asks to
/// look again by [`find_slowly`]: more than one way is in question.
#[inline(always)]
pub fn find<F: Layout, C: Cells>(
    cells: C,
    address: &F::Address,
    ports: Ports,
    udp: bool,
    mut is: impl FnMut(&Hit<F>) -> bool,
) -> Result<Option<Hit<F>>, Ambiguous> {
    let way = only_way::<C>(|way| F::difference(cells, way, address, ports));
    choose(way, |way| client(cells, way, address, ports, udp, &mut is))
}

/// As [`find`], way by way.
#[inline(always)]
pub fn find_slowly<F: Layout, C: Cells>(
    cells: C,
    address: &F::Address,
    ports: Ports,
    udp: bool,
    mut is: impl FnMut(&Hit<F>) -> bool,
) -> Option<Hit<F>> {
    first(|way| client(cells, way, address, ports, udp, &mut is))
}

/// Looks for the entry of a worker's packet to this port. As [`find`]; `is` compares all else of the 5-tuple.
#[inline(always)]
pub fn find_answer<F: Layout, C: Cells>(
    cells: C,
    port: Be16,
    udp: bool,
    mut is: impl FnMut(&Hit<F>) -> bool,
) -> Result<Option<Hit<F>>, Ambiguous> {
    let way = only_way::<C>(|way| (cells.load_u32(F::bind(way)) ^ port.memory() as u32) as u64 & 0xffff);
    choose(way, |way| worker(cells, way, port, udp, &mut is))
}

/// As [`find_answer`], way by way.
#[inline(always)]
pub fn find_answer_slowly<F: Layout, C: Cells>(
    cells: C,
    port: Be16,
    udp: bool,
    mut is: impl FnMut(&Hit<F>) -> bool,
) -> Option<Hit<F>> {
    first(|way| worker(cells, way, port, udp, &mut is))
}

/// The live entry in a way, as of one moment.
#[inline(always)]
pub fn read<F: Layout, C: Cells>(cells: C, way: usize) -> Option<Hit<F>> {
    let before = Meta(cells.load_u64(F::meta(way)));
    if !before.is_live() {
        return None;
    }
    let (address, ports) = F::load_key(cells, way);
    let bind = Bind(cells.load_u32(F::bind(way)));
    let meta = Meta(cells.load_u64(F::meta(way)));
    (meta.is_live() && meta.is_same(before)).then_some(Hit {
        way,
        meta,
        bind,
        address,
        ports,
    })
}

/// More than one way of a bucket is in question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ambiguous;

#[inline(always)]
fn choose<F: Layout>(way: usize, mut at: impl FnMut(usize) -> Option<Hit<F>>) -> Result<Option<Hit<F>>, Ambiguous> {
    if way < WAYS {
        Ok(at(way))
    } else if way == WAYS {
        Ok(None)
    } else {
        Err(Ambiguous)
    }
}

#[inline(always)]
fn first<F: Layout>(mut at: impl FnMut(usize) -> Option<Hit<F>>) -> Option<Hit<F>> {
    let mut way = 0;
    while way < WAYS {
        if let Some(hit) = at(way) {
            return Some(hit);
        }
        way += 1;
    }
    None
}

#[inline(always)]
fn client<F: Layout, C: Cells>(
    cells: C,
    way: usize,
    address: &F::Address,
    ports: Ports,
    udp: bool,
    is: &mut impl FnMut(&Hit<F>) -> bool,
) -> Option<Hit<F>> {
    let hit = read::<F, C>(cells, way)?;
    (hit.address == *address && hit.ports == ports && hit.meta.is_kind(udp, Direction::ToWorker) && is(&hit))
        .then_some(hit)
}

#[inline(always)]
fn worker<F: Layout, C: Cells>(
    cells: C,
    way: usize,
    port: Be16,
    udp: bool,
    is: &mut impl FnMut(&Hit<F>) -> bool,
) -> Option<Hit<F>> {
    let hit = read::<F, C>(cells, way)?;
    (hit.bind.port() == port && hit.meta.is_kind(udp, Direction::ToClient) && is(&hit)).then_some(hit)
}
