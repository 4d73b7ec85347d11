//! The pair of balancers of `examples/deployment`, with the configurations that are there, before
//! HTTP servers on its ports.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream},
    path::Path,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use harness::{
    client::Load,
    config::Config,
    lab::{Lab, Plan},
    lbd::Lbd,
    netns::Namespace,
    prober::Prober,
    topology::Host,
    wait::{PATIENCE, eventually, until},
    worker::{ANSWER, Worker},
};

/// The numbers of the machines in 192.168.1.0/24.
const CLIENT: u8 = 100;
const BALANCERS: [u8; 2] = [11, 12];
const WORKERS: [u8; 2] = [31, 32];
const MANAGER: u8 = 21;
const FRONT: u8 = 20;

/// Ports of the web front end, of its API, and those of the object store.
const WEB: u16 = 5000;
const API: u16 = 8000;
const OBJECTS: [u16; 8] = [9000, 9001, 9002, 9003, 9004, 9005, 9006, 9007];
const MYSQL: u16 = 3306;

/// The load under which the failover of the system was measured that the example comes from.
const CLIENTS: usize = 10;
const EVERY: Duration = Duration::from_secs(2);
const UPLOADS: usize = 10;
const UPLOAD: usize = 178_000;
const THINKS: Duration = Duration::from_millis(160);
/// How long a client waits for an answer.
const WAITS: Duration = Duration::from_secs(8);

fn address(number: u8) -> IpAddr {
    [192, 168, 1, number].into()
}

fn at(port: u16) -> SocketAddr {
    (address(FRONT), port).into()
}

/// The network of the example: the third worker of the lab is its manager.
fn lab() -> Lab {
    let lab = Lab::build(Plan {
        balancers: 2,
        workers: 3,
        ..Plan::default()
    })
    .unwrap();
    lab.fabric.stop_flooding().unwrap();
    let give = |host: &Host, number: u8| {
        let line = format!("address add {}/24 dev eth0", address(number));
        host.namespace.ip(&line).unwrap();
    };
    give(&lab.client, CLIENT);
    for (hosts, numbers) in [
        (&lab.balancers[..], &BALANCERS[..]),
        (&lab.workers[..], &[WORKERS[0], WORKERS[1], MANAGER][..]),
    ] {
        for (host, number) in hosts.iter().zip(numbers) {
            give(host, *number);
        }
    }
    lab
}

/// Servers on all ports of the example: of the first two workers, web front ends and APIs come
/// first.
fn serve(lab: &Lab) -> Vec<Worker<'_>> {
    let ports = [WEB, API].into_iter().chain(OBJECTS);
    let of_workers = ports.flat_map(|port| lab.workers[..2].iter().map(move |host| (host, port)));
    let all = of_workers.chain([(&lab.workers[2], MYSQL)]);
    all.map(|(host, port)| Worker::start(host, port).unwrap()).collect()
}

/// A balancer with the file of the example; only its folders are those of the lab.
fn balancer<'a>(lab: &'a Lab, index: usize) -> Lbd<'a> {
    let name = format!("lb{}", index + 1);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../examples/deployment/{name}.toml"));
    let text = fs::read_to_string(&path).unwrap();
    let (node, tables) = text.split_at(text.find("[[vrrp]]").unwrap());
    assert!(
        node.contains(&format!("name = \"{name}\"\ninterfaces = [\"eth0\"]\n")),
        "{node}"
    );
    let mut config = Config::new(lab, &name);
    tables.clone_into(&mut config.node_keys);
    Lbd::start(&lab.balancers[index], config).unwrap()
}

fn role(lbd: &Lbd<'_>) -> String {
    let status = lbd.lbctl(&["vrrp", "status"]).unwrap_or_default();
    status[0]["role"].as_str().unwrap_or_default().to_owned()
}

#[track_caller]
fn await_role(lbd: &Lbd<'_>, wanted: &str) {
    let reached = until(PATIENCE, || role(lbd) == wanted);
    assert!(reached, "{}, not {wanted}; log of lbd:\n{}", role(lbd), lbd.log());
}

/// Waits until all services have all their backends.
#[track_caller]
fn await_workers(lbd: &Lbd<'_>) {
    eventually(PATIENCE, "all backends are up", || {
        let services = lbd.lbctl(&["service", "list"]).unwrap();
        let mut services = services.as_array().unwrap().iter();
        services.all(|service| service["backends_up"] == service["backends_total"])
    });
}

