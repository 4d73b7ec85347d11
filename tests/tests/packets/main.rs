//! Packet tables: packets go through the XDP program with `BPF_PROG_TEST_RUN`, without any network.

mod bucket_spills;
mod edge_cases;
mod explain;
mod flow_entries;
mod forwarding;
mod fuzz;
mod hammer;
mod virtual_routers;
mod worker_signals;
