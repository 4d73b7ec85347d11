//! What happens in the packet path besides the outcomes of packets: counted, one list.

macro_rules! events {
    ($( $variant:ident, $name:literal, $help:literal; )+) => {
        /// Something worth counting. Each has a counter in the map `EVENTS`, at the index that is its number.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u32)]
        pub enum Event {
            $( #[doc = $help] $variant, )+
        }

        impl Event {
            /// Every event, in the order of their numbers.
            pub const ALL: &'static [Self] = &[ $( Self::$variant, )+ ];

            /// The name that counters, metrics and CLI use.
            pub const fn name(self) -> &'static str {
                match self { $( Self::$variant => $name, )+ }
            }

            /// One sentence for whoever sees the counter rise.
            pub const fn help(self) -> &'static str {
                match self { $( Self::$variant => $help, )+ }
            }
        }
    };
}

events! {
    FlowBegun, "flow_begun", "a flow was entered in the table";
    EvictedClosed, "evicted_closed", "a flow that was over gave way to a new one before its time";
    EvictedEmbryonic, "evicted_embryonic", "a flow that was never established gave way to a new one";
    EvictedExpired, "evicted_expired", "a flow that was silent for too long gave way to a new one";
    Untracked, "untracked", "a packet was sent without an entry, because the table had no room for it";
    Flooded, "flooded", "a packet was sent by hash and without an entry, because new flows came faster than the flood rate";
    HopsFull, "hops_full", "where a client's packets come from could not be kept, so answers are routed";
    Rescheduled, "rescheduled", "a SYN that its backend had not answered was sent to another one";
    ToaNoRoom, "toa_no_room", "a segment had no room for the client's address";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_the_list_and_names_are_unique() {
        for (number, event) in Event::ALL.iter().enumerate() {
            assert_eq!(*event as usize, number);
            assert!(Event::ALL.iter().filter(|e| e.name() == event.name()).count() == 1);
        }
    }
}
