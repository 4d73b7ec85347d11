//! Workers that die, come back and move: what clients notice of it.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use harness::{
    client::{Load, Report, Traffic},
    config::{Config, QUICK_HTTP_CHECK, Service},
    lab::{Lab, Plan, virtual_addresses},
    lbd::Lbd,
    tools,
    wait::{PATIENCE, eventually},
    worker::Worker,
};

/// A balancer with the checked services `v4` and `v6`, all of whose backends are up.
fn balance(lab: &Lab) -> Lbd<'_> {
    let [v4, v6] = virtual_addresses(0);
    let service = |name, address| Service::http(lab, name, address).health(QUICK_HTTP_CHECK);
    let config = Config::new(lab, "balancer")
        .with(service("v4", v4))
        .with(service("v6", v6));
    let lbd = Lbd::start(&lab.balancers[0], config).unwrap();
    lbd.await_all_up("v4");
    lbd.await_all_up("v6");
    lbd
}

fn targets() -> [(&'static str, SocketAddr); 2] {
    let [v4, v6] = virtual_addresses(0);
    [("v4", (v4, 80).into()), ("v6", (v6, 80).into())]
}

/// Moderate traffic: a connection per request from two clients, connections of many requests from two more.
fn traffic(lab: &Lab, target: SocketAddr) -> [Traffic; 2] {
    let mut load = Load::new(target).concurrency(2).endless(Duration::from_millis(10));
    load.patience = Duration::from_secs(3);
    [
        load.clone().start(&lab.client.namespace),
        load.keep_alive().start(&lab.client.namespace),
    ]
}

fn stop(traffic: [Traffic; 2]) -> Report {
    let mut whole = Report::default();
    traffic
        .map(Traffic::stop)
        .into_iter()
        .for_each(|report| whole.merge(report));
    whole
}

fn answered(traffic: &[Traffic; 2]) -> u64 {
    traffic.iter().map(|part| part.report().answered()).sum()
}

#[test]
fn a_killed_worker_costs_requests_only_until_it_is_noticed_and_serves_again_when_revived() {
    let lab = Lab::new().unwrap();
    let mut workers = Worker::all(&lab);
    let lbd = balance(&lab);
    for (service, target) in targets() {
        let traffic = traffic(&lab, target);
        eventually(PATIENCE, "traffic flows", || answered(&traffic) > 50);
        let killed = Instant::now();
        workers[0].kill();
        lbd.await_state(service, "worker-1", "down");
        let declared = Instant::now();
        let (served_dead, served) = (workers[0].requests(), answered(&traffic));
        eventually(PATIENCE, "traffic flows on", || answered(&traffic) > served + 100);
        assert_eq!(workers[0].requests(), served_dead, "a dead worker serves nothing");
        workers[0].revive().unwrap();
        lbd.await_state(service, "worker-1", "up");
        eventually(PATIENCE, "the revived worker serves", || {
            workers[0].requests() > served_dead + 20
        });
        let report = stop(traffic);
        let unexcused = |failure: &&harness::client::Failure| failure.started >= declared || failure.ended < killed;
        let unexcused: Vec<_> = report.failures.iter().filter(unexcused).collect();
        assert!(
            unexcused.is_empty(),
            "{service}: {unexcused:?}; log of lbd:\n{}",
            lbd.log()
        );
        for service in ["v4", "v6"] {
            lbd.await_all_up(service);
        }
    }
}

#[test]
fn an_idle_connection_to_a_silently_dead_worker_is_reset() {
    let lab = Lab::new().unwrap();
    let _workers = Worker::all(&lab);
    let lbd = balance(&lab);
    for (service, target) in targets() {
        let mut connections = [idle(&lab, target), idle(&lab, target)];
        let position = connections
            .iter()
            .position(|(_, worker)| worker == "worker-1")
            .expect("one of two is there");
        lab.fabric.set_cable(&lab.workers[0], false).unwrap();
        lbd.await_state(service, "worker-1", "down");
        // The reset may come by itself or as the answer to the client's next segment.
        let dead = &mut connections[position].0;
        let error = request(dead)
            .err()
            .unwrap_or_else(|| panic!("{service}: a dead worker answered"));
        let reset = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
        assert!(
            reset.contains(&error.kind()),
            "{service}: {error}; log of lbd:\n{}",
            lbd.log()
        );
        assert_eq!(
            request(&mut connections[1 - position].0).unwrap(),
            "worker-2",
            "the other connection lives"
        );
        lab.fabric.set_cable(&lab.workers[0], true).unwrap();
        lbd.await_all_up("v4");
        lbd.await_all_up("v6");
        Load::new(target).run(&lab.client.namespace).assert_flawless();
    }
}

/// A connection that has served one request, and the worker it goes to.
fn idle(lab: &Lab, target: SocketAddr) -> (TcpStream, String) {
    let mut stream = lab.client.namespace.run(|| TcpStream::connect(target)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let worker = request(&mut stream).unwrap();
    (stream, worker)
}

/// One request on an open connection; answers with the worker's name.
fn request(stream: &mut TcpStream) -> std::io::Result<String> {
    stream.write_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n")?;
    let (mut answer, mut piece) = (Vec::new(), [0; 1024]);
    loop {
        let text = String::from_utf8_lossy(&answer);
        if let Some((_, body)) = text.split_once("\r\n\r\n")
            && let Some(name) = body.strip_suffix('\n')
        {
            return Ok(name.to_owned());
        }
        match stream.read(&mut piece)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            length => answer.extend_from_slice(&piece[..length]),
        }
    }
}

#[test]
fn without_any_worker_connections_are_refused_at_once_and_work_again_with_the_first() {
    let lab = Lab::new().unwrap();
    let mut workers = Worker::all(&lab);
    let lbd = balance(&lab);
    workers.iter_mut().for_each(Worker::kill);
    for (service, target) in targets() {
        for worker in ["worker-1", "worker-2"] {
            lbd.await_state(service, worker, "down");
        }
        let begin = Instant::now();
        let outcome = lab
            .client
            .namespace
            .run(|| TcpStream::connect_timeout(&target, PATIENCE));
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::ConnectionRefused, "{service}");
        assert!(
            begin.elapsed() < Duration::from_secs(5),
            "refused, but only after {:?}",
            begin.elapsed()
        );
    }
    let node = lbd.lbctl(&["node", "status"]).unwrap();
    let outcomes = &node["outcomes"];
    assert!(outcomes["reset_no_backend"].as_u64().unwrap() >= 2, "{outcomes}");
    let unserved = targets().len() as u64;
    assert_eq!(
        node["services"],
        serde_json::json!({ "no-backend": unserved }),
        "{node}"
    );
    assert_eq!(told(&lbd, "service-unserved"), targets().len());
    workers[1].revive().unwrap();
    for (service, target) in targets() {
        lbd.await_state(service, "worker-2", "up");
        let report = Load::new(target).run(&lab.client.namespace);
        report.assert_flawless();
        assert_eq!(report.of("worker-2"), 100, "{service}");
    }
    assert_eq!(told(&lbd, "service-served"), targets().len());
}

