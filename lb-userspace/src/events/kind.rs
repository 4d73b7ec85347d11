//! The kinds of events: one list.

macro_rules! kinds {
    ($( $variant:ident, $word:literal, $alarming:literal, $sentence:literal; )+) => {
        /// What kind of thing happened.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind {
            $( #[doc = $sentence] $variant, )+
        }

        impl Kind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[ $( Self::$variant, )+ ];

            /// The word that API and CLI use.
            pub const fn word(self) -> &'static str {
                match self { $( Self::$variant => $word, )+ }
            }

            /// What happened, for people.
            pub const fn sentence(self) -> &'static str {
                match self { $( Self::$variant => $sentence, )+ }
            }

            /// Whether somebody may have to do something.
            pub const fn is_alarming(self) -> bool {
                match self { $( Self::$variant => $alarming, )+ }
            }
        }
    };
}

kinds! {
    DaemonStarted, "daemon-started", false, "the daemon is ready";
    DaemonEnding, "daemon-ending", false, "the daemon ends; packets are forwarded on, without health checks (`lbd detach` ends that)";
    BackendUp, "backend-up", false, "backend is up";
    BackendDown, "backend-down", true, "backend is down";
    BackendSuspect, "backend-suspect", true, "backend fails its clients' SYNs and is checked at once";
    BackendCleared, "backend-cleared", false, "backend is not suspect any more";
    BackendUnknown, "backend-unknown", false, "backend is not checked yet";
    PanicBegun, "panic-begun", true, "too few backends are well: health is not heeded";
    PanicEnded, "panic-ended", false, "health is heeded again";
    FallbackBegun, "fallback-begun", true, "no backend is up: the fallback takes new flows";
    FallbackEnded, "fallback-ended", false, "the fallback is not needed any more, or is down too";
    ServiceUnserved, "service-unserved", true, "no backend of a service is up: new flows are refused";
    ServiceServed, "service-served", false, "a service takes new flows again";
    OverrideSet, "override-set", false, "an operator's override is set";
    OverrideCleared, "override-cleared", false, "an operator's override is cleared";
    OverridesUnreadable, "overrides-unreadable", true, "the operator's overrides cannot be read";
    OverridesUnsaved, "overrides-unsaved", true, "the operator's overrides cannot be saved";
    DrainBegun, "drain-begun", false, "drain begins";
    DrainEnded, "drain-ended", false, "drain has ended";
    ReloadApplied, "reload-applied", false, "the configuration is applied";
    ReloadRefused, "reload-refused", true, "the configuration is refused, the one before stays in force";
    FlowsFlushed, "flows-flushed", false, "flows were ended by an operator";
    InterfaceLost, "interface-lost", true, "an interface is gone, or cannot have the program";
    InterfaceReturned, "interface-returned", false, "an interface is back and has the program";
    InterfaceAttached, "interface-attached", false, "the program is attached to an interface";
    InterfaceDetached, "interface-detached", false, "the program is taken off an interface";
    VrrpMaster, "vrrp-master", false, "this balancer is master of a virtual router";
    VrrpBackup, "vrrp-backup", false, "this balancer is backup of a virtual router";
    VrrpGrace, "vrrp-grace", true, "adverts of the master are missing, but its packet path still forwards";
    VrrpPriority, "vrrp-priority", false, "the priority of this balancer for a virtual router changed";
    VrrpAdvertMismatch, "vrrp-advert-mismatch", true, "adverts of another balancer differ from this configuration";
    VrrpMaintained, "vrrp-maintained", false, "an operator keeps this balancer backup of a virtual router";
    VrrpResumed, "vrrp-resumed", false, "an operator ended the maintenance of a virtual router";
    VrrpHookFailed, "vrrp-hook-failed", true, "the hook of a virtual router failed";
    VrrpFault, "vrrp-fault", true, "a fault keeps this balancer from being active in a virtual router";
    VrrpInitialize, "vrrp-initialize", false, "this balancer is not active in a virtual router: it starts, waits or stops";
    LinkDown, "link-down", true, "an interface has no link";
    LinkUp, "link-up", false, "an interface has a link again";
    AddressAdded, "address-added", false, "an interface has an address more";
    AddressRemoved, "address-removed", false, "an interface has an address less";
    MapsMigrated, "maps-migrated", false, "maps of a former layout are taken over";
    MapsWrong, "maps-wrong", true, "the maps are not as they should be";
    MapsRight, "maps-right", false, "the maps are as they should be again";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_unique() {
        for kind in Kind::ALL {
            let same = Kind::ALL.iter().filter(|other| other.word() == kind.word());
            assert_eq!(same.count(), 1, "{}", kind.word());
        }
    }

    #[test]
    fn the_reference_has_every_kind() {
        let reference = include_str!("../../../docs/lbctl.md");
        for kind in Kind::ALL {
            let mark = if kind.is_alarming() { "!" } else { "" };
            let row = format!("| `{}` | {mark} | {} |", kind.word(), kind.sentence());
            assert!(reference.contains(&row), "docs/lbctl.md has no line {row}");
        }
    }
}
