//! The XDP program over maps of its own, one packet at a time.

#![allow(
    clippy::missing_panics_doc,
    reason = "part of tests: whatever is not as expected panics with what was found"
)]

use std::net::IpAddr;

use aya::{
    maps::{HashMap, Map, MapData},
    programs::Xdp,
};
use lb_common::{Backend, BackendState, Outcome, ServiceState};
use lb_core::{
    config::{Capacity, PacketLog},
    reconcile::{self, Desired, desired::DesiredService},
};
use lb_userspace::dataplane::{self, Access, Pins, Routers, Tables, flows::FlowEntry};

use crate::{
    bpffs::Bpffs,
    fixture,
    packet::Packet,
    testrun::{self, DROP, PASS, Run, TRANSMIT},
};

/// The program over maps of its own.
pub struct Program {
    /// The maps.
    pub tables: Tables,
    object: aya::Ebpf,
    pins: Pins,
    /// The counts of outcomes after the last packet.
    counts: Vec<(Outcome, u64)>,
    _bpffs: Bpffs,
}

impl Program {
    /// Loads the program, and brings the maps to these services.
    pub fn new(capacity: Capacity, services: Vec<DesiredService>) -> Self {
        let bpffs = Bpffs::mount().unwrap();
        let pins = Pins::new(bpffs.path(), "tables");
        pins.prepare().unwrap();
        let object = dataplane::load(&pins, &capacity, fixture::NAT_PORTS, PacketLog::Off)
            .unwrap()
            .into_object();
        let tables = Tables::open(&pins, Access::Write).unwrap();
        let counts = tables.outcomes().unwrap();
        let mut program = Self {
            tables,
            object,
            pins,
            counts,
            _bpffs: bpffs,
        };
        program.desire(services);
        program
    }

    /// With tables for about a thousand entries.
    pub fn with(services: Vec<DesiredService>) -> Self {
        Self::new(
            Capacity {
                flows_v4: 1024,
                flows_v6: 1024,
                ..Capacity::default()
            },
            services,
        )
    }

    /// Brings the maps to these services.
    pub fn desire(&mut self, services: Vec<DesiredService>) {
        let plan = reconcile::plan(
            &Desired {
                services,
                ..Desired::default()
            },
            &reconcile::observe(&self.tables).unwrap(),
        );
        assert_eq!(plan.problems, Vec::<String>::new());
        reconcile::apply(&plan, &mut self.tables).unwrap();
    }

    /// Replaces all services by these, without flows of the former ones. To load the program again
    /// would take a second.
    pub fn serve(&mut self, services: Vec<DesiredService>) {
        self.desire(Vec::new());
        self.desire(services);
        self.forget();
    }

    /// Sends a frame; returns what comes out, and the names of the outcomes that were counted.
    pub fn run_bytes(&mut self, frame: &[u8]) -> (Run, Vec<&'static str>) {
        let program: &Xdp = (&*self.object.program_mut("lb_xdp").unwrap()).try_into().unwrap();
        let run = testrun::run(program.fd().unwrap(), frame, 1).unwrap();
        let after = self.tables.outcomes().unwrap();
        let before = std::mem::replace(&mut self.counts, after);
        let risen = before.iter().zip(&self.counts).flat_map(|((outcome, old), (_, new))| {
            std::iter::repeat_n(outcome.name(), usize::try_from(new - old).unwrap())
        });
        (run, risen.collect())
    }

    /// Sends a packet; it must end as `outcome`, with that outcome's action. Returns the frame that
    /// comes out.
    pub fn send(&mut self, packet: &Packet, outcome: Outcome) -> Vec<u8> {
        let (run, outcomes) = self.run_bytes(&packet.bytes());
        assert_eq!(outcomes, [outcome.name()], "{packet:?}");
        let action = match outcome.action() {
            lb_common::Action::Pass => PASS,
            lb_common::Action::Drop => DROP,
            _ => TRANSMIT,
        };
        assert_eq!(run.action, action, "{packet:?}");
        run.bytes
    }

    /// Sends a packet that is forwarded; returns it as it comes out. Parsing checks lengths and
    /// checksums.
    pub fn forward(&mut self, packet: &Packet) -> Packet {
        let out = Packet::parse(&self.send(packet, Outcome::Forwarded)).unwrap();
        assert_eq!(out.ttl, packet.ttl - 1);
        assert_eq!((out.transport, &out.payload), (packet.transport, &packet.payload));
        out
    }

    /// What it knows of virtual routers.
    pub fn routers(&self) -> Routers {
        Routers::open(&self.pins, Access::Write).unwrap()
    }

    /// Ends all flows, forgets the fragments that came, and lets every service begin its turn anew.
    pub fn forget(&mut self) {
        self.tables.clear_flows();
        for index in 0..self.tables.service_states.len() {
            self.tables.service_states.replace(index, &ServiceState::ZERO);
        }
        forget_fragments::<16>(self.object.map_mut("FRAGMENTS_V4").unwrap());
        forget_fragments::<40>(self.object.map_mut("FRAGMENTS_V6").unwrap());
    }

    /// All entries of the flow table.
    pub fn flows(&self) -> Vec<FlowEntry> {
        let mut flows = Vec::new();
        self.tables.for_each_flow(|flow| flows.push(flow));
        flows
    }

    /// Embryonic and active flows of all backends.
    pub fn load(&self) -> (u32, u32) {
        let in_use = |index: &u32| {
            let backend = self.tables.backends.read(*index);
            backend.is_some_and(|backend| backend.status.state() != BackendState::Free)
        };
        let loads = (0..8).filter(in_use).filter_map(|index| self.tables.loads.read(index));
        loads.fold((0, 0), |sum, load| (sum.0 + load.embryonic, sum.1 + load.active))
    }
}

/// Empties a map of fragments, whose keys have `N` bytes.
fn forget_fragments<const N: usize>(map: &mut Map) {
    let mut map: HashMap<&mut MapData, [u8; N], [u8; 8]> = HashMap::try_from(map).unwrap();
    let keys: Vec<[u8; N]> = map.keys().map(|key| key.unwrap()).collect();
    for key in keys {
        map.remove(&key).unwrap();
    }
}

/// The address of a backend: the far end in a tunnel mode.
pub fn address(backend: &Backend) -> IpAddr {
    let bytes = backend.address.map(u32::to_ne_bytes).concat();
    if backend.status.family() == 6 {
        IpAddr::from(<[u8; 16]>::try_from(bytes).unwrap())
    } else {
        IpAddr::from(<[u8; 4]>::try_from(&bytes[..4]).unwrap())
    }
}
