//! Real traffic between network namespaces, through a running `lbd`.

mod balance;
mod changes;
mod failure;
mod harness_itself;
mod health;
mod interfaces;
mod lifecycle;
mod modes;
mod passive_checks;
mod soak;
mod upgrade;
mod vip_checks;
mod worker_setup;
