//! The identity of a backend outside the maps: names of service and backend.

/// A backend of a service, by the names in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendId {
    /// Name of the service.
    pub service: String,
    /// Name of the backend.
    pub backend: String,
}
