//! `lbctl vrrp`

use std::collections::BTreeMap;

use super::table::{Column, table};
use crate::api::VrrpStatus;

pub(in crate::cli) fn vrrp(routers: &[VrrpStatus]) -> String {
    const COLUMNS: &[Column<'_>] = &[
        ("name", false),
        ("role", false),
        ("priority", true),
        ("interface", false),
        ("addresses", false),
        ("master", false),
        ("sent", true),
        ("received", true),
        ("refused", false),
        ("since", false),
        ("cause", false),
    ];
    let rows = routers.iter().map(|router| {
        let master = match (router.master, router.master_priority) {
            (Some(master), Some(priority)) if router.graced => format!("{master} ({priority}), silent"),
            (Some(master), Some(priority)) => format!("{master} ({priority})"),
            _ => "-".to_owned(),
        };
        vec![
            router.name.clone(),
            if router.maintained {
                format!("{}, maintained", router.role)
            } else {
                router.role.clone()
            },
            router.effective_priority.to_string(),
            router.interface.clone(),
            router.addresses.join(" "),
            master,
            router.sent.to_string(),
            router.received.to_string(),
            refused(&router.refused),
            router.since.clone(),
            router.cause.clone(),
        ]
    });
    table(COLUMNS, rows)
}

/// Invalid adverts by reason.
fn refused(refused: &BTreeMap<String, u64>) -> String {
    let counted = refused.iter().filter(|(_, count)| **count > 0);
    let counted: Vec<_> = counted.map(|(reason, count)| format!("{count} {reason}")).collect();
    if counted.is_empty() {
        return "0".to_owned();
    }
    counted.join(", ")
}
