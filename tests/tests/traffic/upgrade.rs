//! Deaths, restarts and upgrades of the controller under traffic that notices everything.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, SystemTime},
};

use harness::{
    bpffs::Bpffs,
    client::Load,
    config::{Config, PATIENT_CHECK, Service},
    fixture,
    forwarding::Forwarding,
    lab::{Lab, virtual_addresses},
    lbd::{self, Lbd},
    tools,
    topology::Host,
    wait::{PATIENCE, eventually},
    witness::Witness,
    worker::Worker,
};
use lb_core::config::{Capacity, PacketLog};
use lb_userspace::dataplane::{self, Pins};
use serde_json::Value;

/// A node with the checked service `web` on the IPv4 address of the balancer.
fn web(lab: &Lab) -> Config {
    let [v4, _] = virtual_addresses(0);
    Config::new(lab, "one").with(Service::http(lab, "web", v4).health(PATIENT_CHECK))
}

/// Numbers that differ from run to run; the first one is printed.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let seed = seed.as_nanos() as u64 | 1;
        eprintln!("seed {seed}");
        Self(seed)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// The folder of what is pinned for the node and the layout of the maps.
fn pins(lab: &Lab, lbd: &Lbd<'_>) -> PathBuf {
    let version = lbd.lbctl(&["node", "status"]).unwrap()["map_abi"].as_u64().unwrap();
    lab.bpffs().join(format!("lbd/one/v{version}"))
}

fn bpftool(arguments: &[&str]) -> Value {
    let mut command = std::process::Command::new(tools::find("bpftool").expect("bpftool is installed"));
    let output = tools::output(command.arg("--json").args(arguments)).unwrap();
    serde_json::from_str(&output).unwrap()
}

/// What the kernel says of the programs that work: the first half, and the second one of IPv4.
fn halves(pins: &Path) -> [Value; 2] {
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let first = bpftool(&["prog", "show", "pinned", &text(&pins.join("program"))]);
    let second = slow_halves(&pins.join("maps/PROGRAMS"))[0];
    [first, bpftool(&["prog", "show", "id", &second.to_string()])]
}

/// The numbers of the programs in a pinned map of them.
fn slow_halves(pin: &Path) -> Vec<u32> {
    let map = bpftool(&["map", "dump", "pinned", pin.to_str().unwrap()]);
    let number = |entry: &Value| {
        // As bytes in hexadecimal.
        let bytes = entry["value"].as_array()?.iter();
        let bytes = bytes.map(|byte| u8::from_str_radix(byte.as_str()?.trim_start_matches("0x"), 16).ok());
        Some(u32::from_ne_bytes(bytes.collect::<Option<Vec<_>>>()?.try_into().ok()?))
    };
    map.as_array().unwrap().iter().filter_map(number).collect()
}

#[test]
fn a_program_keeps_its_own_slow_halves_until_no_link_runs_it() {
    let bpffs = Bpffs::mount().unwrap();
    let pins = Pins::new(bpffs.path(), "halves");
    pins.prepare().unwrap();
    let load = || dataplane::load(&pins, &Capacity::default(), fixture::NAT_PORTS, PacketLog::Off).unwrap();
    let folder = pins.maps();
    let (map, former) = (folder.join("PROGRAMS"), folder.with_file_name("former"));
    // As of processes that die: nothing of them is left but pins.
    drop(load());
    let first = slow_halves(&map);
    assert_eq!(first.len(), 3);
    drop(load());
    let second = slow_halves(&map);
    assert!(first.iter().all(|half| !second.contains(half)), "{first:?} {second:?}");
    assert_eq!(slow_halves(&former.join("PROGRAMS-0")), first);
    drop(load());
    assert_eq!(slow_halves(&former.join("PROGRAMS-0")), first);
    assert_eq!(slow_halves(&former.join("PROGRAMS-1")), second);
    let third = slow_halves(&map);
    pins.release_former().unwrap();
    assert!(!former.exists());
    assert_eq!(slow_halves(&map), third);
}

/// What packets end in that are not forwarded at once, though they are a client's or its worker's.
const LOST: [&str; 12] = [
    "punted",
    "punt_full",
    "reset_no_flow",
    "reset_backend_down",
    "reset_no_backend",
    "no_backend",
    "stray_reset",
    "nat_ports_exhausted",
    "flow_table_full",
    "claim_raced",
    "no_next_hop",
    "inconsistent",
];

