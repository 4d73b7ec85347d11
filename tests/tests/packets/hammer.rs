//! The flow table under packets from two CPUs at once: no flow twice, every number exact.

use std::{collections::HashMap, thread, time::Duration};

use aya::programs::Xdp;
use harness::{
    bpffs::Bpffs,
    fixture::{self, NAT_PORTS, TCP, UDP},
    hammer::{self, Crowd, WORKERS},
};
use lb_common::{Event, Mode, flow::Tally};
use lb_core::{
    config::{Capacity, PacketLog, Timeouts},
    reconcile::{self, Desired},
};
use lb_userspace::{
    daemon::flows::sweep::Sweeper,
    dataplane::{self, Access, Pins, Tables, flows::FlowEntry},
};

/// The program over maps of its own.
struct Program {
    tables: Tables,
    object: aya::Ebpf,
    _bpffs: Bpffs,
}

impl Program {
    fn new(flows: u32) -> Self {
        let bpffs = Bpffs::mount().unwrap();
        let pins = Pins::new(bpffs.path(), "tables");
        pins.prepare().unwrap();
        let capacity = Capacity {
            flows_v4: flows,
            flows_v6: flows,
            ..Capacity::default()
        };
        let object = dataplane::load(&pins, &capacity, NAT_PORTS, PacketLog::Off)
            .unwrap()
            .into_object();
        let mut tables = Tables::open(&pins, Access::Write).unwrap();
        let kinds = Mode::ALL.into_iter().flat_map(|mode| {
            [
                (mode, false, TCP),
                (mode, false, UDP),
                (mode, true, TCP),
                (mode, true, UDP),
            ]
        });
        let services = kinds.map(|(mode, v6, protocol)| fixture::service(mode, v6, protocol, 1..=WORKERS));
        let desired = Desired {
            services: services.collect(),
            ..Desired::default()
        };
        let plan = reconcile::plan(&desired, &reconcile::observe(&tables).unwrap());
        reconcile::apply(&plan, &mut tables).unwrap();
        Self {
            tables,
            object,
            _bpffs: bpffs,
        }
    }

    fn run(&self, crowd: Crowd, packets: u64, seed: u64) {
        let program: &Xdp = self.object.program("lb_xdp").unwrap().try_into().unwrap();
        let fd = std::os::fd::AsFd::as_fd(program.fd().unwrap());
        hammer::run(fd, crowd, packets, seed).unwrap();
    }

    fn flows(&self) -> Vec<FlowEntry> {
        let mut flows = Vec::new();
        self.tables.for_each_flow(|flow| flows.push(flow));
        flows
    }

    fn sweep(&self, sweeper: &mut Sweeper) {
        sweeper.sweep(&self.tables, |_| Timeouts::default(), |_, _| {}).unwrap();
    }

    fn count(&self, event: Event) -> u64 {
        let events = self.tables.events().unwrap();
        events
            .iter()
            .filter(|(one, _)| *one == event)
            .map(|(_, count)| count)
            .sum()
    }

    /// How many entries of modes that translate have no entry of the other direction.
    fn unpaired(&self, to_worker: bool) -> usize {
        let flows = self.flows().into_iter();
        let these = flows.filter(|flow| flow.mode.translates() && flow.to_worker == to_worker);
        these.filter(|flow| self.tables.other_direction(flow).is_none()).count()
    }

    /// Numbers of embryonic and active flows of each backend, and of the flows of each service,
    /// that are not what the table holds: what it is, what it should be.
    fn wrong_numbers(&self) -> Vec<String> {
        let mut backends: HashMap<u32, (u32, u32)> = HashMap::new();
        let mut services: HashMap<u32, u32> = HashMap::new();
        for flow in self.flows().iter().filter(|flow| flow.to_worker) {
            let (embryonic, active) = backends.entry(flow.backend).or_default();
            match flow.phase.tally() {
                Tally::Embryonic => *embryonic += 1,
                Tally::Active => *active += 1,
                Tally::None => continue,
            }
            *services.entry(flow.service).or_default() += 1;
        }
        let mut wrong = Vec::new();
        for index in 0..self.tables.loads.len() {
            let load = self.tables.loads.read(index).unwrap();
            let (is, should) = (
                (load.embryonic, load.active),
                backends.get(&index).copied().unwrap_or_default(),
            );
            if is != should {
                wrong.push(format!("backend {index}: {is:?} instead of {should:?}"));
            }
        }
        for index in 0..self.tables.service_states.len() {
            let is = self.tables.service_states.read(index).unwrap().flows;
            let should = services.get(&index).copied().unwrap_or_default();
            if is != should {
                wrong.push(format!("service {index}: {is} instead of {should}"));
            }
        }
        wrong
    }
}

/// Pairs of entries for the same 5-tuple.
fn doubles(flows: &[FlowEntry]) -> Vec<[FlowEntry; 2]> {
    let mut seen = HashMap::new();
    flows
        .iter()
        .filter_map(|flow| seen.insert(flow.key, *flow).map(|other| [other, *flow]))
        .collect()
}

/// How many walks compare every entry of the answers' direction once with its flow.
const WALKS: usize = 16;

/// Packets that meet may leave an entry of the answers' direction without its flow; a walk finds it
/// later.
#[test]
fn packets_from_two_cpus_leave_no_flow_twice_and_exact_numbers() {
    let crowd = |clients, ports| Crowd { clients, ports };
    let given = [
        ("capacity for all", 4096, crowd(8, 4), 1),
        ("hardly enough capacity", 64, crowd(8, 4), 2),
        ("far too little capacity", 16, crowd(16, 8), 3),
    ];
    for (name, capacity, crowd, seed) in given {
        let program = Program::new(capacity);
        program.run(crowd, 35_000, seed);
        let flows = program.flows();
        assert!(doubles(&flows).is_empty(), "{name}: {:#?}", doubles(&flows));
        let wrong = program.wrong_numbers();
        println!(
            "{name}: {} entries, {} flows begun, {} flows without answers, {} answers without a flow; {wrong:?}",
            flows.len(),
            program.count(Event::FlowBegun),
            program.unpaired(true),
            program.unpaired(false),
        );
        assert_eq!(wrong, [] as [String; 0], "{name}");
        assert_eq!(program.unpaired(true), 0, "{name}: flows whose answers find nothing");
        let mut sweeper = Sweeper::default();
        program.sweep(&mut sweeper);
        program.sweep(&mut sweeper);
        assert_eq!(program.wrong_numbers(), [] as [String; 0], "{name}");
        if program.unpaired(false) > 0 {
            thread::sleep(Duration::from_secs(6));
            (0..WALKS).for_each(|_| program.sweep(&mut sweeper));
            assert_eq!(program.unpaired(false), 0, "{name}");
        }
    }
}

/// Retransmitted SYNs go to another worker while others of their flow, and answers, come on the
/// other CPU.
#[test]
fn flows_that_go_to_another_worker_under_two_cpus_leave_exact_numbers() {
    let program = Program::new(4096);
    let crowd = Crowd { clients: 8, ports: 4 };
    for burst in 0..30 {
        program.run(crowd, 3000, 100 + burst);
        thread::sleep(Duration::from_millis(400));
    }
    let rescheduled = program.count(Event::Rescheduled);
    println!("{rescheduled} rescheduled");
    assert!(rescheduled > 10, "{rescheduled}");
    assert!(doubles(&program.flows()).is_empty());
    assert_eq!(program.wrong_numbers(), [] as [String; 0]);
    assert_eq!(program.unpaired(true), 0, "flows whose answers find nothing");
}