#[test]
fn ten_thousand_requests_are_answered_and_spread_evenly() {
    let lab = lab();
    let _servers = serve(&lab);
    let first = balancer(&lab, 0);
    let second = balancer(&lab, 1);
    await_workers(&first);
    await_workers(&second);
    await_role(&first, "master");
    await_role(&second, "backup");
    for (name, port) in [("web, round-robin", WEB), ("api, least-connection", API)] {
        let report = Load::new(at(port))
            .requests(10_000)
            .concurrency(20)
            .run(&lab.client.namespace);
        let shares = [1, 2].map(|worker| report.of(&format!("worker-{worker}")));
        println!(
            "{name}: {} of 10000 answered, {} failed, by worker {shares:?}",
            report.answered(),
            report.failures.len()
        );
        report.assert_flawless();
        assert_eq!(report.answered(), 10_000);
        // In turn by each processor: they need not be in step.
        assert!(shares.iter().all(|share| (4_500..=5_500).contains(share)), "{shares:?}");
    }
    for port in OBJECTS.into_iter().chain([MYSQL]) {
        Load::new(at(port))
            .requests(20)
            .run(&lab.client.namespace)
            .assert_flawless();
    }
}

/// One client's uploads; what went wrong with each that failed, and how long it took.
fn upload(namespace: &Namespace) -> thread::JoinHandle<Vec<(String, Duration)>> {
    namespace.spawn(|| {
        let mut failures = Vec::new();
        let mut connection = None;
        for _ in 0..UPLOADS {
            let begin = Instant::now();

            if let Err(error) = post(&mut connection) {
                connection = None;
                failures.push((error.to_string(), begin.elapsed()));
            }
        }
        failures
    })
}

fn post(connection: &mut Option<TcpStream>) -> std::io::Result<()> {
    let stream = match connection {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect_timeout(&at(API), PATIENCE)?;
            stream.set_read_timeout(Some(WAITS))?;
            stream.set_write_timeout(Some(WAITS))?;
            connection.insert(stream)
        }
    };
    let head = format!("POST /api/v1/identify HTTP/1.1\r\nhost: front\r\ncontent-length: {UPLOAD}\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    stream.write_all(&vec![b'x'; UPLOAD])?;
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let body = answer
            .windows(4)
            .position(|bytes| bytes == b"\r\n\r\n")
            .map(|end| end + 4);
        if body.is_some_and(|body| answer.len() >= body + ANSWER) {
            break;
        }
        match stream.read(&mut piece)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            length => answer.extend_from_slice(&piece[..length]),
        }
    }
    if !answer.starts_with(b"HTTP/1.1 200") {
        return Err(std::io::Error::other("another status"));
    }
    Ok(())
}

#[test]
fn the_pair_survives_the_death_of_a_balancer_under_the_load_that_it_was_measured_with() {
    let lab = lab();
    let servers = serve(&lab);
    let mut first = balancer(&lab, 0);
    await_role(&first, "master");
    let second = balancer(&lab, 1);
    await_role(&second, "backup");
    await_workers(&first);
    await_workers(&second);
    // The APIs are behind the web front ends.
    for api in &servers[2..4] {
        api.set_delay(THINKS);
    }
    let prober = Prober::start(&lab.client.namespace, at(WEB), Duration::from_millis(5));
    let clients = Arc::new(Mutex::new(Vec::new()));
    thread::scope(|scope| {
        let (clients, namespace) = (Arc::clone(&clients), &lab.client.namespace);
        let begin = Instant::now();
        scope.spawn(move || {
            for turn in 0..CLIENTS {
                let due = EVERY * turn as u32;
                thread::sleep(due.saturating_sub(begin.elapsed()));
                clients.lock().unwrap().push(upload(namespace));
            }
        });
        // In the middle of a client's uploads.
        thread::sleep((EVERY * 4 + Duration::from_millis(700)).saturating_sub(begin.elapsed()));
        lab.fabric.set_silent(&lab.balancers[0], true).unwrap();
        first.kill9().unwrap();
        // A machine that lost its power remembers no flow.
        first.detach().unwrap();
        await_role(&second, "master");
        thread::sleep((EVERY * 6 + Duration::from_millis(700)).saturating_sub(begin.elapsed()));
        lab.fabric.set_silent(&lab.balancers[0], false).unwrap();
        first.restart().unwrap();
        await_role(&first, "master");
        await_role(&second, "backup");
    });
    let clients = std::mem::take(&mut *clients.lock().unwrap());
    let failures: Vec<_> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
    let outage = prober.stop();
    println!("                     lbd      HAProxy and Keepalived there");
    println!("requests             {:<8} 100", CLIENTS * UPLOADS);
    println!("failed               {:<8} 1", failures.len());
    for (error, after) in &failures {
        println!("  after {after:?}: {error}");
    }
    println!("outage               {:<8?} about 1 s on average", outage.longest);
    println!(
        "new connections      {} asked every 5 ms, {} failed",
        outage.requests, outage.failed
    );
    // A connection through the one that died ends with it, and its client asks again; nothing else
    // fails.
    assert!(failures.len() <= 2, "{failures:?}");
    assert!(outage.longest < PATIENCE, "{outage:?}");
    eventually(PATIENCE, "the address is back", || role(&first) == "master");
    Load::new(at(WEB))
        .requests(100)
        .run(&lab.client.namespace)
        .assert_flawless();
}
