//! Flow maintenance: ends silent flows, resets clients of dead backends, corrects counters.

mod challenge;
mod client_hops;
mod drift;
mod flush;
pub mod sweep;
mod sweep_thread;

pub(in crate::daemon) use flush::Flusher;
pub(in crate::daemon) use sweep_thread::SweepThread;
