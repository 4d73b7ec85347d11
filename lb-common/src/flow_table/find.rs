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

/// Ways of a bucket, one bit each.
///
/// They are found without branches: flows of many clients stand in any way, so that branches would be mispredicted, and
/// the kernel's verifier would follow every mix of them.
#[derive(Clone, Copy)]
pub(super) struct Ways(u64);

impl Ways {
    /// Those for which `difference` is zero.
    #[inline(always)]
    pub(super) fn equal<C: Cells>(difference: impl Fn(usize) -> u64) -> Self {
        Self::between::<C>(0, WAYS, &difference)
    }

    /// As [`Ways::equal`], but of the first cache line alone where it has some: the other lines are not loaded then.
    #[inline(always)]
    fn nearest<C: Cells>(first_line: usize, difference: impl Fn(usize) -> u64) -> Self {
        let near = Self::between::<C>(0, first_line, &difference);
        if near.0 != 0 {
            near
        } else {
            Self::between::<C>(first_line, WAYS, &difference)
        }
    }

    /// Those from `start` to before `end`.
    #[inline(always)]
    fn between<C: Cells>(start: usize, end: usize, difference: &impl Fn(usize) -> u64) -> Self {
        let mut ways = 0;
        let mut way = start;
        while way < end {
            ways |= is_zero::<C>(difference(way)) << way;
            way += 1;
        }
        Self(C::opaque(ways))
    }

    /// All but this one.
    #[inline(always)]
    pub(super) fn without(self, way: usize) -> Self {
        Self(self.0 & !(1 << (way as u64 & 7)))
    }

    /// The first one, and the others.
    #[inline(always)]
    pub(super) fn pop<C: Cells>(self) -> Option<(usize, Self)> {
        if self.0 == 0 {
            return None;
        }
        let bit = self.0 & self.0.wrapping_neg();
        // A de Bruijn sequence: the upper three of its eight bits differ for each place it is shifted to.
        let place = (bit.wrapping_mul(0x17) & 0xff) >> 5;
        let way = C::opaque(WAY_AT_PLACE >> (4 * place)) as usize & 7;
        if way < WAYS {
            Some((way, Self(self.0 & !bit)))
        } else {
            None
        }
    }
}

/// The number of the bit that the de Bruijn sequence shows at each place, four bits each.
const WAY_AT_PLACE: u64 = 0x5030_4210;

const _: () = assert!(WAYS == 6, "`Ways` is written for six");

/// How many ways of a bucket that look right are looked at. Of client's packets more than one does so only when two flows to
/// different virtual addresses share all else; of answers, when flows share the port, which few do unless all clients use one.
pub(super) const CANDIDATES: u32 = 3;

/// Looks for the entry of a client's packet with this source address and these ports, in the first way that looks right.
///
/// The destination address is not part of an entry: `is` says by the backend whether it is the right one.
#[inline(always)]
pub fn find<F: Layout, C: Cells>(
    cells: C,
    address: &F::Address,
    ports: Ports,
    udp: bool,
    mut is: impl FnMut(&Hit<F>) -> bool,
) -> Option<Hit<F>> {
    let ways = Ways::nearest::<C>(F::FIRST_LINE, |way| F::difference(cells, way, address, ports));
    let (way, _) = ways.pop::<C>()?;
    client(cells, way, address, ports, udp, &mut is)
}

/// As [`find`], in all ways.
#[inline(always)]
pub fn search<F: Layout, C: Cells>(
    cells: C,
    address: &F::Address,
    ports: Ports,
    udp: bool,
    mut is: impl FnMut(&Hit<F>) -> bool,
) -> Option<Hit<F>> {
    let mut ways = Ways::equal::<C>(|way| F::difference(cells, way, address, ports) | is_free::<F, C>(cells, way));
    let mut turn = 0;
    while turn < CANDIDATES {
        let (way, others) = ways.pop::<C>()?;
        if let Some(hit) = client(cells, way, address, ports, udp, &mut is) {
            return Some(hit);
        }
        ways = others;
        turn += 1;
    }
    None
}

/// Looks for the entry of a worker's packet to this port, in the first way that looks right. `is` compares all else of
/// the 5-tuple.
#[inline(always)]
pub fn find_answer<F: Layout, C: Cells>(
    cells: C,
    port: Be16,
    udp: bool,
    mut is: impl FnMut(&Hit<F>) -> bool,
) -> Option<Hit<F>> {
    let ways = Ways::nearest::<C>(F::FIRST_LINE, |way| port_difference::<F, C>(cells, way, port));
    let (way, _) = ways.pop::<C>()?;
    worker(cells, way, port, udp, &mut is)
}

/// As [`find_answer`], in all ways.
#[inline(always)]
pub fn search_answer<F: Layout, C: Cells>(
    cells: C,
    port: Be16,
    udp: bool,
    mut is: impl FnMut(&Hit<F>) -> bool,
) -> Option<Hit<F>> {
    let mut ways = Ways::equal::<C>(|way| port_difference::<F, C>(cells, way, port) | is_free::<F, C>(cells, way));
    let mut turn = 0;
    while turn < CANDIDATES {
        let (way, others) = ways.pop::<C>()?;
        if let Some(hit) = worker(cells, way, port, udp, &mut is) {
            return Some(hit);
        }
        ways = others;
        turn += 1;
    }
    None
}

/// Not zero when nothing is in a way: the key of what was there may be left behind.
#[inline(always)]
pub(super) fn is_free<F: Layout, C: Cells>(cells: C, way: usize) -> u64 {
    is_zero::<C>(Meta(cells.load_u64(F::meta(way))).phase_bits())
}

/// Zero when the worker answers to this port.
#[inline(always)]
pub fn port_difference<F: Layout, C: Cells>(cells: C, way: usize, port: Be16) -> u64 {
    (cells.load_u32(F::bind(way)) ^ port.memory() as u32) as u64 & 0xffff
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
