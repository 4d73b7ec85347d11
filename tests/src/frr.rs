//! FRR's vrrpd on a balancer: another implementation of VRRP, which moves addresses by their
//! link-layer address alone.
//!
//! It makes no devices: each virtual router needs a macvlan one with its link-layer address and its
//! addresses, which vrrpd switches on and off.

use std::{fmt::Write as _, fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use anyhow::{Context as _, Result};
use lb_common::router::mac;
use nix::unistd::{User, chown};
use serde_json::Value;

use crate::{keepalived::Router, lab::Lab, process::Process, tools, wait};

const ZEBRA: &str = "/usr/lib/frr/zebra";
const VRRPD: &str = "/usr/lib/frr/vrrpd";
/// Who its processes are.
const USER: &str = "frr";

/// Both processes: vrrpd, and zebra, from which it learns interfaces.
#[derive(Debug)]
pub struct Frr {
    /// What decides.
    pub vrrpd: Process,
    _zebra: Process,
    folder: PathBuf,
}

impl Frr {
    /// Starts it on a balancer of a lab; `name` is part of the names of its files. Intervals are
    /// in seconds.
    ///
    /// # Errors
    ///
    /// When it is not installed, or does not start.
    pub fn start(lab: &Lab, balancer: usize, name: &str, routers: &[Router]) -> Result<Self> {
        tools::require(&[ZEBRA, VRRPD, "vtysh"])?;
        let host = &lab.balancers[balancer];
        let mut text = "interface eth0\n".to_owned();
        for router in routers {
            let Router {
                number,
                priority,
                address,
                ..
            } = router;
            let (family, word, length) = if address.is_ipv4() {
                (4, "ip", 24)
            } else {
                (6, "ipv6", 64)
            };
            let interval = (router.interval.parse::<f64>()? * 1e3).round();
            write!(
                text,
                " vrrp {number} version 3\n vrrp {number} priority {priority}\n \
                 vrrp {number} advertisement-interval {interval}\n vrrp {number} {word} {address}\n{}",
                router.keys
            )?;
            let bytes = mac::of(family, *number).map(|byte| format!("{byte:02x}"));
            let device = format!("frr{family}-{number}");
            host.run_script(&format!(
                "ip link show {device} 2>/dev/null || {{ ip link add {device} link eth0 type macvlan mode bridge
                 ip link set {device} address {} up
                 ip address add {address}/{length} dev {device} nodad || ip address add {address}/{length} dev {device}; }}
                 echo 1 >/proc/sys/net/ipv4/conf/{device}/arp_ignore
                 echo 1 >/proc/sys/net/ipv4/conf/eth0/arp_ignore",
                bytes.join(":")
            ))?;
        }
        let folder = lab.directory().join(format!("frr-{name}"));
        fs::create_dir(&folder)?;
        fs::set_permissions(lab.directory(), fs::Permissions::from_mode(0o755))?;
        fs::write(folder.join("zebra.conf"), "")?;
        fs::write(folder.join("vrrpd.conf"), text)?;
        let user = User::from_name(USER)?.context("the package of FRR brings its user")?;
        for path in ["", "zebra.conf", "vrrpd.conf"] {
            chown(&folder.join(path), Some(user.uid), Some(user.gid))?;
        }
        let start = |program: &str| {
            let name = program.rsplit('/').next().unwrap_or(program);
            let file = |suffix: &str| folder.join(format!("{name}.{suffix}"));
            let mut command = host.namespace.command(program);
            command.args(["-P", "0", "--log", "stdout"]);
            command.arg("-z").arg(folder.join("zserv"));
            command.arg("-i").arg(file("pid")).arg("-f").arg(file("conf"));
            command.arg("--vty_socket").arg(&folder);
            Process::start(name, command)
        };
        let zebra = start(ZEBRA)?;
        wait::eventually(wait::PATIENCE, "zebra is there", || folder.join("zserv").exists());
        let vrrpd = start(VRRPD)?;
        Ok(Self {
            vrrpd,
            _zebra: zebra,
            folder,
        })
    }

    /// What a virtual router of a family (4 or 6) is: `Master`, `Backup`, `Initialize`.
    ///
    /// # Errors
    ///
    /// When it cannot be asked.
    pub fn status(&self, number: u8, family: u8) -> Result<String> {
        let mut command = std::process::Command::new("vtysh");
        command.arg("--vty_socket").arg(&self.folder);
        command.args(["-d", "vrrpd", "-c", "show vrrp json"]);
        let shown: Value = serde_json::from_str(&tools::output(&mut command)?)?;
        let routers = shown.as_array().context("a list")?;
        let router = routers.iter().find(|router| router["vrid"] == number);
        let status = router.and_then(|router| router[format!("v{family}")]["status"].as_str());
        Ok(status.unwrap_or_default().to_owned())
    }
}
