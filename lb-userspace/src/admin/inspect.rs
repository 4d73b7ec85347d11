//! What the admin API reads from the controller.

use crate::api::{BackendStatus, FlowCount, FlowFilter, FlowPage, NodeStatus, ServiceStatus, VrrpStatus};

/// Shows the state of the controller. The methods may block: they are called on threads for that.
pub trait Inspect: Send + Sync {
    /// The node.
    ///
    /// # Errors
    ///
    /// If the maps cannot be read; the same for the other methods.
    fn node(&self) -> Result<NodeStatus, InspectError>;

    /// Every service, in the order of the configuration.
    ///
    /// # Errors
    ///
    /// See [`Inspect::node`].
    fn services(&self) -> Result<Vec<ServiceStatus>, InspectError>;

    /// One service; `None` if it does not exist.
    ///
    /// # Errors
    ///
    /// See [`Inspect::node`].
    fn service(&self, name: &str) -> Result<Option<ServiceStatus>, InspectError> {
        Ok(self.services()?.into_iter().find(|service| service.name == name))
    }

    /// The backends of one service or of all, in the order of the configuration. An unknown service
    /// has none.
    ///
    /// # Errors
    ///
    /// See [`Inspect::node`].
    fn backends(&self, service: Option<&str>) -> Result<Vec<BackendStatus>, InspectError>;

    /// At most `limit` flows that match the filter, from the cursor `after`; 0 is the begin of the
    /// table.
    ///
    /// # Errors
    ///
    /// See [`Inspect::node`].
    fn flows(&self, filter: &FlowFilter, after: u64, limit: usize) -> Result<FlowPage, InspectError>;

    /// The virtual routers, in the order of the configuration.
    ///
    /// # Errors
    ///
    /// See [`Inspect::node`].
    fn vrrp(&self) -> Result<Vec<VrrpStatus>, InspectError>;

    /// The number of flows that match the filter.
    ///
    /// # Errors
    ///
    /// See [`Inspect::node`].
    fn count_flows(&self, filter: &FlowFilter) -> Result<FlowCount, InspectError>;
}

/// The state could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct InspectError(#[source] Box<dyn std::error::Error + Send + Sync>);

impl InspectError {
    /// From a cause, such as an error of the dataplane.
    pub fn new(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(cause.into())
    }
}
