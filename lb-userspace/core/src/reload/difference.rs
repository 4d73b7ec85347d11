//! The differences between two configurations.
//!
//! Whether a service or backend differs follows from its validated values; which of its keys
//! differ, from the files.

use std::collections::{BTreeMap, BTreeSet};

use toml::{Table, Value};

use super::{Action, Change, Source};
use crate::{
    config::{Backend, Config, Service, Vrrp},
    text::number,
};

/// A key with dots between tables, its old value and its new value.
pub(super) type Key = (String, Option<String>, Option<String>);

/// Keys of a service whose change ends flows, and the note for that.
const CONSEQUENCES: [(&[&str], &str); 3] = [
    (
        &["address", "port", "ports", "protocol", "mode"],
        "ends the flows of the service",
    ),
    (&["source"], "ends the flows from source addresses that change"),
    (
        &["tunnel_source", "gue_port"],
        "ends the flows through tunnels that change",
    ),
];

/// A key whose value is never shown.
const SECRET: &str = "password";

/// The differences of `after` from `before`.
pub fn compare(before: &Source, after: &Source) -> Vec<Change> {
    let mut changes = Vec::new();
    if before.config.node != after.config.node {
        let keys = keys(before.document.get("node"), after.document.get("node"), &[]);
        changes.extend(keys.into_iter().map(|key| changed(Subject::Node, key, None)));
    }
    if before.config.api != after.config.api {
        let keys = keys(before.document.get("api"), after.document.get("api"), &[]);
        let named = keys.into_iter().map(|(key, old, new)| (format!("api.{key}"), old, new));
        changes.extend(named.map(|key| changed(Subject::Node, key, None)));
    }
    changes.extend(routers(before, after));
    let (old, new) = (services(before), services(after));
    for after in &new {
        match old.iter().find(|before| before.model.name == after.model.name) {
            None => changes.push(whole(
                Action::Added,
                Subject::Service(&after.model.name),
                front(after.model),
            )),
            Some(before) if before.model != after.model => changes.extend(service(before, after)),
            Some(_) => {}
        }
    }
    let renamed = renamed(&before.config, &after.config);
    let is_gone = |before: &&Placed<'_>| new.iter().all(|after| before.model.name != after.model.name);
    for before in old.iter().filter(is_gone) {
        let consequence = match renamed.get(&before.model.name) {
            Some(name) => format!("renamed to {name}; its flows continue"),
            None => format!("{}; ends the flows of the service", front(before.model)),
        };
        changes.push(whole(
            Action::Removed,
            Subject::Service(&before.model.name),
            consequence,
        ));
    }
    changes
}

/// Renamed services: same address, ports, protocol and mode under a new name. Old name to new name.
pub fn renamed(before: &Config, after: &Config) -> BTreeMap<String, String> {
    let seen = |service: &Service| (service.address, service.ports, service.protocol, service.mode);
    let named = |config: &Config| {
        config
            .services
            .iter()
            .map(|service| service.name.clone())
            .collect::<BTreeSet<_>>()
    };
    let (old, new) = (named(before), named(after));
    let mut added = after
        .services
        .iter()
        .filter(|service| !old.contains(&service.name))
        .collect::<Vec<_>>();
    let gone = before.services.iter().filter(|service| !new.contains(&service.name));
    gone.filter_map(|gone| {
        let place = added.iter().position(|added| seen(added) == seen(gone))?;
        Some((gone.name.clone(), added.swap_remove(place).name.clone()))
    })
    .collect()
}

/// Differences of virtual routers, which are identified by name.
fn routers(before: &Source, after: &Source) -> Vec<Change> {
    let placed = |source: &Source| -> BTreeMap<String, (Vrrp, Option<Value>)> {
        let tables = source.document.get("vrrp").and_then(Value::as_array);
        let place = |(index, router): (usize, &Vrrp)| {
            let table = tables.and_then(|tables| tables.get(index)).cloned();
            (router.name.clone(), (router.clone(), table))
        };
        source.config.vrrp.iter().enumerate().map(place).collect()
    };
    let (old, new) = (placed(before), placed(after));
    let front = |router: &Vrrp| {
        let addresses: Vec<_> = router.addresses.iter().map(ToString::to_string).collect();
        format!("{} on {}", addresses.join(" "), router.interface)
    };
    let names: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let differs =
        |name: &&&String| old.get(**name).map(|(router, _)| router) != new.get(**name).map(|(router, _)| router);
    let mut changes = Vec::new();
    for name in names.iter().filter(differs) {
        let of = Subject::Router(name);
        match (old.get(*name), new.get(*name)) {
            (Some((_, before)), Some((_, after))) => {
                let keys = keys(before.as_ref(), after.as_ref(), &[]);
                changes.extend(keys.into_iter().map(|key| changed(of, key, None)));
            }
            (None, Some((router, _))) => changes.push(whole(Action::Added, of, front(router))),
            (Some((router, _)), None) => {
                changes.push(whole(
                    Action::Removed,
                    of,
                    format!("{}; releases the addresses", front(router)),
                ));
            }
            (None, None) => {}
        }
    }
    changes
}

/// A service and its table in the file.
struct Placed<'a> {
    model: &'a Service,
    table: Option<&'a Value>,
}

