//! Whether a master that did not renew its lease in time has lost it. Pure, time is an argument.

use lb_common::VirtualRouter;

/// Whether the lease has expired and another balancer may have taken over. If the packet path sees
/// adverts and saw none since the last renewal, no balancer did. All times are in the unit of the
/// entry.
pub fn is_lost(entry: &VirtualRouter, now: u64) -> bool {
    let may_be_taken = entry.heard == 0 || entry.heard > entry.renewed;
    entry.until != 0 && !entry.answers(now) && may_be_taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expired_lease_is_lost_if_another_balancer_may_have_taken_over() {
        // Renewed at 100, until 200. When another advert came, the time, whether the lease is lost.
        for (heard, now, expected) in [
            (50, 150, false),
            (50, 250, false),
            (150, 250, true),
            // No advert was ever seen here.
            (0, 250, true),
            (0, 150, false),
            // An advert came, and this controller did not react within 10.
            (120, 150, true),
        ] {
            let entry = VirtualRouter {
                renewed: 100,
                until: 200,
                patience: 10,
                heard,
                ..VirtualRouter::ZERO
            };
            assert_eq!(is_lost(&entry, now), expected, "{heard} {now}");
        }
        assert!(!is_lost(&VirtualRouter::ZERO, 250), "there was no lease");
    }
}
