//! The steps in the virtual machine: load the program, then run tests of the project unchanged.

/// A program of tests.
pub(super) struct Tests {
    /// The area: the name of its folder below `tests/tests`.
    pub(super) program: &'static str,
    /// Tests whose names contain one of these run.
    pub(super) chosen: &'static [&'static str],
}

/// Loads the program and prints what the kernel says about it.
pub(super) const LOAD: &str = "load";
/// The binary that does.
pub(super) const LOADER: &str = "smoke";

/// In the order in which they run. Packets are slow without virtualisation, so that few tests with
/// traffic are chosen: one for each path through the program, and those of the set-up of workers.
pub(super) const TESTS: &[Tests] = &[
    Tests {
        program: "packets",
        chosen: &[
            "forwarding::",
            "edge_cases::",
            "bucket_spills::",
            "flow_entries::",
            "worker_signals::",
            "virtual_routers::",
        ],
    },
    Tests {
        program: "traffic",
        chosen: &[
            "udp_flows_are_spread",
            "keep_alive_connections_stay",
            "a_client_behind_a_router_is_served",
            "the_generic_mode_balances_too",
            "worker_setup::",
        ],
    },
];

/// Where programs of the project lie in the machine; `init.sh` names the folder, too.
pub(super) const FOLDER: &str = "lbd";

/// What a kernel has to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// Whether tests run after the program was loaded.
    pub(super) tests: bool,
    /// Whether the kernel has to refuse the program.
    pub(super) refuses: bool,
}

impl Plan {
    fn programs(self) -> &'static [Tests] {
        if self.tests { TESTS } else { &[] }
    }

    /// The part of the machine's init that runs the steps.
    pub(super) fn script(self) -> String {
        let mut script = format!("step {LOAD} /{FOLDER}/{LOADER}\n");
        for Tests { program, chosen } in self.programs() {
            script += &format!(
                "step {program} /{FOLDER}/{program} --test-threads=1 {}\n",
                chosen.join(" ")
            );
        }
        script
    }

    /// The names of the steps.
    pub(super) fn names(self) -> impl Iterator<Item = &'static str> {
        std::iter::once(LOAD).chain(self.programs().iter().map(|tests| tests.program))
    }
}
