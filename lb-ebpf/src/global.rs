//! The functions that the verifier checks once and by themselves, not for each place that calls them: global ones, in its
//! words. They take numbers and pointers to plain values, which the verifier lets them write, and return numbers.

use lb_common::{FlowKey, V4, V6, flow_table::Layout};

use crate::track::{Flow, again, announce, bound, contested, pair, search_answer_in, search_in, settle};
use crate::{family::Stages, icmp, packet::Packet, room, slow, unusual, vrrp};
use aya_ebpf::{bindings::xdp_md, programs::XdpContext};

/// The functions of a family.
pub trait Global: Layout {
    /// See [`search_in`].
    fn search_flow(key: &FlowKey<Self>, flow: &mut Flow<Self>) -> u32
    where
        Self: Stages;
    /// Looks a worker's answer up wherever it may be; 1 where it was found.
    fn search_answer(key: &FlowKey<Self>, flow: &mut Flow<Self>) -> u32
    where
        Self: Stages;
    /// Announces the entry of the flow in the room that the client's packets find; see [`announce`].
    fn announce_flow(key: &FlowKey<Self>) -> u32
    where
        Self: Stages;
    /// See [`bound::pick_port`].
    fn pick_port(turn: u32) -> u32
    where
        Self: Stages;
    /// See [`bound::announce`].
    fn announce_answer() -> u32
    where
        Self: Stages;
    /// See [`settle`].
    fn conclude_claim(bucket: u32, refused: u32) -> u32
    where
        Self: Stages;
    /// See [`unusual::read`].
    fn read_unusual(packet: &Packet) -> u32
    where
        Self: Stages;
    /// See [`icmp::steer`].
    fn send_error(packet: &Packet) -> u32
    where
        Self: Stages;
    /// See [`slow::to_client`].
    fn send_to_client(packet: &Packet) -> u32
    where
        Self: Stages;
    /// See [`slow::to_worker`].
    fn send_to_worker(packet: &Packet) -> u32
    where
        Self: Stages;
    /// See [`slow::refuse`].
    fn refuse(packet: &Packet) -> u32
    where
        Self: Stages;
    /// See [`slow::choose`].
    fn choose_backend(packet: &Packet) -> u32
    where
        Self: Stages;
    /// See [`vrrp::accept`].
    fn accept(packet: &Packet) -> u32
    where
        Self: Stages;
    /// See [`slow::enter`].
    fn enter_flow(packet: &Packet) -> u32
    where
        Self: Stages;
    /// See [`contested`].
    fn contested_flow(key: &FlowKey<Self>, bucket: u32, mine: u32) -> u32
    where
        Self: Stages;
    /// See [`bound::contested`].
    fn contested_answer(bucket: u32, mine: u32) -> u32
    where
        Self: Stages;
    /// See [`bound::stands`].
    fn answers_stand() -> u32
    where
        Self: Stages;
    /// Takes that entry out again; see [`bound::withdraw`].
    fn withdraw_answers() -> u32
    where
        Self: Stages;
    /// See [`pair::changed`].
    fn flow_changed(flow: &Flow<Self>, before: u32, after: u32) -> u32
    where
        Self: Stages;
    /// See [`pair::answered`].
    fn flow_answered(answers: &Flow<Self>, flags: u32) -> u32
    where
        Self: Stages;
    /// See [`pair::released`].
    fn flow_released(flow: &Flow<Self>) -> u32
    where
        Self: Stages;
    /// See [`pair::evicted`].
    fn flow_evicted(by: u32) -> u32
    where
        Self: Stages;
    /// See [`again::reschedule`].
    fn reschedule() -> u32
    where
        Self: Stages;
    /// See [`pair::hop_changed`].
    fn flow_hop_changed(flow: &Flow<Self>, hop: u32) -> u32
    where
        Self: Stages;
}

/// `in` is a value that is read, `out` one that is written.
macro_rules! global {
    (@reference in $type:ty) => { &$type };
    (@reference out $type:ty) => { &mut $type };
    (@pointer in $value:ident) => { core::ptr::from_ref($value).cast_mut() };
    (@pointer out $value:ident) => { core::ptr::from_mut($value) };
    (@value in $pointer:ident) => { $pointer.as_ref() };
    (@value out $pointer:ident) => { $pointer.as_mut() };
    (
        $family:ty,
        $( $method:ident as $name:ident($($argument:ident: $way:tt $type:ty),* $(; $($number:ident),+)?) $body:expr; )+
        | $( $of_packet:ident as $packet_name:ident $function:expr; )+
    ) => {
        $(
            /// See [`Global`].
            #[unsafe(no_mangle)]
            #[inline(never)]
            pub extern "C" fn $packet_name(context: *mut xdp_md) -> u32 {
                $function(&Packet::new(XdpContext::new(context))) as u32
            }
        )+

        $(
            /// See [`Global`]. The verifier takes any pointer for one that may be null.
            #[unsafe(no_mangle)]
            #[inline(never)]
            pub extern "C" fn $name($($argument: *mut $type,)* $($($number: u32),+)?) -> u32 {
                $(
                    // SAFETY: null, or made from a reference by the only caller, below.
                    let Some($argument) = (unsafe { global!(@value $way $argument) }) else {
                        return 0;
                    };
                )*
                $body
            }
        )+

        impl Global for $family {
            $(
                #[inline(always)]
                fn $of_packet(packet: &Packet) -> u32 {
                    $packet_name(packet.raw())
                }
            )+
            $(
                #[inline(always)]
                fn $method($($argument: global!(@reference $way $type),)* $($($number: u32),+)?) -> u32 {
                    $name($(global!(@pointer $way $argument),)* $($($number),+)?)
                }
            )+
        }
    };
}

