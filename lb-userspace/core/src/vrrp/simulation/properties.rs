//! Properties that hold with and without faults.

use proptest::prelude::*;

use super::{
    GRACE, INTERVAL, SETTLE_TIME, World,
    faults::{Fault, any_fault},
};

fn priorities() -> impl Strategy<Value = Vec<u8>> {
    // Some nodes have the same priority.
    let priority = prop_oneof![1_u8..255, prop::sample::select(vec![100_u8, 200])];
    prop::collection::vec(priority, 2..6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn after_any_faults_the_best_remaining_node_is_the_only_master(
        priorities in priorities(),
        networks in 1_usize..4,
        preempt: bool,
        faults in prop::collection::vec((any_fault(), 0_u64..6 * INTERVAL), 0..40),
        loss in 0_u32..40,
        seed: [u8; 32],
    ) {
        let mut world = World::new(&priorities, networks, preempt, loss, seed);
        for (fault, pause) in faults {
            world.inject(fault);
            let end = world.now + pause;
            world.run_until(end);
        }
        world.heal();
        let end = world.now + SETTLE_TIME;
        world.run_until(end);
        let masters: Vec<_> = (0..networks).map(|network| world.masters(network)).collect();
        prop_assert!(world.is_settled(), "masters: {masters:?}");
    }

    #[test]
    fn without_faults_there_is_one_master_and_a_crash_is_repaired_in_time(
        priorities in priorities(),
        networks in 1_usize..4,
        seed: [u8; 32],
    ) {
        let mut world = World::new(&priorities, networks, true, 0, seed);
        world.is_calm = true;
        let end = world.now + 8 * INTERVAL;
        world.run_until(end);
        prop_assert!(world.is_settled());
        let first = world.masters(0);
        let promotions = world.promotions;
        for _ in 0..100 {
            let end = world.now + INTERVAL / 3;
            world.run_until(end);
            prop_assert_eq!(&world.masters(0), &first);
        }
        prop_assert_eq!(world.promotions, promotions, "no other node became master");
        // The master dies, and the next one takes over within the down interval.
        world.inject(Fault::Crash(first[0]));
        // Two nodes with the same priority may both take over. They then hear each other.
        let end = world.now + 5 * INTERVAL;
        world.run_until(end);
        prop_assert!(world.is_settled(), "masters: {:?}", world.masters(0));
    }

    #[test]
    fn a_stalled_backup_changes_nothing(
        priorities in priorities(),
        networks in 1_usize..4,
        stalls in prop::collection::vec((0_usize..5, 0..60 * INTERVAL), 1..10),
        seed: [u8; 32],
    ) {
        let mut world = World::new(&priorities, networks, true, 0, seed);
        world.is_calm = true;
        let end = world.now + 8 * INTERVAL;
        world.run_until(end);
        let (masters, promotions) = (world.masters(0), world.promotions);
        for (index, length) in stalls {
            if index % priorities.len() != masters[0] {
                world.inject(Fault::Stall(index, length));
            }
            let end = world.now + length / 2;
            world.run_until(end);
        }
        let end = world.now + 70 * INTERVAL;
        world.run_until(end);
        prop_assert_eq!(world.promotions, promotions);
        prop_assert_eq!(world.masters(0), masters);
    }

    #[test]
    fn an_orphan_keeps_its_addresses_until_its_controller_returns_or_its_lease_expires(
        priorities in priorities(),
        networks in 1_usize..4,
        returns in 0_u64..20,
        is_parted: bool,
        seed: [u8; 32],
    ) {
        let mut world = World::new(&priorities, networks, true, 0, seed);
        world.is_calm = true;
        let end = world.now + 8 * INTERVAL;
        world.run_until(end);
        let (master, promotions) = (world.masters(0)[0], world.promotions);
        world.inject(Fault::Orphan(master));
        // A reply in one network of the group is enough.
        let parted = networks - 1;
        if is_parted && networks > 1 {
            world.inject(Fault::Partition(master, parted, 1));
        }
        let died = world.now;
        let back = died + returns * INTERVAL;
        let mut was_owned = died;
        let mut is_back = false;
        while world.now < died + SETTLE_TIME {
            if world.now >= back && !is_back {
                is_back = true;
                world.inject(Fault::Partition(master, parted, 0));
                world.inject(Fault::Restart(master));
            }
            for network in 0..networks {
                let owners = (0..priorities.len()).filter(|node| world.nodes[*node].routers[network].answers(world.now));
                prop_assert!(owners.count() <= 1 || world.now - was_owned < 5 * INTERVAL, "two owners for too long");
            }
            if (0..priorities.len()).filter(|node| world.nodes[*node].routers[0].answers(world.now)).count() == 1 {
                was_owned = world.now;
            }
            prop_assert!(world.now - was_owned < 5 * INTERVAL, "no owner for too long");
            let end = world.now + INTERVAL / 7;
            world.run_until(end);
        }
        if back + 2 * INTERVAL < died + GRACE {
            prop_assert_eq!(world.masters(0), vec![master], "the orphan stays master");
            prop_assert_eq!(world.promotions, promotions + networks, "only the orphan became master, again");
        }
        prop_assert!(world.is_settled());
    }
}