fn services(source: &Source) -> Vec<Placed<'_>> {
    let tables = source.document.get("service").and_then(Value::as_array);
    let place = |(index, model)| Placed {
        model,
        table: tables.and_then(|tables| tables.get(index)),
    };
    source.config.services.iter().enumerate().map(place).collect()
}

fn service(before: &Placed<'_>, after: &Placed<'_>) -> Vec<Change> {
    let name = &after.model.name;
    let mut changes: Vec<Change> = keys(before.table, after.table, &["backend", "fallback"])
        .into_iter()
        .map(|key| {
            let consequence = CONSEQUENCES.iter().find(|(keys, _)| keys.contains(&key.0.as_str()));
            changed(
                Subject::Service(name),
                key,
                consequence.map(|(_, note)| (*note).to_owned()),
            )
        })
        .collect();
    let (old, new) = (backends(before), backends(after));
    for (model, table) in &new {
        match old.iter().find(|(other, _)| other.name == model.name) {
            None => changes.push(whole(Action::Added, Subject::Backend(name, model), backend(model))),
            Some((other, before)) if other != model => changes.extend(
                keys(*before, *table, &[])
                    .into_iter()
                    .map(|key| changed(Subject::Backend(name, model), key, None)),
            ),
            Some(_) => {}
        }
    }
    let is_gone = |(before, _): &&(&Backend, _)| new.iter().all(|(after, _)| before.name != after.name);
    for (model, _) in old.iter().filter(is_gone) {
        changes.push(whole(Action::Removed, Subject::Backend(name, model), backend(model)));
    }
    changes
}

/// The backends of a service with their tables. Fallback backends come last.
fn backends<'a>(service: &Placed<'a>) -> Vec<(&'a Backend, Option<&'a Value>)> {
    let of = |key: &str| {
        let list = service.table.and_then(|table| table.get(key)).and_then(Value::as_array);
        list.into_iter().flatten()
    };
    let mut tables = of("backend").chain(of("fallback"));
    service
        .model
        .backends
        .iter()
        .map(|model| (model, tables.next()))
        .collect()
}

/// The object that differs.
#[derive(Clone, Copy)]
enum Subject<'a> {
    Node,
    Router(&'a str),
    Service(&'a str),
    Backend(&'a str, &'a Backend),
}

impl Subject<'_> {
    fn change(self, action: Action, note: Option<String>) -> Change {
        let (service, backend, vrrp) = match self {
            Self::Node => (None, None, None),
            Self::Router(name) => (None, None, Some(name)),
            Self::Service(name) => (Some(name), None, None),
            Self::Backend(service, backend) => (Some(service), Some(&*backend.name), None),
        };
        Change {
            action,
            service: service.map(str::to_owned),
            backend: backend.map(str::to_owned),
            vrrp: vrrp.map(str::to_owned),
            key: None,
            before: None,
            after: None,
            note,
        }
    }
}

fn changed(of: Subject<'_>, key: Key, note: Option<String>) -> Change {
    let (key, mut before, mut after) = key;
    if key.rsplit('.').next() == Some(SECRET) {
        // Only the fact that it differs is shown.
        for value in [&mut before, &mut after].into_iter().flatten() {
            "(not shown)".clone_into(value);
        }
    }
    Change {
        key: Some(key),
        before,
        after,
        ..of.change(Action::Changed, note)
    }
}

fn whole(action: Action, of: Subject<'_>, note: String) -> Change {
    of.change(action, Some(note))
}

fn front(service: &Service) -> String {
    let at = std::net::SocketAddr::new(service.address, service.ports.low);
    let protocol = service.protocol.name();
    let backends = number(service.backends.len() as u64, "backend");
    if service.ports.count() > 1 {
        format!("{at}-{}, {protocol}, {backends}", service.ports.high)
    } else {
        format!("{at}, {protocol}, {backends}")
    }
}

fn backend(backend: &Backend) -> String {
    let at = match backend.address.port() {
        0 => backend.address.ip().to_string(),
        _ => backend.address.to_string(),
    };
    if backend.fallback {
        format!("{at}, fallback")
    } else {
        format!("{at}, weight {}", backend.weight)
    }
}

/// The keys in which two tables differ, without those in `but`.
pub(super) fn keys(before: Option<&Value>, after: Option<&Value>, but: &[&str]) -> Vec<Key> {
    let flat = |value: Option<&Value>| {
        let mut found = BTreeMap::new();
        if let Some(Value::Table(table)) = value {
            flatten("", table, but, &mut found);
        }
        found
    };
    let (before, after) = (flat(before), flat(after));
    let all: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    all.into_iter()
        .filter(|key| before.get(*key) != after.get(*key))
        .map(|key| (key.clone(), before.get(key).cloned(), after.get(key).cloned()))
        .collect()
}

fn flatten(path: &str, table: &Table, but: &[&str], found: &mut BTreeMap<String, String>) {
    for (key, value) in table.iter().filter(|(key, _)| !but.contains(&key.as_str())) {
        let path = if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        match value {
            Value::Table(inner) => flatten(&path, inner, &[], found),
            value => drop(found.insert(path, value.to_string())),
        }
    }
}