/// How many packets ended in each of [`LOST`], since the maps were made.
fn lost(lbd: &Lbd<'_>) -> Vec<(&'static str, u64)> {
    let outcomes = lbd.lbctl(&["node", "status"]).unwrap()["outcomes"].clone();
    LOST.iter()
        .map(|name| (*name, outcomes[*name].as_u64().unwrap()))
        .collect()
}

/// How many segments the host had to send again.
fn repeated(host: &Host) -> u64 {
    let text = host.run_script("cat /proc/net/snmp").unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("Tcp:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let at = names.split(' ').position(|name| name == "RetransSegs").unwrap();
    values.split(' ').nth(at).unwrap().parse().unwrap()
}

/// How long a start takes at most while it is killed at random, in milliseconds.
const LIFE: u64 = 700;

#[test]
fn fifty_deaths_at_random_instants_cost_nothing() {
    let lab = Lab::new().unwrap();
    let _workers = Worker::all(&lab);
    let mut lbd = Lbd::start(&lab.balancers[0], web(&lab)).unwrap();
    lbd.await_all_up("web");
    let witness = Witness::of(&lab);
    let before = lost(&lbd);
    let hosts = || [&lab.client, &lab.workers[0], &lab.workers[1]].map(repeated);
    let repeated_before = hosts();
    let mut random = Random::new();
    for _ in 0..50 {
        lbd.kill9().unwrap();
        lbd.begin().unwrap();
        thread::sleep(Duration::from_millis(random.below(LIFE)));
    }
    lbd.kill9().unwrap();
    assert!(witness.is_flowing(), "traffic ends with the last death");
    lbd.restart().unwrap();
    lbd.await_all_up("web");
    let status = lbd.lbctl(&["node", "status"]).unwrap();
    assert_eq!(status["warnings"].as_array().unwrap().len(), 0, "{status}");
    assert!(
        !pins(&lab, &lbd).join("former").exists(),
        "nothing is left of former programs"
    );
    assert_eq!(lost(&lbd), before, "no packet is lost");
    // A busy machine makes TCP repeat segments that are not lost, so that these are only printed.
    eprintln!(
        "segments repeated by client and workers: {repeated_before:?} before, {:?} after",
        hosts()
    );
    witness.assert_flawless("50 deaths");
}

#[test]
fn upgrades_to_another_build_and_back_cost_nothing() {
    let lab = Lab::new().unwrap();
    let _workers = Worker::all(&lab);
    let mut lbd = Lbd::start(&lab.balancers[0], web(&lab)).unwrap();
    lbd.await_all_up("web");
    let pins = pins(&lab, &lbd);
    let this = lbd::binary("lbd").unwrap();
    // Another program in user space is another file; another one in the kernel is one that logs,
    // whose instructions differ.
    let other = lab.directory().join("lbd-other");
    let mut bytes = fs::read(&this).unwrap();
    bytes.extend_from_slice(b"another build");
    fs::write(&other, bytes).unwrap();
    fs::set_permissions(&other, fs::metadata(&this).unwrap().permissions()).unwrap();

    let witness = Witness::of(&lab);
    let lost_before = lost(&lbd);
    let mut before = halves(&pins);
    for turn in 0..6 {
        let is_other = turn % 2 == 0;
        lbd.upgrade(if is_other { other.clone() } else { this.clone() });
        let log = if is_other { "debug" } else { "off" };
        lbd.reconfigure(|config| config.node_keys = format!("packet_log = \"{log}\"\n"))
            .unwrap();
        if turn < 3 {
            lbd.terminate().unwrap();
        } else {
            lbd.kill9().unwrap();
        }
        lbd.restart().unwrap();
        let after = halves(&pins);
        assert_ne!(after[0]["id"], before[0]["id"]);
        assert_ne!(
            after[1]["bytes_xlated"], before[1]["bytes_xlated"],
            "the programs differ"
        );
        before = after;
        assert!(witness.is_flowing(), "after upgrade {turn}");
    }
    assert_eq!(lost(&lbd), lost_before, "no packet is lost");
    witness.assert_flawless("6 upgrades");
}

#[test]
fn maps_of_another_layout_are_refused_with_instructions_and_replaced_in_one_step_when_asked() {
    let (lab, _tunnels) = Forwarding::Dsr.lab().unwrap();
    let _workers = Worker::all(&lab);
    let [v4, _] = virtual_addresses(0);
    // Of this mode and scheduler the flows are not lost with the maps.
    let service = Service::http(&lab, "web", v4).mode("dsr").scheduler("maglev");
    let mut lbd = Lbd::start(&lab.balancers[0], Config::new(&lab, "one").with(service)).unwrap();
    lbd.await_all_up("web");
    let own = pins(&lab, &lbd);
    let witness = Witness::of(&lab);
    lbd.terminate().unwrap();
    let others = own.with_file_name("v1");
    fs::rename(&own, &others).unwrap();

    let (status, log) = lbd::run_to_end(&lab.balancers[0], lbd.config(), PATIENCE).unwrap();
    assert!(!status.success(), "{log}");
    for word in ["eth0", "v1", "--replace-maps", "Nothing was changed"] {
        assert!(log.contains(word), "no {word:?} in: {log}");
    }
    assert!(!own.exists() && others.exists(), "nothing was changed");
    assert!(witness.is_flowing(), "the other version continues to forward");

    lbd.restart_with(&["--replace-maps"]).unwrap();
    lbd.await_all_up("web");
    assert!(own.exists() && !others.exists(), "the other version's maps are gone");
    assert!(witness.is_flowing(), "this version continues to forward");
    lbd.terminate().unwrap();
    lbd.restart().expect("the next start needs no word");
    witness.assert_flawless("another layout of the maps");
}

/// Makes what is pinned look as a program of a former layout left it, with its maps.
fn as_layout(own: &Path, version: u32) -> PathBuf {
    let former = own.with_file_name(format!("v{version}"));
    fs::rename(own, &former).unwrap();
    let missing: &[&str] = match version {
        2 => &["BACKEND_SIGNALS", "SPILLS_V4", "SPILLS_V6"],
        _ => &["BACKEND_SIGNALS"],
    };
    for map in missing {
        fs::remove_file(former.join("maps").join(map)).unwrap();
    }
    former
}

#[test]
fn flows_of_a_known_layout_are_taken_over_also_where_that_is_cut_short() {
    let lab = Lab::new().unwrap();
    let _workers = Worker::all(&lab);
    let mut lbd = Lbd::start(&lab.balancers[0], web(&lab)).unwrap();
    lbd.await_all_up("web");
    let own = pins(&lab, &lbd);
    let witness = Witness::of(&lab);
    lbd.terminate().unwrap();
    as_layout(&own, 2);
    assert!(witness.is_flowing(), "the other version continues to forward");
    // Where a map is not as that layout has it, nothing is touched.
    let backends = own.with_file_name("v2").join("maps/BACKENDS");
    let aside = own.with_file_name("v2").join("BACKENDS");
    fs::rename(&backends, &aside).unwrap();
    let (status, log) = lbd::run_to_end(&lab.balancers[0], lbd.config(), PATIENCE).unwrap();
    assert!(!status.success() && log.contains("BACKENDS"), "{log}");
    assert!(witness.is_flowing(), "the other version continues to forward");
    fs::rename(&aside, &backends).unwrap();

    for death in 0..20 {
        lbd.begin().unwrap();
        std::thread::sleep(Duration::from_millis(25 * death));
        lbd.kill9().unwrap();
    }
    lbd.restart().unwrap();
    lbd.await_all_up("web");
    assert!(own.exists() && !own.with_file_name("v2").exists());
    assert!(witness.is_flowing(), "this version continues to forward");

    // Without a death, which is an event; of layout 2 also without a pinned program.
    for version in [2, 3] {
        lbd.terminate().unwrap();
        let former = as_layout(&own, version);
        if version == 2 {
            fs::remove_file(former.join("program")).unwrap();
        }
        lbd.restart().unwrap();
        let events = lbd.lbctl(&["event", "list"]).unwrap().to_string();
        assert!(events.contains("maps-migrated"), "{events}");
        lbd.await_all_up("web");
        assert!(witness.is_flowing(), "this version continues to forward");
    }
    witness.assert_flawless("maps of former layouts");
}

#[test]
fn maps_that_are_pinned_no_more_are_noticed() {
    let lab = Lab::new().unwrap();
    let _workers = Worker::all(&lab);
    let mut lbd = Lbd::start(&lab.balancers[0], web(&lab)).unwrap();
    lbd.await_all_up("web");
    let own = pins(&lab, &lbd);
    lbd.kill9().unwrap();
    fs::remove_dir_all(&own).unwrap();
    let (status, log) = lbd::run_to_end(&lab.balancers[0], lbd.config(), PATIENCE).unwrap();
    assert!(!status.success() && log.contains("--replace-maps"), "{log}");
    lbd.restart_with(&["--replace-maps"]).unwrap();
    lbd.await_all_up("web");
    let [v4, _] = virtual_addresses(0);
    Load::new((v4, 80).into()).run(&lab.client.namespace).assert_flawless();
}

#[test]
fn sizes_stay_while_flows_are_kept_and_change_when_asked_or_when_nothing_is_attached() {
    let lab = Lab::new().unwrap();
    let _workers = Worker::all(&lab);
    let mut lbd = Lbd::start(&lab.balancers[0], web(&lab)).unwrap();
    lbd.await_all_up("web");
    let backends = |lbd: &Lbd<'_>| {
        let maps = lbd.lbctl(&["map", "list"]).unwrap();
        let map = maps.as_array().unwrap().iter().find(|map| map["name"] == "BACKENDS");
        map.unwrap()["capacity"].as_u64().unwrap()
    };
    let before = backends(&lbd);
    let ask_for = |lbd: &mut Lbd<'_>, number: u64| {
        lbd.reconfigure(|config| config.node_keys = format!("[node.capacity]\nbackends = {number}\n"))
            .unwrap();
    };
    let witness = Witness::of(&lab);
    ask_for(&mut lbd, 1000);
    lbd.terminate().unwrap();
    lbd.restart().unwrap();
    assert_eq!(backends(&lbd), before);
    let warnings = lbd.lbctl(&["node", "status"]).unwrap()["warnings"].to_string();
    for word in ["BACKENDS", "keeps", "1000", "--replace-maps"] {
        assert!(warnings.contains(word), "no {word:?} in {warnings}");
    }
    witness.assert_flawless("another size that is not taken");

    lbd.terminate().unwrap();
    lbd.restart_with(&["--replace-maps"]).unwrap();
    assert_eq!(backends(&lbd), 1000);
    lbd.await_all_up("web");
    let [v4, _] = virtual_addresses(0);
    Load::new((v4, 80).into()).run(&lab.client.namespace).assert_flawless();

    lbd.terminate().unwrap();
    lbd.detach().unwrap();
    ask_for(&mut lbd, 2000);
    lbd.restart().unwrap();
    assert_eq!(backends(&lbd), 2000);
}