global! { V4,
    search_flow as search_flow_v4(key: in FlowKey<V4>, flow: out Flow<V4>) search_in(key, flow) as u32;
    search_answer as search_answer_v4(key: in FlowKey<V4>, flow: out Flow<V4>) search_answer_in(key, flow) as u32;
    announce_flow as announce_flow_v4(key: in FlowKey<V4>) announce(key, room::BY_FLOW);
    pick_port as pick_port_v4(; turn) bound::pick_port::<V4>(turn);
    announce_answer as announce_answer_v4() bound::announce::<V4>();
    conclude_claim as conclude_claim_v4(; bucket, refused) settle::<V4>(bucket, refused);
    contested_flow as contested_flow_v4(key: in FlowKey<V4>; bucket, mine) contested(key, bucket, mine);
    contested_answer as contested_answer_v4(; bucket, mine) bound::contested::<V4>(bucket, mine);
    answers_stand as answers_stand_v4() bound::stands::<V4>();
    withdraw_answers as withdraw_answers_v4() bound::withdraw::<V4>();
    flow_changed as flow_changed_v4(flow: in Flow<V4>; before, after) pair::changed(flow, before, after);
    flow_answered as flow_answered_v4(answers: in Flow<V4>; flags) pair::answered(answers, flags as u8);
    flow_released as flow_released_v4(flow: in Flow<V4>) pair::released(flow);
    flow_evicted as flow_evicted_v4(; by) pair::evicted::<V4>(by);
    reschedule as reschedule_v4() again::reschedule::<V4>();
    flow_hop_changed as flow_hop_changed_v4(flow: in Flow<V4>; hop) pair::hop_changed(flow, hop);
    |
    read_unusual as read_unusual_v4 unusual::read::<V4>;
    send_error as send_error_v4 icmp::steer::<V4>;
    send_to_client as send_to_client_v4 slow::to_client::<V4>;
    send_to_worker as send_to_worker_v4 slow::to_worker::<V4>;
    refuse as refuse_v4 slow::refuse::<V4>;
    choose_backend as choose_backend_v4 slow::choose::<V4>;
    enter_flow as enter_flow_v4 slow::enter::<V4>;
    accept as accept_v4 vrrp::accept::<V4>;
}

global! { V6,
    search_flow as search_flow_v6(key: in FlowKey<V6>, flow: out Flow<V6>) search_in(key, flow) as u32;
    search_answer as search_answer_v6(key: in FlowKey<V6>, flow: out Flow<V6>) search_answer_in(key, flow) as u32;
    announce_flow as announce_flow_v6(key: in FlowKey<V6>) announce(key, room::BY_FLOW);
    pick_port as pick_port_v6(; turn) bound::pick_port::<V6>(turn);
    announce_answer as announce_answer_v6() bound::announce::<V6>();
    conclude_claim as conclude_claim_v6(; bucket, refused) settle::<V6>(bucket, refused);
    contested_flow as contested_flow_v6(key: in FlowKey<V6>; bucket, mine) contested(key, bucket, mine);
    contested_answer as contested_answer_v6(; bucket, mine) bound::contested::<V6>(bucket, mine);
    answers_stand as answers_stand_v6() bound::stands::<V6>();
    withdraw_answers as withdraw_answers_v6() bound::withdraw::<V6>();
    flow_changed as flow_changed_v6(flow: in Flow<V6>; before, after) pair::changed(flow, before, after);
    flow_answered as flow_answered_v6(answers: in Flow<V6>; flags) pair::answered(answers, flags as u8);
    flow_released as flow_released_v6(flow: in Flow<V6>) pair::released(flow);
    flow_evicted as flow_evicted_v6(; by) pair::evicted::<V6>(by);
    reschedule as reschedule_v6() again::reschedule::<V6>();
    flow_hop_changed as flow_hop_changed_v6(flow: in Flow<V6>; hop) pair::hop_changed(flow, hop);
    |
    read_unusual as read_unusual_v6 unusual::read::<V6>;
    send_error as send_error_v6 icmp::steer::<V6>;
    send_to_client as send_to_client_v6 slow::to_client::<V6>;
    send_to_worker as send_to_worker_v6 slow::to_worker::<V6>;
    refuse as refuse_v6 slow::refuse::<V6>;
    choose_backend as choose_backend_v6 slow::choose::<V6>;
    enter_flow as enter_flow_v6 slow::enter::<V6>;
    accept as accept_v6 vrrp::accept::<V6>;
}
