//! What virtual routers depend on: followed on ordinary threads, so that nothing of it holds up the one of VRRP.

mod follow;
mod standing;

pub(super) use follow::{Follower, News};
pub(super) use standing::Standing;
pub use standing::{ServiceHealth, Services, TrackState};
