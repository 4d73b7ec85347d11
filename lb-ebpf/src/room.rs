//! Room of each CPU for what the slow way works with, because the stack is too small for it.

use lb_common::{
    FlowKey,
    flow_table::{Bind, Claims, Hit, Meta, Places},
};

use crate::{family::Stages, parse::Parsed, track::Flow};

/// An entry that is announced.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Announced {
    pub meta: Meta,
    pub places: Places,
    /// 1 where it stands in the second of its places.
    pub second: u32,
    pub way: u32,
}

impl Announced {
    /// The bucket that it stands in.
    #[inline(always)]
    pub fn bucket(&self) -> u32 {
        if self.second != 0 {
            self.places.second
        } else {
            self.places.first
        }
    }
}

/// Index in [`Room::evicted`]: what gave way to the entry that the client's packets find.
pub const BY_FLOW: usize = 0;
/// Index in [`Room::evicted`]: what gave way to the entry that the worker's answers find.
pub const BY_ANSWERS: usize = 1;

/// A backend that was chosen for a packet without a flow.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Chosen {
    /// Index of the service.
    pub service: u32,
    /// Index of the backend.
    pub backend: u32,
    /// The bind of the flow to it.
    pub bind: Bind,
    /// 1 where the packet goes there only when its flow is entered.
    pub is_tracked: u32,
    /// 1 where its flow was entered for this packet.
    pub is_entered: u32,
    /// 1 where the connection is not established yet.
    pub is_handshake: u32,
    /// 1 where the packet is in the middle of a connection whose backend is down, and goes to another one.
    pub is_moved: u32,
}

/// The room. A packet finds there what the last one left, so everything is written before it is read.
#[repr(C)]
pub struct Room<F: Stages> {
    /// The packet.
    pub parsed: Parsed<F>,
    /// The entry that the packet found, or that was entered for it.
    pub flow: Flow<F>,
    /// The other direction's entry.
    pub other: Flow<F>,
    /// The 5-tuple that the other direction's entry is looked up by.
    pub other_key: FlowKey<F>,
    /// The flow that shall be entered.
    pub new: Claims<F>,
    /// The 5-tuple of the answers of a flow that shall be entered.
    pub answer_key: FlowKey<F>,
    /// The entries that gave way to the flow's own and to its answers'; free where none did.
    pub evicted: [Hit<F>; 2],
    /// The entry that is announced: its bucket, its way, and the meta word that it shall have.
    pub announced: Announced,
    /// The entry that the answers of the flow find that was entered last, as it went live; only of modes that translate.
    pub answers: Announced,
    /// Headers that are moved: a frame's with two tags, IPv6's and TCP's.
    pub headers: [u8; 96],
    /// The backend that was chosen.
    pub chosen: Chosen,
}