#[test]
fn ten_thousand_services_start_change_and_die_without_cost() {
    const COUNT: u32 = 10_000;
    let lab = Lab::new().unwrap();
    let _workers = Worker::all(&lab);
    let mut config = web(&lab);
    config.node_keys = "[node.capacity]\nservices = 16384\nbackends = 32768\n".into();
    for index in 0..COUNT {
        let address = std::net::Ipv4Addr::from(0x0a50_0000 + index).into();
        config = config.with(Service::http(&lab, &format!("s{index}"), address));
    }
    let mut lbd = Lbd::start(&lab.balancers[0], config).unwrap();
    lbd.await_all_up("web");
    let witness = Witness::of(&lab);
    lbd.kill9().unwrap();
    lbd.restart().unwrap();
    assert!(witness.is_flowing(), "after a death");
    lbd.terminate().unwrap();
    lbd.reconfigure(|config| {
        for service in config.services.iter_mut().skip(1).step_by(100) {
            service.backends.pop();
        }
    })
    .unwrap();
    lbd.restart().unwrap();
    eventually(PATIENCE, "the change has arrived", || {
        let services = lbd.lbctl(&["service", "list"]).unwrap();
        let one = services
            .as_array()
            .unwrap()
            .iter()
            .find(|service| service["name"] == "s0");
        one.unwrap()["backends_total"] == 1
    });
    let status = lbd.lbctl(&["node", "status"]).unwrap();
    assert_eq!(status["reconcile"]["last_error"], Value::Null, "{status}");
    witness.assert_flawless("10,001 services");
}
