//! VRRP between balancers, and with other implementations: addresses move between network
//! namespaces.

mod adverts;
mod deployment;
mod frr;
mod network_changes;
mod orphans;
mod pair;
mod router_mac;
mod stalls;
mod tracking;
