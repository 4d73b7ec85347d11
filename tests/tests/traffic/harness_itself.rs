//! The harness itself: before it tests the balancer, it proves that what it builds works and
//! goes away.

use std::{
    io::Read as _,
    net::{IpAddr, SocketAddr, TcpStream},
    process::{self, Command},
    time::Duration,
};

use harness::{
    bpffs,
    client::{Load, fetch},
    content::{self, Hash},
    lab::{Lab, Plan, virtual_addresses},
    netns::{self, Namespace},
    process::Process,
    tools,
    udp::{self, UdpEcho},
    wait::{PATIENCE, eventually},
    worker::{Worker, upload_digest},
    xdp_pass::PassProgram,
};
use hyper::{Method, body::Bytes};

#[test]
fn a_client_is_served_by_the_worker_it_asks_over_both_families() {
    let lab = Lab::new().unwrap();
    let workers: Vec<_> = lab
        .workers
        .iter()
        .map(|host| Worker::start(host, 80).unwrap())
        .collect();
    for (host, worker) in lab.workers.iter().zip(&workers) {
        for address in [host.v4(), host.v6()] {
            let report = Load::new(SocketAddr::new(address, 80))
                .requests(20)
                .run(&lab.client.namespace);
            report.assert_flawless();
            assert_eq!((report.of(worker.name()), report.connections), (20, 20), "{address}");
        }
    }
}

#[test]
fn keep_alive_clients_stay_on_one_connection_each() {
    let lab = Lab::new().unwrap();
    let worker = Worker::start(&lab.workers[0], 80).unwrap();
    let target = SocketAddr::new(lab.workers[0].v4(), 80);
    let report = Load::new(target)
        .requests(200)
        .concurrency(4)
        .keep_alive()
        .run(&lab.client.namespace);
    report.assert_flawless();
    assert_eq!(
        (report.answered(), report.connections, worker.connections()),
        (200, 4, 4)
    );
}

#[test]
fn large_transfers_arrive_whole_in_both_directions() {
    let lab = Lab::new().unwrap();
    let _worker = Worker::start(&lab.workers[0], 80).unwrap();
    let target = SocketAddr::new(lab.workers[0].v6(), 80);
    let ask = |method, path: &str, body: Bytes| fetch(&lab.client.namespace, target, method, path, body, PATIENCE);
    let download = ask(Method::GET, "/bytes/3000000", Bytes::new()).unwrap();
    assert!(download.body == content::bytes(3_000_000));
    let upload = ask(Method::POST, "/upload", content::bytes(2_000_000)).unwrap();
    assert_eq!(
        upload.body,
        upload_digest(2_000_000, Hash::of(&content::bytes(2_000_000)))
    );
}

#[test]
fn udp_echoes_say_who_answered() {
    let lab = Lab::new().unwrap();
    let _echo = UdpEcho::start(&lab.workers[1], 5353).unwrap();
    for address in [lab.workers[1].v4(), lab.workers[1].v6()] {
        let target = SocketAddr::new(address, 5353);
        let report = udp::ask(&lab.client.namespace, target, 5, b"payload", Duration::from_secs(5));
        assert_eq!(report.failures, Vec::<String>::new());
        assert_eq!(report.per_worker["worker-2"], 5);
    }
}

