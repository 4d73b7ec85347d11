//! `lbctl map`

use serde_json::Value;

use super::{
    super::fit,
    table::{Column, bytes, is_too_wide, prose, table},
};
use crate::dataplane::{MapUsage, dump::MapSummary};

pub(in crate::cli) fn maps(maps: &[MapSummary]) -> String {
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

pub(in crate::cli) fn usage(usage: &[MapUsage]) -> String {
    const COLUMNS: &[Column<'_>] = &[("map", false), ("used", true), ("of", true), ("memory", true)];
    let used = |map: &MapUsage| map.used.map_or_else(|| "-".to_owned(), |used| used.to_string());
    table(
        COLUMNS,
        usage
            .iter()
            .map(|map| vec![map.name.clone(), used(map), map.capacity.to_string(), bytes(map.bytes)]),
    )
}

/// Entries of a map as a table with the fields of the first entry as columns. If that is wider than
/// the terminal, entries are shown one by one.
pub(in crate::cli) fn entries(entries: &[Value]) -> String {
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

/// One entry: its key and its non-empty fields, in lines of at most `width` characters.
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn entries_of_a_map_become_a_table_of_their_fields() {
        let found = [json!({ "key": { "address": "192.0.2.1", "port": 80 }, "service": 3 })];
        assert_eq!(entries(&found), "key           service\n192.0.2.1 80        3\n");
        assert_eq!(entries(&[]), "no entries in use\n");
    }

    #[test]
    fn a_single_entry_shows_its_key_and_non_empty_fields() {
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
}