/// How often something of a kind happened.
fn told(lbd: &Lbd<'_>, kind: &str) -> usize {
    let page = lbd.lbctl(&["event", "list"]).unwrap();
    let events = page["events"].as_array().unwrap();
    events.iter().filter(|event| event["kind"] == kind).count()
}

#[test]
fn the_cause_of_a_down_backend_is_told() {
    let lab = Lab::new().unwrap();
    let mut workers = Worker::all(&lab);
    let lbd = balance(&lab);
    workers[0].kill();
    lbd.await_state("v4", "worker-1", "down");
    let list = lbd.lbctl(&["backend", "list"]).unwrap();
    let row = list
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["service"] == "v4" && row["name"] == "worker-1")
        .unwrap();
    assert!(row["cause"].as_str().unwrap().contains("refused"), "{row}");
    let services = lbd.lbctl(&["service", "list"]).unwrap();
    let row = services
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["name"] == "v4")
        .unwrap();
    assert_eq!(
        (&row["backends_up"], &row["backends_total"]),
        (&1.into(), &2.into()),
        "{row}"
    );
}

#[test]
fn a_removed_neighbour_entry_is_learned_again() {
    let lab = Lab::new().unwrap();
    let _workers = Worker::all(&lab);
    let lbd = balance(&lab);
    for (service, target) in targets() {
        let traffic = traffic(&lab, target);
        eventually(PATIENCE, "traffic flows", || answered(&traffic) > 50);
        let mut flush = lab.balancers[0].namespace.command("ip");
        tools::output(flush.args(["neigh", "flush", "dev", "eth0"])).unwrap();
        let before = answered(&traffic);
        eventually(PATIENCE, "traffic flows on", || answered(&traffic) > before + 100);
        let report = stop(traffic);
        report.assert_flawless();
        assert!(
            report.of("worker-1") > 0 && report.of("worker-2") > 0,
            "{service}; log of lbd:\n{}",
            lbd.log()
        );
    }
}

