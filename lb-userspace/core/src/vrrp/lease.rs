//! When a lease that was not renewed no longer counts.

use lb_common::VirtualRouter;

/// Whether another balancer took over, or might have, while the lease was not renewed. Where adverts are seen, silence since then
/// means that nobody did.
pub fn has_lapsed(entry: &VirtualRouter, now: u64) -> bool {
    let may_be_taken = entry.heard == 0 || entry.heard > entry.renewed;
    entry.until != 0 && !entry.answers(now) && may_be_taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_has_lapsed_where_another_one_may_have_taken_over() {
        // Renewed at 100, until 200; another one's advert came when; the time; whether it has lapsed.
        for (heard, now, is_lapsed) in [
            (50, 150, false),
            (50, 250, false),
            (150, 250, true),
            // Nothing is known of adverts here.
            (0, 250, true),
            (0, 150, false),
            // It came, and this controller did not react within 10.
            (120, 150, true),
        ] {
            let entry = VirtualRouter {
                renewed: 100,
                until: 200,
                patience: 10,
                heard,
                ..VirtualRouter::ZERO
            };
            assert_eq!(has_lapsed(&entry, now), is_lapsed, "{heard} {now}");
        }
        assert!(!has_lapsed(&VirtualRouter::ZERO, 250), "there was none");
    }
}
