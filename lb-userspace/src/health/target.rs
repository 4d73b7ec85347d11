//! What to check: for each backend of a configuration its address, its check, and what the check
//! needs.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use super::{ProbeResources, ProbeResourcesError};
use lb_core::{
    config::{Backend, BackendId, CheckTarget, Config, HealthCheck, Service},
    health::{VipPath, device_name, placeholder},
};

/// A backend to check.
#[derive(Clone, Debug)]
pub struct Target {
    /// The address and port to ask. With a `vip_path`, the address is a placeholder.
    pub address: SocketAddr,
    /// What to ask, and when.
    pub check: Arc<HealthCheck>,
    /// What the check needs from this machine.
    pub resources: ProbeResources,
    /// How to reach the virtual address through this worker. `None`: the worker's own address is
    /// asked.
    pub vip_path: Option<Arc<VipPath>>,
    /// All virtual addresses. Checks with a `vip_path` do not use them as source.
    pub virtual_addresses: Arc<BTreeSet<IpAddr>>,
}

impl PartialEq for Target {
    fn eq(&self, other: &Self) -> bool {
        // A new virtual address must not restart checks that do not choose a source address.
        self.asks_the_same(other)
            && self.check == other.check
            && (self.vip_path.is_none() || self.virtual_addresses == other.virtual_addresses)
    }
}

impl Eq for Target {}

impl Target {
    /// Whether both ask the same of the same backend, so that the health of one applies to the
    /// other. Times may differ.
    pub(super) fn asks_the_same(&self, other: &Self) -> bool {
        self.address == other.address
            && self.vip_path == other.vip_path
            && self.check.probe == other.check.probe
            && self.resources == other.resources
    }
}

/// All backends to check.
pub type Targets = BTreeMap<BackendId, Target>;

/// A check that this machine cannot make.
#[derive(Debug, thiserror::Error)]
#[error("the health check of {}/{}: {cause}", id.service, id.backend)]
pub struct TargetError {
    /// The backend.
    pub id: BackendId,
    /// What is missing or unusable.
    pub cause: ProbeResourcesError,
}

/// All backends of a configuration that have a check.
///
/// # Errors
///
/// When a file that a check names cannot be used, or its user does not exist.
pub fn targets(config: &Config) -> Result<Targets, TargetError> {
    let mut builder = Builder::new(config);
    let mut targets = BTreeMap::new();
    for service in &config.services {
        for backend in &service.backends {
            let Some(check) = &backend.health else { continue };
            let id = BackendId {
                service: service.name.clone(),
                backend: backend.name.clone(),
            };
            let target = builder.target(&id, service, backend, check);
            match target {
                Ok(target) => targets.insert(id, target),
                Err(cause) => return Err(TargetError { id, cause }),
            };
        }
    }
    Ok(targets)
}

/// What the targets of a configuration share.
struct Builder {
    /// Name of the tun device.
    device: String,
    virtual_addresses: Arc<BTreeSet<IpAddr>>,
    /// Backends of one service share their check, so its resources are read once.
    resources: HashMap<*const HealthCheck, ProbeResources>,
    placeholders: HashSet<IpAddr>,
}

impl Builder {
    fn new(config: &Config) -> Self {
        let addresses = config.services.iter().map(|service| service.address);
        Self {
            device: device_name(&config.node.name),
            virtual_addresses: Arc::new(addresses.collect()),
            resources: HashMap::new(),
            placeholders: HashSet::new(),
        }
    }

    fn target(
        &mut self,
        id: &BackendId,
        service: &Service,
        backend: &Backend,
        check: &Arc<HealthCheck>,
    ) -> Result<Target, ProbeResourcesError> {
        let resources = self.resources(check)?;
        let vip_path = match check.target {
            CheckTarget::Backend => None,
            CheckTarget::Virtual { source } => Some(Arc::new(VipPath::to(&self.device, service, backend, source))),
        };
        let address = match vip_path {
            None => backend.address.ip(),
            Some(_) => self.unused_placeholder(id, service.address),
        };
        let port = check.port.unwrap_or(backend.address.port());
        Ok(Target {
            address: SocketAddr::new(address, port),
            check: Arc::clone(check),
            resources,
            vip_path,
            virtual_addresses: Arc::clone(&self.virtual_addresses),
        })
    }

    fn resources(&mut self, check: &Arc<HealthCheck>) -> Result<ProbeResources, ProbeResourcesError> {
        if let Some(known) = self.resources.get(&Arc::as_ptr(check)) {
            return Ok(known.clone());
        }
        let resources = ProbeResources::load(&check.probe)?;
        self.resources.insert(Arc::as_ptr(check), resources.clone());
        Ok(resources)
    }

    /// A placeholder address that no other target has.
    fn unused_placeholder(&mut self, id: &BackendId, like: IpAddr) -> IpAddr {
        let mut attempt = 0;
        loop {
            let address = placeholder(id, like, attempt);
            if self.placeholders.insert(address) {
                return address;
            }
            attempt += 1;
        }
    }
}
