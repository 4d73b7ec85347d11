//! What a backend is called everywhere but in the maps.

/// A backend of a service, by the names of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendId {
    /// Name of the service.
    pub service: String,
    /// Name of the backend.
    pub backend: String,
}
