//! `lbctl node`

use lb_core::text::number;

use super::table::prose;
use crate::api::{InterfaceStatus, NodeStatus};

pub(in crate::cli) fn node(status: &NodeStatus) -> String {
    let mut text = format!(
        "node       {}\nversion    {} (map layout {})\nprocess    {}, since {} ({} s)\nconfig     {}\n",
        status.name,
        status.version,
        status.map_abi,
        status.pid,
        status.started_at,
        status.uptime_seconds,
        status.config_path.display(),
    );
    for interface in &status.interfaces {
        text += &format!("interface  {}\n", attached(interface));
    }
    let conditions = status
        .services
        .iter()
        .map(|(condition, count)| format!("{count} {condition}"));
    text += &format!("services   {}\n", conditions.collect::<Vec<_>>().join(", "));
    for (family, table) in [("v4", &status.flows.v4), ("v6", &status.flows.v6)] {
        text += &format!("flows {family}   {} of {} entries\n", table.entries, table.capacity);
    }
    let change = status.reconcile.last_change.as_deref().unwrap_or("never");
    text += &format!(
        "maps       compared {}, last change {change}\n",
        number(status.reconcile.runs, "time")
    );
    if let Some(error) = &status.reconcile.last_error {
        text += &format!("problem    {error}\n");
    }
    for warning in &status.warnings {
        text += &format!("warning    {warning}\n");
    }
    let counted = lb_common::Outcome::ALL
        .iter()
        .filter_map(|outcome| Some((outcome, *status.outcomes.get(outcome.name())?)))
        .filter(|(_, count)| *count > 0)
        .map(|(outcome, count)| vec![outcome.name().to_owned(), count.to_string(), outcome.help().to_owned()]);
    text + "\n" + &prose(&[("outcome", false), ("packets", true), ("meaning", false)], counted)
}

/// An interface, and how the XDP program is attached to it.
fn attached(interface: &InterfaceStatus) -> String {
    let InterfaceStatus {
        name,
        ifindex,
        xdp_mode,
        ..
    } = interface;
    match (ifindex, xdp_mode.as_str()) {
        (0, _) => format!("{name}: does not exist"),
        (index, "none") => format!("{name} (index {index}): no XDP program attached"),
        (index, mode) => format!("{name} (index {index}): {mode} XDP"),
    }
}
