//! Traffic through the balancer: who serves it, and whether it arrives whole.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use harness::{
    client::{Load, fetch},
    config::{Config, Service},
    content::{self, Hash},
    lab::{Lab, Plan, virtual_addresses},
    lbd::Lbd,
    process::Process,
    tools,
    udp::{self, UdpEcho},
    wait::{PATIENCE, eventually},
    worker::{Worker, upload_digest},
};
use hyper::{Method, body::Bytes};

/// A balancer with one HTTP service per family, named `v4` and `v6`, each made by `service`.
fn balance(lab: &Lab, service: impl Fn(&str, IpAddr) -> Service) -> Lbd<'_> {
    let [v4, v6] = virtual_addresses(0);
    let config = Config::new(lab, "balancer")
        .with(service("v4", v4))
        .with(service("v6", v6));
    Lbd::start(&lab.balancers[0], config).unwrap()
}

fn targets(port: u16) -> [SocketAddr; 2] {
    virtual_addresses(0).map(|address| SocketAddr::new(address, port))
}

#[test]
fn a_thousand_connections_are_spread_exactly_over_two_equal_workers() {
    let lab = Lab::new().unwrap();
    let _workers = Worker::all(&lab);
    let lbd = balance(&lab, |name, address| Service::http(&lab, name, address));
    for target in targets(80) {
        let report = Load::new(target)
            .requests(1000)
            .concurrency(8)
            .run(&lab.client.namespace);
        report.assert_flawless();
        assert_eq!(
            (report.of("worker-1"), report.of("worker-2")),
            (500, 500),
            "{target}; log:\n{}",
            lbd.log()
        );
    }
}

#[test]
fn weights_are_kept_exactly() {
    let lab = Lab::build(Plan {
        workers: 3,
        ..Plan::default()
    })
    .unwrap();
    let _workers = Worker::all(&lab);
    let _lbd = balance(&lab, |name, address| {
        Service::http(&lab, name, address).weights(&[3, 1, 0])
    });
    for target in targets(80) {
        let report = Load::new(target).requests(1000).run(&lab.client.namespace);
        report.assert_flawless();
        let spread = ["worker-1", "worker-2", "worker-3"].map(|worker| report.of(worker));
        assert_eq!(spread, [750, 250, 0], "{target}");
    }
}

#[test]
fn udp_flows_are_spread_exactly_and_each_stays_with_its_worker() {
    let lab = Lab::new().unwrap();
    let _echoes: Vec<_> = lab
        .workers
        .iter()
        .map(|host| UdpEcho::start(host, 5353).unwrap())
        .collect();
    let _lbd = balance(&lab, |name, address| {
        Service::http(&lab, name, address).protocol("udp").ports(53, 5353)
    });
    for target in targets(53) {
        let report = udp::ask(&lab.client.namespace, target, 100, b"question", PATIENCE);
        assert_eq!(report.failures, Vec::<String>::new(), "{target}");
        assert_eq!(
            report.per_worker.values().copied().collect::<Vec<_>>(),
            [50, 50],
            "{target}"
        );
        let socket = lab.client.namespace.run(|| udp::connect(target, PATIENCE)).unwrap();
        let answers: Vec<_> = (0..20).map(|_| udp::ask_once(&socket, b"again").unwrap()).collect();
        assert!(answers.iter().all(|name| *name == answers[0]), "{target}: {answers:?}");
        // Longest payload of one packet, and none at all.
        for payload in [&content::bytes(1400)[..], b""] {
            assert_eq!(udp::ask_once(&socket, payload).unwrap(), answers[0]);
        }
    }
}

#[test]
fn a_slow_worker_gets_clearly_less_from_least_connection() {
    let lab = Lab::new().unwrap();
    let workers = Worker::all(&lab);
    // Much longer than a request to the other one takes on a busy machine.
    workers[1].set_delay(Duration::from_millis(250));
    let _lbd = balance(&lab, |name, address| {
        Service::http(&lab, name, address).scheduler("least-connection")
    });
    for target in targets(80) {
        let report = Load::new(target)
            .requests(1000)
            .concurrency(16)
            .run(&lab.client.namespace);
        report.assert_flawless();
        assert!(report.of("worker-2") > 0, "{target}: {:?}", report.per_worker);
        assert!(
            report.of("worker-2") * 4 < report.of("worker-1"),
            "{target}: {:?}",
            report.per_worker
        );
    }
}

