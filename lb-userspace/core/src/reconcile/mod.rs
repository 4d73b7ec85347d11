//! Reconciliation: desired state, observed state, the plan that turns one into the other, and its
//! application.

pub mod apply;
pub mod classes;
pub mod condition;
pub mod desired;
mod entries;
#[cfg(test)]
mod fake;
mod guarded;
mod listing;
pub mod observed;
mod panic;
pub mod plan;
mod ring_space;
pub mod store;
#[cfg(test)]
mod tests;

pub use apply::{ApplyError, apply};
pub use classes::Classes;
pub use condition::{Condition, conditions};
pub use desired::{Desired, Known, desired};
pub use entries::{Front, front};
pub use guarded::{GuardVerdict, Guarded};
pub use listing::{Listing, VirtualAddress};
pub use observed::{Observed, observe};
pub use plan::{Plan, Step, plan, plan_with};
pub use store::Store;
