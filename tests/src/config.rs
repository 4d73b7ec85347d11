//! Configuration files for the balancer under test.

use std::{
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use crate::lab::Lab;

/// A configuration in the making: all keys that a test does not name have the balancer's own
/// defaults.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the node.
    pub name: String,
    /// Interfaces to attach to.
    pub interfaces: Vec<String>,
    /// How to attach.
    pub xdp_mode: String,
    /// Mount point of the BPF file system.
    pub bpffs: PathBuf,
    /// Path of the admin socket.
    pub socket: PathBuf,
    /// Folder for what survives a restart.
    pub state_dir: PathBuf,
    /// Path of the file itself.
    pub file: PathBuf,
    /// Further lines of the table `[node]`, and tables within it.
    pub node_keys: String,
    /// The services.
    pub services: Vec<Service>,
}

/// One service.
#[derive(Clone, Debug)]
pub struct Service {
    /// Name.
    pub name: String,
    /// Virtual address and port.
    pub address: SocketAddr,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// Forwarding mode.
    pub mode: &'static str,
    /// Scheduler.
    pub scheduler: &'static str,
    /// Further lines of the table `[[service]]`.
    pub keys: String,
    /// Lines of the table `[service.health]`; empty: no health check.
    pub health: String,
    /// Name, address and weight of each backend.
    pub backends: Vec<(String, SocketAddr, u32)>,
    /// Names of backends, and further lines of their tables.
    pub backend_keys: Vec<(String, String)>,
}

/// A health check that notices within about a quarter of a second, and is not fooled by a busy
/// machine.
pub const QUICK_HTTP_CHECK: &str =
    "type = \"http\"\npath = \"/healthz\"\ninterval = \"100ms\"\ntimeout = \"100ms\"\nrise = 2\nfall = 2\n";

/// A check that much traffic on a busy machine does not worry: what is seen is the packet path.
pub const PATIENT_CHECK: &str =
    "type = \"http\"\npath = \"/healthz\"\ninterval = \"1s\"\ntimeout = \"1s\"\nrise = 1\nfall = 10\n";

impl Config {
    /// One for the balancer `name` of a lab, native on `eth0`, without services.
    pub fn new(lab: &Lab, name: &str) -> Self {
        let file = |suffix: &str| lab.directory().join(format!("{name}{suffix}"));
        Self {
            name: name.to_owned(),
            interfaces: vec!["eth0".into()],
            xdp_mode: "native".into(),
            bpffs: lab.bpffs().to_owned(),
            socket: file(".sock"),
            state_dir: file(".state"),
            file: file(".toml"),
            node_keys: String::new(),
            services: Vec::new(),
        }
    }

    /// With one more service.
    pub fn with(mut self, service: Service) -> Self {
        self.services.push(service);
        self
    }

    /// The text of the file.
    pub fn text(&self) -> String {
        let mut text = format!(
            "[node]\nname = {:?}\ninterfaces = {:?}\nxdp_mode = {:?}\nstate_dir = {:?}\nbpffs = {:?}\nsocket = {:?}\n",
            self.name, self.interfaces, self.xdp_mode, self.state_dir, self.bpffs, self.socket
        );
        text.push_str(&self.node_keys);
        for service in &self.services {
            service.write(&mut text);
        }
        text
    }
}

impl Service {
    /// A TCP service whose backends are all workers of the lab, with port 80 on both sides, equal
    /// weights, mode `nat`, round-robin and no health check.
    pub fn http(lab: &Lab, name: &str, address: IpAddr) -> Self {
        let backends = lab.workers.iter().map(|worker| {
            let address = SocketAddr::new(worker.address_like(address), 80);
            (worker.label.clone(), address, 1)
        });
        Self {
            name: name.to_owned(),
            address: SocketAddr::new(address, 80),
            protocol: "tcp",
            mode: "nat",
            scheduler: "round-robin",
            keys: String::new(),
            health: String::new(),
            backends: backends.collect(),
            backend_keys: Vec::new(),
        }
    }

    /// With other ports: of the service and of its backends.
    pub fn ports(mut self, service: u16, backend: u16) -> Self {
        self.address.set_port(service);
        for (_, address, _) in &mut self.backends {
            address.set_port(backend);
        }
        self
    }

    /// With another protocol.
    pub fn protocol(mut self, protocol: &'static str) -> Self {
        self.protocol = protocol;
        self
    }

    /// With another forwarding mode.
    pub fn mode(mut self, mode: &'static str) -> Self {
        self.mode = mode;
        self
    }

    /// With the workers' addresses of the same family as another one.
    pub fn workers_like(mut self, lab: &Lab, like: IpAddr) -> Self {
        for ((_, address, _), worker) in self.backends.iter_mut().zip(&lab.workers) {
            address.set_ip(worker.address_like(like));
        }
        self
    }

    /// With another scheduler.
    pub fn scheduler(mut self, scheduler: &'static str) -> Self {
        self.scheduler = scheduler;
        self
    }

    /// With these weights, in the order of the workers; workers beyond them are left out.
    pub fn weights(mut self, weights: &[u32]) -> Self {
        self.backends.truncate(weights.len());
        for ((_, _, weight), wanted) in self.backends.iter_mut().zip(weights) {
            *weight = *wanted;
        }
        self
    }

    /// With a health check: lines of `[service.health]`.
    pub fn health(mut self, lines: &str) -> Self {
        self.health = lines.to_owned();
        self
    }

    /// With further lines of `[[service]]`.
    pub fn keys(mut self, lines: &str) -> Self {
        self.keys = lines.to_owned();
        self
    }

    /// With further lines of the table of a backend.
    pub fn backend_keys(mut self, backend: &str, lines: &str) -> Self {
        self.backend_keys.push((backend.to_owned(), lines.to_owned()));
        self
    }

    fn write(&self, text: &mut String) {
        let written = write!(
            text,
            "\n[[service]]\nname = {:?}\naddress = \"{}\"\nport = {}\nprotocol = {:?}\nmode = {:?}\nscheduler = {:?}\n{}",
            self.name,
            self.address.ip(),
            self.address.port(),
            self.protocol,
            self.mode,
            self.scheduler,
            self.keys
        );
        written.expect("a string takes all that is written to it");
        if !self.health.is_empty() {
            text.push_str("\n[service.health]\n");
            text.push_str(&self.health);
        }
        for (name, address, weight) in &self.backends {
            let (ip, port) = (address.ip(), address.port());
            let table = format!(
                "\n[[service.backend]]\nname = {name:?}\naddress = \"{ip}\"\nport = {port}\nweight = {weight}\n"
            );
            text.push_str(&table);
            for (_, lines) in self.backend_keys.iter().filter(|(backend, _)| backend == name) {
                text.push_str(lines);
            }
        }
    }
}