#[test]
fn the_fewest_connections_are_counted_over_open_ones_not_over_requests() {
    let lab = Lab::build(Plan {
        workers: 3,
        ..Plan::default()
    })
    .unwrap();
    let workers = Worker::all(&lab);
    let _lbd = balance(&lab, |name, address| {
        Service::http(&lab, name, address).scheduler("least-connection")
    });
    for target in targets(80) {
        let before: Vec<_> = workers.iter().map(Worker::connections).collect();
        let load = Load::new(target)
            .concurrency(30)
            .keep_alive()
            .endless(Duration::from_millis(20));
        let traffic = load.start(&lab.client.namespace);
        let opened = || {
            let counts = workers.iter().zip(&before);
            counts
                .map(|(worker, before)| worker.connections() - before)
                .collect::<Vec<_>>()
        };
        eventually(PATIENCE, "all connections are open", || {
            traffic.report().connections == 30 && opened().iter().sum::<u64>() == 30
        });
        let opened = opened();
        traffic.stop().assert_flawless();
        assert_eq!(opened.iter().sum::<u64>(), 30);
        assert!(
            opened.iter().all(|count| (9..=11).contains(count)),
            "{target}: {opened:?}"
        );
    }
}

#[test]
fn keep_alive_connections_stay_with_their_worker() {
    let lab = Lab::new().unwrap();
    let workers = Worker::all(&lab);
    let _lbd = balance(&lab, |name, address| Service::http(&lab, name, address));
    for target in targets(80) {
        let report = Load::new(target)
            .requests(1000)
            .concurrency(4)
            .keep_alive()
            .run(&lab.client.namespace);
        report.assert_flawless();
        assert_eq!(report.connections, 4, "{target}");
    }
    assert_eq!(workers.iter().map(Worker::connections).collect::<Vec<_>>(), [4, 4]);
}

#[test]
fn ten_megabytes_arrive_whole_in_both_directions() {
    const LENGTH: usize = 10_000_000;
    let lab = Lab::new().unwrap();
    let _workers = Worker::all(&lab);
    let _lbd = balance(&lab, |name, address| Service::http(&lab, name, address));
    let expected = content::bytes(LENGTH);
    for target in targets(80) {
        let ask = |method, path: &str, body| {
            fetch(&lab.client.namespace, target, method, path, body, 3 * PATIENCE)
                .unwrap()
                .body
        };
        let download = ask(Method::GET, &format!("/bytes/{LENGTH}"), Bytes::new());
        assert!(
            download == expected,
            "{target}: {} bytes differ from what was served",
            download.len()
        );
        let digest = ask(Method::POST, "/upload", expected.clone());
        assert_eq!(digest, upload_digest(LENGTH, Hash::of(&expected)), "{target}");
    }
}

#[test]
fn a_client_behind_a_router_is_served() {
    let lab = Lab::build(Plan {
        routed: true,
        ..Plan::default()
    })
    .unwrap();
    let _workers = Worker::all(&lab);
    let _lbd = balance(&lab, |name, address| Service::http(&lab, name, address));
    for target in targets(80) {
        let report = Load::new(target).run(&lab.client.namespace);
        report.assert_flawless();
        assert_eq!((report.of("worker-1"), report.of("worker-2")), (50, 50), "{target}");
    }
}

#[test]
fn the_generic_mode_balances_too() {
    let lab = Lab::new().unwrap();
    let _workers = Worker::all(&lab);
    let [v4, _] = virtual_addresses(0);
    let mut config = Config::new(&lab, "balancer").with(Service::http(&lab, "web", v4));
    config.xdp_mode = "generic".into();
    let lbd = Lbd::start(&lab.balancers[0], config).unwrap();
    assert_eq!(
        lbd.lbctl(&["node", "status"]).unwrap()["interfaces"][0]["xdp_mode"],
        "generic"
    );
    let report = Load::new((v4, 80).into()).run(&lab.client.namespace);
    report.assert_flawless();
    assert_eq!((report.of("worker-1"), report.of("worker-2")), (50, 50));
}

