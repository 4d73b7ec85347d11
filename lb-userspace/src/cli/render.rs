//! Answers as text: pure functions.

use std::collections::BTreeMap;

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};
use serde_json::Value;

use super::fit::{self, Last};
use crate::{
    admin::model::{BackendStatus, FlowCount, FlowPage, InterfaceStatus, NodeStatus, ServiceStatus, VrrpStatus},
    dataplane::{MapUsage, dump::MapSummary},
};
use lb_core::text::number;

/// A column: its head, and whether it holds numbers.
pub(super) type Column<'a> = (&'a str, bool);

/// A table whose long texts are cut where it does not fit.
pub(super) fn table(columns: &[Column<'_>], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    draw(columns, with_head(columns, rows), Last::Cut)
}

/// A table whose last column is prose, which goes on in further lines where it does not fit.
pub(super) fn prose(columns: &[Column<'_>], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    draw(columns, with_head(columns, rows), Last::Wraps)
}

/// A sentence that goes on in further lines where it does not fit.
pub(super) fn sentence(text: &str) -> String {
    match fit::width() {
        Some(width) => fit::wrapped(text.split(' '), " ", width).join("\n"),
        None => text.to_owned(),
    }
}

/// Whether a table is wider than the terminal that it is for.
pub(super) fn is_too_wide(columns: &[Column<'_>], rows: &[Vec<String>]) -> bool {
    fit::width().is_some_and(|width| fit::natural_width(&with_head(columns, rows.to_vec())) > width)
}

fn with_head(columns: &[Column<'_>], rows: impl IntoIterator<Item = Vec<String>>) -> Vec<Vec<String>> {
    let head = columns.iter().map(|(head, _)| (*head).to_owned()).collect();
    std::iter::once(head).chain(rows).collect()
}

fn draw(columns: &[Column<'_>], mut rows: Vec<Vec<String>>, last: Last) -> String {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    let mut numbers: Vec<bool> = columns.iter().map(|(_, number)| *number).collect();
    if let Some(width) = fit::width() {
        fit::fit(&mut rows, &mut numbers, width, last);
    }
    let mut rows = rows.into_iter().map(|row| {
        row.into_iter()
            .zip(&numbers)
            .map(|(text, number)| cell(text, *number))
            .collect::<Vec<_>>()
    });
    if let Some(head) = rows.next() {
        table.set_header(head);
    }
    table.add_rows(rows);
    table.lines().map(|line| without_edges(&line)).collect()
}

fn cell(text: String, number: bool) -> Cell {
    Cell::new(text).set_alignment(if number {
        CellAlignment::Right
    } else {
        CellAlignment::Left
    })
}

/// A count of bytes for people.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

pub(super) fn node(status: &NodeStatus) -> String {
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

/// An interface, and how the program is attached to it.
fn attached(interface: &InterfaceStatus) -> String {
    let InterfaceStatus {
        name,
        ifindex,
        xdp_mode,
        ..
    } = interface;
    match (ifindex, xdp_mode.as_str()) {
        (0, _) => format!("{name}: is not there"),
        (index, "none") => format!("{name} (index {index}): has no program"),
        (index, mode) => format!("{name} (index {index}): {mode} XDP"),
    }
}

pub(super) fn vrrp(routers: &[VrrpStatus]) -> String {
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

/// How many adverts were refused, for each reason.
fn refused(refused: &BTreeMap<String, u64>) -> String {
    let told = refused.iter().filter(|(_, count)| **count > 0);
    let told: Vec<_> = told.map(|(reason, count)| format!("{count} {reason}")).collect();
    if told.is_empty() {
        return "0".to_owned();
    }
    told.join(", ")
}

pub(super) fn services(services: &[ServiceStatus]) -> String {
    const COLUMNS: &[Column<'_>] = &[
        ("service", false),
        ("address", false),
        ("protocol", false),
        ("mode", false),
        ("scheduler", false),
        ("condition", false),
        ("up", true),
        ("active", true),
        ("embryonic", true),
        ("total", true),
    ];
    table(
        COLUMNS,
        services.iter().map(|service| {
            vec![
                service.name.clone(),
                front(service),
                service.protocol.clone(),
                service.mode.clone(),
                service.scheduler.clone(),
                service.condition.clone(),
                format!("{}/{}", service.backends_up, service.backends_total),
                service.active.to_string(),
                service.embryonic.to_string(),
                service.total.to_string(),
            ]
        }),
    )
}

/// Address and port, or ports.
fn front(service: &ServiceStatus) -> String {
    let at = std::net::SocketAddr::new(service.address, service.port);
    if service.last_port > service.port {
        format!("{at}-{}", service.last_port)
    } else {
        at.to_string()
    }
}

pub(super) fn backends(backends: &[BackendStatus]) -> String {
    const COLUMNS: &[Column<'_>] = &[
        ("service", false),
        ("backend", false),
        ("address", false),
        ("weight", true),
        ("state", false),
        ("active", true),
        ("total", true),
        ("to worker", true),
        ("to client", true),
        ("cause", false),
    ];
    table(
        COLUMNS,
        backends.iter().map(|backend| {
            let problem = backend
                .next_hop_problem
                .as_ref()
                .map(|problem| format!("; next hop: {problem}"));
            vec![
                backend.service.clone(),
                backend.name.clone(),
                match backend.address.port() {
                    0 => backend.address.ip().to_string(),
                    _ => backend.address.to_string(),
                },
                weight(backend),
                state(backend),
                backend.active.to_string(),
                backend.total.to_string(),
                bytes(backend.to_worker_bytes),
                bytes(backend.to_client_bytes),
                format!("{}{}", cause(backend), problem.unwrap_or_default()),
            ]
        }),
    )
}

/// The weight in force, and that of the configuration where an operator gave another.
fn weight(backend: &BackendStatus) -> String {
    let overridden = backend.overridden.as_ref().and_then(|own| own.weight);
    match overridden {
        _ if backend.fallback => "fallback".to_owned(),
        Some(weight) => format!("{weight} ({})", backend.configured_weight),
        None => backend.weight.to_string(),
    }
}

fn suspicion(backend: &BackendStatus) -> Option<&String> {
    backend.health.as_ref()?.suspect.as_ref()
}

/// The state of a backend, and whether it is suspect.
fn state(backend: &BackendStatus) -> String {
    match suspicion(backend) {
        Some(_) => format!("{}, suspect", backend.state),
        None => backend.state.clone(),
    }
}

/// What is held against a backend, or why it is in its state, and how far the way out of that is.
fn cause(backend: &BackendStatus) -> String {
    let cause = suspicion(backend).unwrap_or(&backend.cause);
    match backend.health.as_ref().and_then(|health| health.progress.as_ref()) {
        Some(progress) => format!("{cause}; since then {progress}"),
        None => cause.clone(),
    }
}

/// Flows by phase and by service.
pub(super) fn flow_count(count: &FlowCount) -> String {
    let service = |name: &String| match name.as_str() {
        "" => "no longer configured".to_owned(),
        name => format!("service {name}"),
    };
    let phases = count.phases.iter().map(|(phase, flows)| (phase.clone(), flows));
    let services = count.services.iter().map(|(name, flows)| (service(name), flows));
    let all = [("all".to_owned(), &count.total)].into_iter();
    let rows = all.chain(phases).chain(services);
    table(
        &[("flows", false), ("number", true)],
        rows.map(|(what, flows)| vec![what, flows.to_string()]),
    )
}

pub(super) fn flows(page: &FlowPage) -> String {
    const COLUMNS: &[Column<'_>] = &[
        ("protocol", false),
        ("client", false),
        ("virtual address", false),
        ("source", false),
        ("backend", false),
        ("service", false),
        ("phase", false),
        ("idle", true),
    ];
    let rows = page.flows.iter().map(|flow| {
        vec![
            flow.protocol.clone(),
            flow.client.to_string(),
            flow.virtual_address.to_string(),
            flow.source.to_string(),
            flow.backend.to_string(),
            flow.service.clone(),
            flow.phase.clone(),
            format!("{:.1} s", flow.idle_ms as f64 / 1000.0),
        ]
    });
    table(COLUMNS, rows)
}

pub(super) fn maps(maps: &[MapSummary]) -> String {
    const COLUMNS: &[Column<'_>] = &[
        ("map", false),
        ("kind", false),
        ("key", true),
        ("value", true),
        ("entries", true),
        ("holds", false),
    ];
    prose(
        COLUMNS,
        maps.iter().map(|map| {
            vec![
                map.name.clone(),
                map.kind.clone(),
                map.key_bytes.to_string(),
                map.value_bytes.to_string(),
                map.capacity.to_string(),
                map.help.clone(),
            ]
        }),
    )
}

pub(super) fn usage(usage: &[MapUsage]) -> String {
    const COLUMNS: &[Column<'_>] = &[("map", false), ("used", true), ("of", true), ("memory", true)];
    let used = |map: &MapUsage| map.used.map_or_else(|| "-".to_owned(), |used| used.to_string());
    table(
        COLUMNS,
        usage
            .iter()
            .map(|map| vec![map.name.clone(), used(map), map.capacity.to_string(), bytes(map.bytes)]),
    )
}

/// Entries of a map: the fields of the first are the columns. What is too wide for that is shown entry by entry.
pub(super) fn entries(entries: &[Value]) -> String {
    let Some(Value::Object(first)) = entries.first() else {
        return "no entries in use\n".to_owned();
    };
    let columns: Vec<(&str, bool)> = first
        .iter()
        .map(|(head, value)| (head.as_str(), value.is_number()))
        .collect();
    let cells = |entry: &Value| columns.iter().map(|(head, _)| plain(&entry[*head])).collect();
    let rows: Vec<Vec<String>> = entries.iter().map(cells).collect();
    match (columns.last(), fit::width()) {
        (Some(("help", _)), _) => prose(&columns, rows),
        (_, Some(width)) if is_too_wide(&columns, &rows) => {
            rows.into_iter().map(|row| record(&columns, row, width)).collect()
        }
        _ => table(&columns, rows),
    }
}

/// An entry by itself: its key, and then its fields that hold something, in lines of at most `width` characters.
fn record(columns: &[Column<'_>], row: Vec<String>, width: usize) -> String {
    const INDENT: &str = "\n  ";
    let mut cells = columns.iter().zip(row);
    let key = cells.next().map(|(_, key)| key).unwrap_or_default();
    let fields = cells.filter(|(_, value)| !value.is_empty());
    let fields: Vec<String> = fields.map(|((name, _), value)| format!("{name}={value}")).collect();
    let words = std::iter::once(key.as_str()).chain(fields.iter().map(String::as_str));
    fit::wrapped(words, " ", width.saturating_sub(INDENT.len() - 1)).join(INDENT) + "\n"
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().map(plain).collect::<Vec<_>>().join(","),
        Value::Object(fields) => fields.values().map(plain).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

/// A line of a table without the blank before its first column and those behind its last.
fn without_edges(line: &str) -> String {
    format!("{}\n", line.strip_prefix(' ').unwrap_or(line).trim_end())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_aligned_to_the_right_and_lines_have_no_blank_ends() {
        let rows = [
            vec!["a".to_owned(), "1".to_owned()],
            vec!["longer".to_owned(), "1000".to_owned()],
        ];
        let text = table(&[("name", false), ("count", true)], rows);
        assert_eq!(text, "name    count\na           1\nlonger   1000\n");
    }

    #[test]
    fn entries_of_a_map_become_a_table_of_their_fields() {
        let found = [json!({ "key": { "address": "192.0.2.1", "port": 80 }, "service": 3 })];
        assert_eq!(entries(&found), "key           service\n192.0.2.1 80        3\n");
        assert_eq!(entries(&[]), "no entries in use\n");
    }

    #[test]
    fn an_entry_by_itself_has_its_key_and_the_fields_that_hold_something() {
        let columns = [
            ("key", false),
            ("state", false),
            ("tunnel_source", false),
            ("address", false),
            ("port", true),
        ];
        let row = ["17", "up", "", "198.51.100.11", "8080"].map(str::to_owned).to_vec();
        assert_eq!(
            record(&columns, row.clone(), 80),
            "17 state=up address=198.51.100.11 port=8080\n"
        );
        assert_eq!(
            record(&columns, row, 36),
            "17 state=up address=198.51.100.11\n  port=8080\n"
        );
    }

    #[test]
    fn ports_that_a_packet_keeps_and_weights_that_do_not_count_are_not_shown() {
        let mut range = crate::admin::fake::services().remove(0);
        range.last_port = 99;
        assert!(services(&[range]).contains(" 192.0.2.10:80-99 "));
        let mut sorry = crate::admin::fake::backends().remove(0);
        sorry.fallback = true;
        sorry.address.set_port(0);
        let shown = backends(&[sorry]);
        assert!(
            shown.contains(" 198.51.100.1  ") && shown.contains(" fallback "),
            "{shown}"
        );
    }

    #[test]
    fn a_weight_by_an_operator_shows_beside_that_of_the_configuration() {
        let mut backend = crate::admin::fake::backends().remove(0);
        (backend.weight, backend.configured_weight) = (7, 1);
        backend.overridden = Some(crate::admin::model::OverrideStatus {
            intent: None,
            since: None,
            deadline: None,
            seconds_left: None,
            weight: Some(7),
        });
        let shown = backends(&[backend]);
        assert!(shown.contains(" 7 (1)  "), "{shown}");
    }

    #[test]
    fn a_suspect_shows_with_what_is_held_against_it() {
        let mut suspect = crate::admin::fake::backends().remove(0);
        let why = "3 SYNs in a row were refused".to_owned();
        suspect.health.as_mut().unwrap().suspect = Some(why.clone());
        let shown = backends(&[suspect]);
        assert!(
            shown.contains(" up, suspect ") && shown.trim_end().ends_with(&why),
            "{shown}"
        );
    }

    #[test]
    fn bytes_are_shown_for_people() {
        assert_eq!(
            [bytes(0), bytes(1023), bytes(1536), bytes(3 << 30)],
            ["0 B", "1023 B", "1.5 KiB", "3.0 GiB"]
        );
    }
}
