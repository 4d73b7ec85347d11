//! The kinds of events, declared once: word, whether it is a warning, and sentence.

macro_rules! kinds {
    ($( $variant:ident, $word:literal, $alarming:literal, $sentence:literal; )+) => {
        /// The kind of an event.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind {
            $( #[doc = $sentence] $variant, )+
        }

        impl Kind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[ $( Self::$variant, )+ ];

            /// The word in the API and in `lbctl`.
            pub const fn word(self) -> &'static str {
                match self { $( Self::$variant => $word, )+ }
            }

            /// What happened, as a sentence for operators.
            pub const fn sentence(self) -> &'static str {
                match self { $( Self::$variant => $sentence, )+ }
            }

            /// Whether an operator may have to act. Such events are logged as warnings.
            pub const fn is_alarming(self) -> bool {
                match self { $( Self::$variant => $alarming, )+ }
            }
        }
    };
}

kinds! {
    DaemonStarted, "daemon-started", false, "lbd is ready";
    DaemonStopping, "daemon-stopping", false, "lbd stops; packets are still forwarded, without health checks (`lbd detach` stops forwarding)";
    BackendUp, "backend-up", false, "a backend is up";
    BackendDown, "backend-down", true, "a backend is down";
    BackendSuspect, "backend-suspect", true, "a backend does not accept SYNs of clients; its health is checked at once";
    BackendSuspectCleared, "backend-suspect-cleared", false, "a health check succeeded: a backend is no longer suspect";
    BackendUnknown, "backend-unknown", false, "a backend was not checked yet";
    PanicStarted, "panic-started", true, "fewer healthy backends than panic_threshold: health is ignored";
    PanicEnded, "panic-ended", false, "enough backends are healthy again: health is used";
    FallbackStarted, "fallback-started", true, "no other backend is up: the fallback takes new flows";
    FallbackEnded, "fallback-ended", false, "the fallback is no longer needed, or is down too";
    ServiceDown, "service-down", true, "a service has no backend that is up: new flows are refused";
    ServiceUp, "service-up", false, "a service takes new flows again";
    OverrideSet, "override-set", false, "an operator set an override";
    OverrideCleared, "override-cleared", false, "an operator cleared an override";
    OverridesUnreadable, "overrides-unreadable", true, "the file with the overrides cannot be read";
    OverridesUnsaved, "overrides-unsaved", true, "the overrides cannot be saved";
    DrainStarted, "drain-started", false, "a drain started: the backend gets no new flows";
    DrainEnded, "drain-ended", false, "a drain is done";
    ReloadApplied, "reload-applied", false, "the changed configuration is applied";
    ReloadRefused, "reload-refused", true, "the changed configuration is refused; the one before stays in force";
    FlowsFlushed, "flows-flushed", false, "an operator ended flows";
    InterfaceMissing, "interface-missing", true, "an interface does not exist, or the XDP program cannot be attached to it";
    InterfaceReturned, "interface-returned", false, "an interface exists again, and the XDP program is attached to it";
    ProgramAttached, "program-attached", false, "the XDP program is attached to an interface";
    ProgramDetached, "program-detached", false, "the XDP program was detached from an interface";
    VrrpMaster, "vrrp-master", false, "this balancer is master of a virtual router";
    VrrpBackup, "vrrp-backup", false, "this balancer is backup of a virtual router";
    VrrpGrace, "vrrp-grace", true, "adverts of the master are missing, but its packet path still answers";
    VrrpPriorityChanged, "vrrp-priority-changed", false, "the priority of this balancer in a virtual router changed";
    VrrpAdvertMismatch, "vrrp-advert-mismatch", true, "adverts of another balancer are invalid or do not match the configuration";
    VrrpMaintained, "vrrp-maintained", false, "an operator keeps this balancer backup of a virtual router";
    VrrpResumed, "vrrp-resumed", false, "an operator ended maintenance of a virtual router";
    VrrpHookFailed, "vrrp-hook-failed", true, "the hook of a virtual router failed";
    VrrpFault, "vrrp-fault", true, "a fault keeps this balancer out of a virtual router";
    VrrpInitialize, "vrrp-initialize", false, "this balancer is not active in a virtual router: it starts, waits or stops";
    LinkDown, "link-down", true, "the link of an interface is down";
    LinkUp, "link-up", false, "the link of an interface is up again";
    AddressAdded, "address-added", false, "an address was added to an interface";
    AddressRemoved, "address-removed", false, "an address was removed from an interface";
    MapsMigrated, "maps-migrated", false, "the maps were converted from an older layout";
    ReconcileFailed, "reconcile-failed", true, "the maps cannot be brought in sync with the configuration";
    ReconcileRecovered, "reconcile-recovered", false, "the maps are in sync with the configuration again";
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