#[test]
fn a_worker_that_announces_its_new_hardware_address_is_found_again() {
    let lab = Lab::new().unwrap();
    let worker = &lab.workers[0].namespace;
    worker.sysctl("ipv4/conf/eth0/arp_notify", "1").unwrap();
    worker.sysctl("ipv6/conf/eth0/ndisc_notify", "1").unwrap();
    move_and_find_again(&lab);
}

#[test]
fn a_worker_that_is_silent_about_its_new_hardware_address_is_found_again() {
    let lab = Lab::new().unwrap();
    // The kernel trusts what it knows of a neighbour for up to 45 seconds, which is too long for a test.
    for family in ["ipv4", "ipv6"] {
        let balancer = &lab.balancers[0].namespace;
        balancer
            .sysctl(&format!("{family}/neigh/eth0/base_reachable_time_ms"), "1000")
            .unwrap();
        balancer
            .sysctl(&format!("{family}/neigh/eth0/delay_first_probe_time"), "1")
            .unwrap();
    }
    move_and_find_again(&lab);
}

fn move_and_find_again(lab: &Lab) {
    let workers = Worker::all(lab);
    let lbd = balance(lab);
    lab.workers[0]
        .namespace
        .ip("link set eth0 address 02:77:00:00:00:ee")
        .unwrap();
    for (service, target) in targets() {
        let before = workers[0].requests();
        let mut load = Load::new(target).requests(2);
        load.patience = Duration::from_secs(2);
        eventually(2 * PATIENCE, "the moved worker serves", || {
            load.clone().run(&lab.client.namespace);
            workers[0].requests() > before
        });
        lbd.await_all_up(service);
        Load::new(target).run(&lab.client.namespace).assert_flawless();
    }
}

#[test]
fn flows_of_workers_that_live_are_untouched_by_one_that_dies() {
    let lab = Lab::build(Plan {
        workers: 3,
        ..Plan::default()
    })
    .unwrap();
    let mut workers = Worker::all(&lab);
    let lbd = balance(&lab);
    for (service, target) in targets() {
        let load = Load::new(target)
            .concurrency(9)
            .keep_alive()
            .endless(Duration::from_millis(10));
        let traffic = load.start(&lab.client.namespace);
        eventually(PATIENCE, "all connections are open", || {
            traffic.report().connections >= 9
        });
        workers[2].kill();
        lbd.await_state(service, "worker-3", "down");
        workers[2].revive().unwrap();
        lbd.await_state(service, "worker-3", "up");
        let served = traffic.report().answered();
        eventually(PATIENCE, "traffic flows on", || {
            traffic.report().answered() > served + 100
        });
        let report = traffic.stop();
        // Three connections were lost with their worker; while it was not noticed yet, a new one could fail again.
        let reused = report.failures.iter().filter(|failure| failure.reused).count();
        assert!(
            reused <= 3,
            "{service}: {:?}; log of lbd:\n{}",
            report.failures,
            lbd.log()
        );
        lbd.await_all_up("v4");
        lbd.await_all_up("v6");
    }
}
