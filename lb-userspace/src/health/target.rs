//! What is checked: the backends of a configuration with all that their checks need.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use super::{
    Means, MeansError,
    through::{self, Way, stand_in},
};
use lb_core::config::{BackendId, CheckTarget, Config, HealthCheck};

/// What to ask.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where to ask.
    pub address: SocketAddr,
    /// What, and how often.
    pub check: Arc<HealthCheck>,
    /// What that takes besides.
    pub means: Means,
    /// How a check of the virtual address gets to the worker, for which `address` is a stand-in then; `None`: the worker's
    /// own address is asked.
    pub way: Option<Arc<Way>>,
    /// Addresses that no check of a virtual address comes from: all virtual ones.
    pub avoided: Arc<BTreeSet<IpAddr>>,
}

impl PartialEq for Target {
    fn eq(&self, other: &Self) -> bool {
        // Addresses to avoid matter to checks that choose one; all others go on, whatever services come and go.
        self.address == other.address
            && self.check == other.check
            && self.means == other.means
            && self.way == other.way
            && (self.way.is_none() || self.avoided == other.avoided)
    }
}

impl Eq for Target {}

impl Target {
    /// Whether what was found about one says something about the other.
    pub(super) fn asks_the_same(&self, other: &Self) -> bool {
        self.address == other.address
            && self.way == other.way
            && self.check.probe == other.check.probe
            && self.means == other.means
    }
}

/// All that is checked.
pub type Targets = BTreeMap<BackendId, Target>;

/// A check cannot be made on this machine.
#[derive(Debug, thiserror::Error)]
#[error("the health check of {}/{}: {cause}", id.service, id.backend)]
pub struct TargetError {
    /// Whose.
    pub id: BackendId,
    /// Why.
    pub cause: MeansError,
}

/// What is to be checked of a configuration.
///
/// # Errors
///
/// When a file that a check needs cannot be used, or its user is not there.
pub fn targets(config: &Config) -> Result<Targets, TargetError> {
    // Backends of one service share their check, and what it takes.
    let mut known: HashMap<*const HealthCheck, Means> = HashMap::new();
    let addresses = config.services.iter().map(|service| service.address);
    let avoided: Arc<BTreeSet<IpAddr>> = Arc::new(addresses.collect());
    let device = through::device(&config.node.name);
    let mut stand_ins = HashSet::new();
    let mut targets = BTreeMap::new();
    for service in &config.services {
        for backend in &service.backends {
            let Some(check) = &backend.health else { continue };
            let id = BackendId {
                service: service.name.clone(),
                backend: backend.name.clone(),
            };
            let means = match known.get(&Arc::as_ptr(check)) {
                Some(means) => means.clone(),
                None => match Means::of(&check.probe) {
                    Ok(means) => means,
                    Err(cause) => return Err(TargetError { id, cause }),
                },
            };
            known.insert(Arc::as_ptr(check), means.clone());
            let port = check.port.unwrap_or(backend.address.port());
            let way = match check.target {
                CheckTarget::Backend => None,
                CheckTarget::Virtual { source } => Some(Arc::new(Way::to(&device, service, backend, source))),
            };
            let address = match way {
                None => backend.address.ip(),
                Some(_) => unused(&id, service.address, &mut stand_ins),
            };
            let target = Target {
                address: SocketAddr::new(address, port),
                check: Arc::clone(check),
                means,
                way,
                avoided: Arc::clone(&avoided),
            };
            targets.insert(id, target);
        }
    }
    Ok(targets)
}

/// A stand-in that no other target has.
fn unused(id: &BackendId, like: IpAddr, taken: &mut HashSet<IpAddr>) -> IpAddr {
    let mut turn = 0;
    loop {
        let address = stand_in(id, like, turn);
        if taken.insert(address) {
            return address;
        }
        turn += 1;
    }
}