#[test]
fn a_killed_worker_closes_its_connections_and_refuses_new_ones_until_it_is_revived() {
    let lab = Lab::new().unwrap();
    let mut worker = Worker::start(&lab.workers[0], 80).unwrap();
    let target = SocketAddr::new(lab.workers[0].v4(), 80);
    let connect = || lab.client.namespace.run(|| TcpStream::connect(target));
    let mut idle = connect().unwrap();
    eventually(PATIENCE, "the worker has accepted", || worker.connections() == 1);
    worker.kill();
    idle.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(idle.read(&mut [0]).unwrap(), 0, "the connection ends");
    assert_eq!(connect().unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    let failed = Load::new(target).requests(3).run(&lab.client.namespace);
    assert_eq!((failed.answered(), failed.failures.len()), (0, 3));
    assert!(failed.failures[0].cause.contains("refused"), "{:?}", failed.failures[0]);
    worker.revive().unwrap();
    Load::new(target)
        .requests(3)
        .run(&lab.client.namespace)
        .assert_flawless();
}

#[test]
fn a_cut_cable_is_silent_and_can_be_mended() {
    let lab = Lab::new().unwrap();
    let _worker = Worker::start(&lab.workers[0], 80).unwrap();
    for address in [lab.workers[0].v4(), lab.workers[0].v6()] {
        let mut load = Load::new(SocketAddr::new(address, 80)).requests(1);
        load.patience = Duration::from_millis(300);
        lab.fabric.set_cable(&lab.workers[0], false).unwrap();
        let report = load.clone().run(&lab.client.namespace);
        assert!(report.failures[0].cause.contains("no answer"), "{:?}", report.failures);
        lab.fabric.set_cable(&lab.workers[0], true).unwrap();
        eventually(PATIENCE, "the worker answers again", || {
            load.clone().run(&lab.client.namespace).answered() == 1
        });
    }
}

#[test]
fn a_routed_client_reaches_workers_and_virtual_addresses() {
    let lab = Lab::build(Plan {
        routed: true,
        ..Plan::default()
    })
    .unwrap();
    let _worker = Worker::start(&lab.workers[0], 80).unwrap();
    let _on_balancer = Worker::start(&lab.balancers[0], 80).unwrap();
    let [v4, v6] = virtual_addresses(0);
    for (address, name) in [
        (lab.workers[0].v4(), "worker-1"),
        (lab.workers[0].v6(), "worker-1"),
        (v4, "balancer-1"),
        (v6, "balancer-1"),
    ] {
        let report = Load::new(SocketAddr::new(address, 80))
            .requests(10)
            .run(&lab.client.namespace);
        report.assert_flawless();
        assert_eq!(report.of(name), 10, "{address}");
    }
}

#[test]
fn a_balancers_interface_takes_a_native_xdp_program_and_still_carries_traffic() {
    let lab = Lab::new().unwrap();
    let balancer = &lab.balancers[0];
    let program = PassProgram::load().unwrap();
    let link = program.attach(&balancer.namespace, "eth0").unwrap();
    let shown = || tools::output(balancer.namespace.command("ip").args(["-d", "link", "show", "eth0"])).unwrap();
    assert!(shown().contains("prog/xdp"), "{}", shown());
    assert!(!shown().contains("xdpgeneric"), "{}", shown());
    let _server = Worker::start(balancer, 80).unwrap();
    let [v4, _] = virtual_addresses(0);
    Load::new(SocketAddr::new(v4, 80))
        .run(&lab.client.namespace)
        .assert_flawless();
    drop(link);
    assert!(!shown().contains("prog/xdp"), "{}", shown());
}

#[test]
fn clients_count_the_spread_of_a_stand_in_balancer_exactly() {
    tools::require(&["nft"]).unwrap();
    let lab = Lab::new().unwrap();
    let _workers: Vec<_> = lab
        .workers
        .iter()
        .map(|host| Worker::start(host, 80).unwrap())
        .collect();
    let [IpAddr::V4(virtual_address), _] = virtual_addresses(0) else {
        unreachable!("the first one is IPv4")
    };
    let balancer = &lab.balancers[0].namespace;
    balancer.sysctl("ipv4/ip_forward", "1").unwrap();
    let rules = format!(
        "table ip stand_in {{
           chain in {{ type nat hook prerouting priority dstnat;
             ip daddr {virtual_address} tcp dport 80 dnat to numgen inc mod 2 map {{ 0: {}, 1: {} }}
           }}
           chain out {{ type nat hook postrouting priority srcnat; ip saddr {} masquerade
           }}
         }}",
        lab.workers[0].v4(),
        lab.workers[1].v4(),
        lab.client.v4(),
    );
    tools::output_with_input(balancer.command("nft").args(["-f", "-"]), &rules).unwrap();
    let report = Load::new((virtual_address, 80).into())
        .requests(1000)
        .concurrency(16)
        .run(&lab.client.namespace);
    report.assert_flawless();
    assert_eq!((report.of("worker-1"), report.of("worker-2")), (500, 500));
}

#[test]
fn endless_traffic_runs_until_it_is_stopped() {
    let lab = Lab::new().unwrap();
    let worker = Worker::start(&lab.workers[0], 80).unwrap();
    let target = SocketAddr::new(lab.workers[0].v4(), 80);
    let traffic = Load::new(target)
        .concurrency(2)
        .endless(Duration::from_millis(5))
        .start(&lab.client.namespace);
    eventually(PATIENCE, "some requests are served", || {
        traffic.report().answered() > 20
    });
    let report = traffic.stop();
    report.assert_flawless();
    assert_eq!(report.answered(), worker.requests());
}

#[test]
fn processes_run_inside_are_logged_and_end_with_their_handle() {
    let namespace = Namespace::new("process").unwrap();
    let mut command = namespace.command("sh");
    command.args(["-c", "ip -o link; echo to standard error >&2; exec sleep 1000"]);
    let process = Process::start("shell", command).unwrap();
    eventually(PATIENCE, "both streams are read", || {
        process.log().contains("LOOPBACK") && process.log().contains("to standard error")
    });
    assert_eq!(
        process.log().matches("mtu").count(),
        1,
        "only loopback is inside: {}",
        process.log()
    );
    let path = format!("/proc/{}", process.id());
    assert!(std::fs::exists(&path).unwrap());
    drop(process);
    assert!(!std::fs::exists(&path).unwrap());
}

#[test]
fn a_crash_of_a_process_is_seen_with_its_log() {
    let mut command = Command::new("sh");
    command.args(["-c", "echo last words; exit 3"]);
    let mut process = Process::start("shell", command).unwrap();
    assert_eq!(process.wait(PATIENCE).unwrap().code(), Some(3));
    assert_eq!(process.log(), "last words\n");
}

#[test]
fn nothing_is_left_of_a_lab() {
    let lab = Lab::new().unwrap();
    let mine: Vec<_> = [&lab.client, &lab.balancers[0], &lab.workers[0], &lab.workers[1]]
        .map(|host| host.namespace.name().to_owned())
        .to_vec();
    let (mount, folder) = (lab.bpffs().to_owned(), lab.directory().to_owned());
    assert!(mine.iter().all(|name| netns::names_of(process::id()).contains(name)));
    assert!(bpffs::mounts_of(process::id()).contains(&mount));
    drop(lab);
    assert!(!mine.iter().any(|name| netns::names_of(process::id()).contains(name)));
    assert!(!bpffs::mounts_of(process::id()).contains(&mount));
    assert!(!folder.exists());
}

#[test]
fn a_missing_program_is_named() {
    let error = tools::require(&["ip", "no-such-program", "nor-this"])
        .unwrap_err()
        .to_string();
    assert!(error.ends_with("no-such-program, nor-this"), "{error}");
}
