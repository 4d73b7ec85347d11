//! The meta word of an entry: phase, protocol, direction, backend, and when it was last used.

use crate::flow::{Direction, Phase};

/// Bits 0–3 [`Stage`] or phase, 4 UDP, 5 direction of the packets that find it, 6–9 version of the
/// slot, 10–17 lowest bits of the backend's generation, 18–37 index of the backend, 38–63 time of
/// the last packet in ticks.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Meta(pub u64);

/// What a slot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Nothing.
    Free,
    /// An entry, whose connection is in this phase.
    Live(Phase),
    /// A reserved entry: not committed yet.
    Pending,
    /// An entry that its claimer is writing.
    Claimed,
}

/// The content of a meta word, before it has a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// First phase.
    pub phase: Phase,
    /// Whether it is UDP; else it is TCP.
    pub udp: bool,
    /// Direction of the packets that find it.
    pub direction: Direction,
    /// Index of the backend, below [`Meta::MAX_BACKENDS`].
    pub backend: u32,
    /// Generation of the backend.
    pub generation: u32,
    /// Now, in ticks.
    pub now: u32,
}

const PHASE: u64 = 0xf;
const UDP: u64 = 1 << 4;
const REPLIES: u64 = 1 << 5;
const VERSION_SHIFT: u32 = 6;
const VERSION: u64 = 0xf << VERSION_SHIFT;
const GENERATION_SHIFT: u32 = 10;
const GENERATION: u64 = 0xff << GENERATION_SHIFT;
const BACKEND_SHIFT: u32 = 18;
const BACKEND: u64 = 0xf_ffff << BACKEND_SHIFT;
const SEEN_SHIFT: u32 = 38;
const SEEN: u64 = !0 << SEEN_SHIFT;
const PENDING: u64 = 14;
const CLAIMED: u64 = 15;

impl Meta {
    /// How many backends a meta word can distinguish.
    pub const MAX_BACKENDS: u32 = 1 << 20;
    /// The bits that are constant as long as the slot holds the same entry.
    const IDENTITY: u64 = UDP | REPLIES | VERSION | GENERATION | BACKEND;
    /// The largest time in ticks, before it wraps. All ones.
    pub const TICKS: u32 = crate::flow::TICKS;

    /// What the slot holds.
    #[inline(always)]
    pub const fn stage(self) -> Stage {
        match self.0 & PHASE {
            0 => Stage::Free,
            PENDING => Stage::Pending,
            CLAIMED => Stage::Claimed,
            phase => Stage::Live(Phase::from_number(phase as u32)),
        }
    }

    /// The bits of the phase, not interpreted.
    #[inline(always)]
    pub(super) const fn phase_bits(self) -> u64 {
        self.0 & PHASE
    }

    /// Whether the slot is free.
    #[inline(always)]
    pub const fn is_free(self) -> bool {
        self.0 & PHASE == 0
    }

    /// Whether the slot holds an entry that packets follow.
    #[inline(always)]
    pub const fn is_live(self) -> bool {
        let phase = self.0 & PHASE;
        phase != 0 && phase < PENDING
    }

    /// Whether the slot holds an entry that other claimers must respect: live or pending.
    #[inline(always)]
    pub const fn is_visible(self) -> bool {
        let phase = self.0 & PHASE;
        phase != 0 && phase != CLAIMED
    }

    /// Phase of the connection; only for a live entry.
    #[inline(always)]
    pub const fn phase(self) -> Phase {
        Phase::from_number((self.0 & PHASE) as u32)
    }

    /// Whether the flow is UDP.
    #[inline(always)]
    pub const fn is_udp(self) -> bool {
        self.0 & UDP != 0
    }

    /// Direction of the packets that find the entry.
    #[inline(always)]
    pub const fn direction(self) -> Direction {
        if self.0 & REPLIES == 0 {
            Direction::ToWorker
        } else {
            Direction::ToClient
        }
    }

    /// Whether it is of this protocol and direction.
    #[inline(always)]
    pub const fn is_kind(self, udp: bool, direction: Direction) -> bool {
        self.0 & (UDP | REPLIES) == kind(udp, direction)
    }

    /// Index of the backend.
    #[inline(always)]
    pub const fn backend(self) -> u32 {
        ((self.0 & BACKEND) >> BACKEND_SHIFT) as u32
    }

    /// Lowest bits of the generation of the backend.
    #[inline(always)]
    pub const fn generation(self) -> u32 {
        ((self.0 & GENERATION) >> GENERATION_SHIFT) as u32
    }

    /// Whether the backend still has that generation.
    #[inline(always)]
    pub const fn is_generation(self, generation: u32) -> bool {
        self.generation() == generation & 0xff
    }

    /// When the last packet arrived, in ticks modulo [`Meta::TICKS`] + 1.
    #[inline(always)]
    pub const fn last_seen(self) -> u32 {
        (self.0 >> SEEN_SHIFT) as u32
    }

    /// Ticks since the last packet; 0 if a packet arrived after `now` was read.
    #[inline(always)]
    pub const fn idle(self, now: u32) -> u32 {
        let idle = now.wrapping_sub(self.last_seen()) & Self::TICKS;
        if idle > Self::TICKS / 2 { 0 } else { idle }
    }

    /// The same entry in this phase and at this time.
    #[inline(always)]
    #[must_use]
    pub const fn touched(self, phase: Phase, now: u32) -> Self {
        Self(self.0 & Self::IDENTITY | phase as u64 | (now as u64) << SEEN_SHIFT)
    }

    /// Whether both words are of one entry.
    #[inline(always)]
    pub const fn is_same(self, other: Self) -> bool {
        (self.0 ^ other.0) & Self::IDENTITY == 0
    }

    /// The slot when a claimer has taken it.
    #[inline(always)]
    pub(super) const fn claimed(self) -> Self {
        let version = (self.0 & VERSION).wrapping_add(1 << VERSION_SHIFT) & VERSION;
        Self(version | CLAIMED)
    }

    /// The claimed slot when it is reserved.
    #[inline(always)]
    pub(super) const fn pending(self, record: &Record) -> Self {
        Self(self.entry(record).0 & !PHASE | PENDING)
    }

    /// The claimed slot when it is committed.
    #[inline(always)]
    pub(super) const fn entry(self, record: &Record) -> Self {
        Self(
            self.0 & VERSION
                | record.phase as u64
                | kind(record.udp, record.direction)
                | ((record.generation as u64) << GENERATION_SHIFT) & GENERATION
                | ((record.backend as u64) << BACKEND_SHIFT) & BACKEND
                | ((record.now as u64) << SEEN_SHIFT) & SEEN,
        )
    }

    /// The slot when it is free again.
    #[inline(always)]
    #[must_use]
    pub const fn freed(self) -> Self {
        Self(self.0 & VERSION)
    }
}

#[inline(always)]
const fn kind(udp: bool, direction: Direction) -> u64 {
    (if udp { UDP } else { 0 })
        | match direction {
            Direction::ToWorker => 0,
            Direction::ToClient => REPLIES,
        }
}

impl core::fmt::Debug for Meta {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Meta")
            .field("stage", &self.stage())
            .field("udp", &self.is_udp())
            .field("direction", &self.direction())
            .field("backend", &self.backend())
            .field("generation", &self.generation())
            .field("last_seen", &self.last_seen())
            .finish()
    }
}
