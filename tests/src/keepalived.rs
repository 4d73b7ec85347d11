//! keepalived on a balancer: the other side of VRRP, and what ours is measured beside.

use std::{fmt::Write as _, fs, net::IpAddr};

use anyhow::Result;

use crate::{lab::Lab, process::Process};

/// A virtual router of keepalived.
#[derive(Clone, Debug)]
pub struct Router {
    /// Its number.
    pub number: u8,
    /// What moves.
    pub address: IpAddr,
    /// Priority.
    pub priority: u8,
    /// Interval in seconds, as keepalived writes it.
    pub interval: String,
    /// Further lines.
    pub keys: String,
}

/// Starts it on a balancer of a lab; `name` is part of the names of its files.
///
/// # Errors
///
/// When it is not installed, or a file cannot be written.
pub fn start(lab: &Lab, balancer: usize, name: &str, version: u8, routers: &[Router]) -> Result<Process> {
    // Like lbd, it runs with real-time priority: on a busy machine it would send its adverts late
    // otherwise.
    let mut text = format!("global_defs {{\n  vrrp_version {version}\n  script_user root\n  vrrp_rt_priority 50\n}}\n");
    for router in routers {
        let length = if router.address.is_ipv4() { 24 } else { 64 };
        // Its first address of IPv6 has to be one of the link.
        let link = if router.address.is_ipv6() {
            "fe80::c8/64\n    "
        } else {
            ""
        };
        write!(
            text,
            "vrrp_instance i{0} {{\n  interface eth0\n  virtual_router_id {0}\n  priority {1}\n  state BACKUP\n  \
             advert_int {2}\n  {3}\n  virtual_ipaddress {{\n    {link}{4}/{length}\n  }}\n}}\n",
            router.number, router.priority, router.interval, router.keys, router.address
        )?;
    }
    let folder = lab.directory();
    let path = folder.join(format!("keepalived-{name}.conf"));
    fs::write(&path, text)?;
    let pid = |part: &str| {
        folder
            .join(format!("keepalived-{name}-{part}.pid"))
            .display()
            .to_string()
    };
    let mut command = lab.balancers[balancer].namespace.command("keepalived");
    command
        .args(["--dont-fork", "--log-console", "--log-detail", "--vrrp", "--use-file"])
        .arg(&path)
        .args(["--pid", &pid("main"), "--vrrp_pid", &pid("vrrp")]);
    Process::start("keepalived", command)
}
