//! Private network namespaces for tests. They are removed with the value, also when a test panics.

use std::{
    fs::{self, File},
    os::fd::AsRawFd,
    process::{self, Command},
    thread,
};

use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace that exists as long as this value.
#[derive(Debug)]
pub struct Netns(File);

impl Netns {
    /// Makes an empty namespace with its loopback interface up.
    pub fn new() -> Self {
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET).expect("the tests of this module need root, to make network namespaces");
            File::open("/proc/thread-self/ns/net").expect("/proc is mounted")
        };
        let namespace = Self(
            thread::spawn(make)
                .join()
                .expect("the thread that makes a namespace lives"),
        );
        namespace.ip("link set lo up");
        namespace
    }

    /// Runs a function in the namespace, on a thread of its own.
    pub fn run<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> T {
        let enter = || {
            setns(&self.0, CloneFlags::CLONE_NEWNET).expect("a namespace that was just made can be entered");
            inside()
        };
        match thread::scope(|scope| scope.spawn(enter).join()) {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Runs `ip` with arguments separated by spaces. Panics with its error output when it fails.
    pub fn ip(&self, words: &str) {
        let output = self.run(|| Command::new("ip").args(words.split_whitespace()).output());
        let output = output.expect("the command `ip` is installed");
        assert!(
            output.status.success(),
            "ip {words}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Writes a parameter below `/proc/sys/net`.
    pub fn sysctl(&self, path: &str, value: &str) {
        let file = format!("/proc/sys/net/{path}");
        self.run(|| fs::write(&file, value))
            .unwrap_or_else(|error| panic!("cannot write {file}: {error}"));
    }

    /// Connects two namespaces by a veth pair, both ends up. Addresses have prefix lengths and are
    /// separated by spaces.
    pub fn connect(&self, (name, addresses): (&str, &str), other: &Self, (other_name, other_addresses): (&str, &str)) {
        let place = format!("/proc/{}/fd/{}", process::id(), other.0.as_raw_fd());
        self.ip(&format!(
            "link add {name} type veth peer name {other_name} netns {place}"
        ));
        for (namespace, name, addresses) in [(self, name, addresses), (other, other_name, other_addresses)] {
            for address in addresses.split_whitespace() {
                let options = if address.contains(':') { "nodad" } else { "" };
                namespace.ip(&format!("address add {address} dev {name} {options}"));
            }
            namespace.ip(&format!("link set {name} up"));
        }
    }
}