#[test]
fn counters_and_flows_show_what_happened() {
    let lab = Lab::new().unwrap();
    let _workers = Worker::all(&lab);
    let lbd = balance(&lab, |name, address| Service::http(&lab, name, address));
    let [target, _] = targets(80);
    Load::new(target)
        .requests(100)
        .run(&lab.client.namespace)
        .assert_flawless();
    let load = Load::new(target)
        .concurrency(6)
        .keep_alive()
        .endless(Duration::from_millis(10));
    let traffic = load.start(&lab.client.namespace);
    eventually(PATIENCE, "six connections are open", || {
        traffic.report().connections == 6
    });
    eventually(PATIENCE, "lbctl shows six active connections", || {
        let services = lbd.lbctl(&["service", "list"]).unwrap();
        let service = services
            .as_array()
            .unwrap()
            .iter()
            .find(|row| row["name"] == "v4")
            .unwrap();
        service["active"] == 6 && service["total"] == 106
    });
    let backends = lbd.lbctl(&["backend", "list"]).unwrap();
    for row in backends.as_array().unwrap().iter().filter(|row| row["service"] == "v4") {
        assert_eq!((&row["active"], &row["total"]), (&3.into(), &53.into()), "{row}");
        for counter in [
            "to_worker_packets",
            "to_worker_bytes",
            "to_client_packets",
            "to_client_bytes",
        ] {
            assert!(row[counter].as_u64().unwrap() > 100, "{counter} in {row}");
        }
    }
    assert!(
        !lbd.lbctl(&["flow", "list"]).unwrap()["flows"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    let status = lbd.lbctl(&["node", "status"]).unwrap();
    assert_eq!(status["interfaces"][0]["xdp_mode"], "native", "{status}");
    assert!(status["outcomes"]["forwarded"].as_u64().unwrap() > 400, "{status}");
    traffic.stop().assert_flawless();
    eventually(PATIENCE, "closed connections are no longer active", || {
        let services = lbd.lbctl(&["service", "list"]).unwrap();
        services.as_array().unwrap().iter().all(|row| row["active"] == 0)
    });
}

#[test]
fn curl_downloads_through_the_balancer() {
    tools::require(&["curl"]).unwrap();
    let lab = Lab::new().unwrap();
    let _workers = Worker::all(&lab);
    let _lbd = balance(&lab, |name, address| Service::http(&lab, name, address));
    for target in targets(80) {
        let mut names = Vec::new();
        for _ in 0..4 {
            let mut curl = lab.client.namespace.command("curl");
            let url = format!("http://{target}/");
            names.push(tools::output(curl.args(["-sS", "--fail", "--max-time", "10", &url])).unwrap());
        }
        names.sort();
        assert_eq!(
            names,
            ["worker-1\n", "worker-1\n", "worker-2\n", "worker-2\n"],
            "{target}"
        );
    }
}

#[test]
fn wrk_sees_no_errors() {
    tools::require(&["wrk"]).unwrap();
    let lab = Lab::new().unwrap();
    let _workers = Worker::all(&lab);
    let _lbd = balance(&lab, |name, address| Service::http(&lab, name, address));
    for target in targets(80) {
        let mut wrk = lab.client.namespace.command("wrk");
        let output = tools::output(wrk.args(["-t2", "-c16", "-d2s", &format!("http://{target}/")])).unwrap();
        assert!(output.contains("Requests/sec"), "{output}");
        assert!(
            !output.contains("Socket errors") && !output.contains("Non-2xx"),
            "{output}"
        );
    }
}

#[test]
fn iperf3_runs_through_the_balancer_in_both_directions() {
    tools::require(&["iperf3"]).unwrap();
    let lab = Lab::new().unwrap();
    // Its control and data connections must meet the same server: one worker.
    let _lbd = balance(&lab, |name, address| {
        Service::http(&lab, name, address).ports(5201, 5201).weights(&[1])
    });
    let mut server = lab.workers[0].namespace.command("iperf3");
    server.args(["--server", "--forceflush"]);
    let server = Process::start("iperf3", server).unwrap();
    for target in targets(5201) {
        for direction in [&["--parallel", "2"][..], &["--reverse"]] {
            let listening = || server.log().matches("Server listening").count();
            let before = listening();
            eventually(PATIENCE, "iperf3 listens", || listening() > 0);
            let mut client = lab.client.namespace.command("iperf3");
            client
                .args(["--client", &target.ip().to_string(), "--time", "1", "--json"])
                .args(direction);
            let output = tools::output(&mut client).unwrap();
            let report: serde_json::Value = serde_json::from_str(&output).unwrap();
            let received = report["end"]["sum_received"]["bytes"].as_f64().unwrap();
            assert!(received > 1e6, "{target} {direction:?}: {received} bytes");
            eventually(PATIENCE, "iperf3 is ready for the next client", || {
                listening() > before.max(1)
            });
        }
    }
}
