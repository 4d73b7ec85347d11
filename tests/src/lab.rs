//! The standard environment of a test: client, balancers and workers on one network, and a place
//! for pins and files.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use anyhow::Result;

use crate::{
    bpffs::Bpffs,
    topology::{Fabric, Host, Router, Subnet},
};

const CLIENT: u8 = 2;
const FIRST_BALANCER: u8 = 11;
const FIRST_WORKER: u8 = 21;
const FIRST_VIRTUAL: u8 = 100;

/// One environment is up at a time in a process: the machine's few cores are part of what is
/// tested.
static TURN: Mutex<()> = Mutex::new(());

/// How many hosts there are, and where the client is.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Number of balancers; number `i` has the virtual addresses `virtual_address(i)`.
    pub balancers: u8,
    /// Number of workers.
    pub workers: u8,
    /// Whether the client is in another subnet, behind a router.
    pub routed: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            balancers: 1,
            workers: 2,
            routed: false,
        }
    }
}

/// Everything that a test of the balancer needs around it.
#[derive(Debug)]
pub struct Lab {
    /// Where requests come from.
    pub client: Host,
    /// Where `lbd` runs.
    pub balancers: Vec<Host>,
    /// Where requests are served: `worker-1`, `worker-2` and so on.
    pub workers: Vec<Host>,
    /// Between client and the rest, if that was planned.
    pub router: Option<Router>,
    /// The bridge that connects them.
    pub fabric: Fabric,
    bpffs: Bpffs,
    _turn: MutexGuard<'static, ()>,
}

impl Lab {
    /// Builds one: a client, a balancer and two workers.
    ///
    /// # Errors
    ///
    /// When the machine lacks a tool, a right, or a kernel feature.
    pub fn new() -> Result<Self> {
        Self::build(Plan::default())
    }

    /// Builds one to a plan. Waits while another is up in this process.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn build(plan: Plan) -> Result<Self> {
        // A test that failed while it held the turn has cleaned up all the same.
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let mut fabric = Fabric::new()?;
        let (router, client) = if plan.routed {
            let (router, client) = Router::with_client(&mut fabric, "client", CLIENT)?;
            (Some(router), client)
        } else {
            (None, fabric.add_host("client", CLIENT)?)
        };
        // The default range is used up by 28,000 connections a minute to one address and port.
        client.namespace.sysctl("ipv4/ip_local_port_range", "10000 65000")?;
        let balancers = (0..plan.balancers)
            .map(|index| {
                let host = fabric.add_host(&format!("balancer-{}", index + 1), FIRST_BALANCER + index)?;
                let [v4, v6] = virtual_addresses(index);
                host.add_address(v4)?;
                host.add_address(v6)?;
                Ok(host)
            })
            .collect::<Result<Vec<_>>>()?;
        let workers = (0..plan.workers)
            .map(|index| fabric.add_host(&format!("worker-{}", index + 1), FIRST_WORKER + index))
            .collect::<Result<Vec<_>>>()?;
        if let Some(router) = &router {
            for host in balancers.iter().chain(&workers) {
                router.serve(host)?;
            }
        }
        Ok(Self {
            client,
            balancers,
            workers,
            router,
            fabric,
            bpffs: Bpffs::mount()?,
            _turn: turn,
        })
    }

    /// Mount point of the BPF file system.
    pub fn bpffs(&self) -> &Path {
        self.bpffs.path()
    }

    /// A folder for files.
    pub fn directory(&self) -> &Path {
        self.bpffs.directory()
    }

    /// The workers' addresses of one family, all with the same port.
    pub fn worker_addresses(&self, like: IpAddr, port: u16) -> Vec<SocketAddr> {
        self.workers
            .iter()
            .map(|worker| SocketAddr::new(worker.address_like(like), port))
            .collect()
    }
}

/// The virtual addresses on the balancer of that index: `10.77.0.100` and `fd77::100` on the first.
pub fn virtual_addresses(balancer: u8) -> [IpAddr; 2] {
    let number = FIRST_VIRTUAL + balancer;
    [Subnet::Fabric.v4(number).into(), Subnet::Fabric.v6(number).into()]
}
