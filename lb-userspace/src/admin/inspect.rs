//! What the admin API asks the controller.

use crate::api::{BackendStatus, FlowCount, FlowFilter, FlowPage, NodeStatus, ServiceStatus, VrrpStatus};

/// Answers the questions of the admin API. The methods may block: they are called on threads that are for that.
pub trait Inspect: Send + Sync {
    /// The node.
    ///
    /// # Errors
    ///
    /// When something that is asked for cannot be read; so with all of these.
    fn node(&self) -> Result<NodeStatus, InspectError>;

    /// Every service, in the order of the configuration.
    ///
    /// # Errors
    ///
    /// See [`Inspect::node`].
    fn services(&self) -> Result<Vec<ServiceStatus>, InspectError>;

    /// One service; `None`: it is not there.
    ///
    /// # Errors
    ///
    /// See [`Inspect::node`].
    fn service(&self, name: &str) -> Result<Option<ServiceStatus>, InspectError> {
        Ok(self.services()?.into_iter().find(|service| service.name == name))
    }

    /// The backends of one service or of all, in the order of the configuration. A service that is not there has none.
    ///
    /// # Errors
    ///
    /// See [`Inspect::node`].
    fn backends(&self, service: Option<&str>) -> Result<Vec<BackendStatus>, InspectError>;

    /// At most `limit` of the flows that the filter lets through, from the place `after` on; 0 is the first one.
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

    /// How many flows there are.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    fn count_flows(&self, filter: &FlowFilter) -> Result<FlowCount, InspectError>;
}

/// A question could not be answered.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct InspectError(#[source] Box<dyn std::error::Error + Send + Sync>);

impl InspectError {
    /// From what is in the way, such as an error of the dataplane.
    pub fn new(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(cause.into())
    }
}
