//! Occurrences in the packet path that are not the outcome of a packet. Each has a counter.

macro_rules! events {
    ($( $variant:ident, $name:literal, $help:literal; )+) => {
        /// An occurrence. Its counter is in the map `EVENTS`, at the index that is its number.
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

            /// What the counter means, in one sentence.
            pub const fn help(self) -> &'static str {
                match self { $( Self::$variant => $help, )+ }
            }
        }
    };
}

events! {
    FlowBegun, "flow_begun", "a flow was created";
    EvictedClosed, "evicted_closed", "a closed flow was evicted for a new one before its timeout";
    EvictedEmbryonic, "evicted_embryonic", "a half-open flow was evicted for a new one";
    EvictedExpired, "evicted_expired", "an established flow that was idle for too long was evicted for a new one";
    Untracked, "untracked", "a packet was forwarded without an entry, because the flow table had no space";
    Flooded, "flooded", "a packet was forwarded by hash without an entry, because new flows exceeded `syn_flood_rate`";
    HopsFull, "hops_full", "the map of client hops had no space, so replies are routed by the kernel's tables";
    Rescheduled, "rescheduled", "a SYN that its backend did not answer was sent to another backend";
    ToaNoSpace, "toa_no_space", "a segment had no space for the TOA option with the client's address";
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
