//! The file as written: known keys with the right TOML types, not validated.
//!
//! Every key is optional here, so that [`super::validate`] can report missing keys together with
//! all other problems. `docs/configuration.md` describes each key; tests hold it against these
//! types.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, Visitor},
};
use toml::Spanned;

/// A value with its place in the file. `None`: the key is not set.
pub(super) type Given<T> = Option<Spanned<T>>;

/// A list of values, each with its place in the file.
pub(super) type List<T> = Spanned<Vec<Spanned<T>>>;

/// Strings by name, each with its place in the file.
pub(super) type Words = BTreeMap<Spanned<String>, Spanned<String>>;

/// Any integer that TOML can carry, so that one range check covers all of them.
pub(super) type Number = i128;

/// The expected form of a duration.
pub(super) const DURATION_EXPECTED: &str = "a duration such as \"10s\", \"1h 30m\" or \"200ms\"";

/// The expected form of a status.
pub(super) const STATUS_EXPECTED: &str = "a status code such as 200, or a range such as \"200-299\", from 100 to 599";

/// The expected form of a rate.
pub(super) const RATE_EXPECTED: &str = "a rate such as 100 or \"100/s\"";

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct File {
    pub(super) node: Given<Node>,
    pub(super) api: Given<Api>,
    #[serde(default)]
    pub(super) service: Vec<Spanned<Service>>,
    #[serde(default)]
    pub(super) vrrp: Vec<Spanned<Vrrp>>,
}

/// `[node]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Node {
    pub(super) name: Given<String>,
    pub(super) interfaces: Option<List<String>>,
    pub(super) xdp_mode: Given<String>,
    pub(super) state_dir: Given<String>,
    pub(super) bpffs: Given<String>,
    pub(super) socket: Given<String>,
    pub(super) packet_log: Given<String>,
    pub(super) nat_ports: Given<String>,
    #[serde(default)]
    pub(super) tunnel: Tunnel,
    #[serde(default)]
    pub(super) capacity: Capacity,
}

/// `[api]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Api {
    pub(super) read_group: Given<String>,
    pub(super) admin_group: Given<String>,
    pub(super) listen: Given<String>,
    pub(super) read_token_file: Given<String>,
    pub(super) admin_token_file: Given<String>,
    pub(super) certificate: Given<String>,
    pub(super) key: Given<String>,
    pub(super) plaintext: Given<bool>,
}

/// `[[vrrp]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Vrrp {
    pub(super) name: Given<String>,
    pub(super) interface: Given<String>,
    pub(super) group: Given<String>,
    pub(super) router_id: Given<Number>,
    pub(super) addresses: Option<List<String>>,
    pub(super) version: Given<Number>,
    pub(super) priority: Given<Number>,
    pub(super) interval: Given<DurationText>,
    pub(super) grace: Given<DurationText>,
    pub(super) relay: Given<DurationText>,
    pub(super) refresh: Given<DurationText>,
    pub(super) peers: Option<List<String>>,
    pub(super) source: Given<String>,
    pub(super) preempt: Given<bool>,
    pub(super) preempt_delay: Given<DurationText>,
    pub(super) accept: Given<bool>,
    pub(super) router_mac: Given<bool>,
    pub(super) checksum: Given<String>,
    pub(super) password: Given<String>,
    #[serde(default)]
    pub(super) track: Vec<Spanned<Track>>,
    pub(super) hook: Given<Hook>,
}

/// `[[vrrp.track]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Track {
    pub(super) interface: Given<String>,
    pub(super) service: Given<String>,
    pub(super) quorum: Given<Number>,
    pub(super) file: Given<String>,
    pub(super) expect: Given<String>,
    pub(super) argv: Option<List<String>>,
    pub(super) environment: Given<Words>,
    pub(super) user: Given<String>,
    pub(super) interval: Given<DurationText>,
    pub(super) timeout: Given<DurationText>,
    pub(super) rise: Given<Number>,
    pub(super) fall: Given<Number>,
    pub(super) weight: Given<Number>,
}

impl Track {
    /// Its keys, each with the place where it is set.
    pub(super) fn places(&self) -> Vec<(&'static str, Option<std::ops::Range<usize>>)> {
        macro_rules! places {
            ($($key:ident),+) => {
                vec![ $( (stringify!($key), self.$key.as_ref().map(Spanned::span)) ),+ ]
            };
        }
        places!(
            interface,
            service,
            quorum,
            file,
            expect,
            argv,
            environment,
            user,
            interval,
            timeout,
            rise,
            fall
        )
    }
}

/// `[vrrp.hook]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Hook {
    pub(super) argv: Option<List<String>>,
    pub(super) environment: Given<Words>,
    pub(super) user: Given<String>,
    pub(super) timeout: Given<DurationText>,
}

/// `[node.tunnel]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Tunnel {
    pub(super) source_v4: Given<String>,
    pub(super) source_v6: Given<String>,
    pub(super) gue_port: Given<Number>,
}

/// `[node.capacity]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Capacity {
    pub(super) flows_v4: Given<Number>,
    pub(super) flows_v6: Given<Number>,
    pub(super) services: Given<Number>,
    pub(super) backends: Given<Number>,
    pub(super) ring_slots: Given<Number>,
}

/// `[[service]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Service {
    pub(super) name: Given<String>,
    pub(super) address: Given<String>,
    pub(super) port: Given<Number>,
    pub(super) ports: Given<String>,
    pub(super) protocol: Given<String>,
    pub(super) mode: Given<String>,
    pub(super) scheduler: Given<String>,
    pub(super) source_prefix: Given<Number>,
    pub(super) slow_start: Given<DurationText>,
    pub(super) source: Option<List<String>>,
    pub(super) toa: Given<bool>,
    pub(super) tunnel_source: Given<String>,
    pub(super) gue_port: Given<Number>,
    pub(super) allow: Option<List<String>>,
    pub(super) deny: Option<List<String>>,
    pub(super) connection_limit: Given<Number>,
    pub(super) source_rate: Given<Rate>,
    pub(super) source_burst: Given<Number>,
    pub(super) syn_flood_rate: Given<Number>,
    pub(super) on_backend_down: Given<String>,
    pub(super) drain_timeout: Given<DurationText>,
    #[serde(default)]
    pub(super) timeouts: Timeouts,
    pub(super) health: Given<Health>,
    #[serde(default)]
    pub(super) backend: Vec<Spanned<Backend>>,
    #[serde(default)]
    pub(super) fallback: Vec<Spanned<Fallback>>,
}

/// `[service.timeouts]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Timeouts {
    pub(super) opening: Given<DurationText>,
    pub(super) established: Given<DurationText>,
    pub(super) closing: Given<DurationText>,
    pub(super) time_wait: Given<DurationText>,
    pub(super) closed: Given<DurationText>,
    pub(super) udp: Given<DurationText>,
}

/// `[service.health]`, and `health` of a backend.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Health {
    #[serde(rename = "type")]
    pub(super) kind: Given<String>,
    pub(super) path: Given<String>,
    pub(super) method: Given<String>,
    pub(super) host: Given<String>,
    pub(super) headers: Given<Words>,
    pub(super) status: Option<List<Status>>,
    pub(super) body_contains: Given<String>,
    pub(super) body_matches: Given<String>,
    pub(super) tls: Given<bool>,
    pub(super) server_name: Given<String>,
    pub(super) verify: Given<bool>,
    pub(super) ca_file: Given<String>,
    pub(super) certificate: Given<String>,
    pub(super) key: Given<String>,
    pub(super) grpc_service: Given<String>,
    pub(super) send: Given<String>,
    pub(super) send_hex: Given<String>,
    pub(super) reply_contains: Given<String>,
    pub(super) reply_matches: Given<String>,
    pub(super) require_reply: Given<bool>,
    pub(super) query: Given<String>,
    pub(super) record: Given<String>,
    pub(super) answers: Option<List<String>>,
    pub(super) argv: Option<List<String>>,
    pub(super) environment: Given<Words>,
    pub(super) user: Given<String>,
    pub(super) target: Given<String>,
    pub(super) source: Given<String>,
    pub(super) port: Given<Number>,
    pub(super) interval: Given<DurationText>,
    pub(super) fast_interval: Given<DurationText>,
    pub(super) jitter: Given<Number>,
    pub(super) timeout: Given<DurationText>,
    pub(super) rise: Given<Number>,
    pub(super) fall: Given<Number>,
    pub(super) initial: Given<String>,
    pub(super) flap_limit: Given<Number>,
    pub(super) flap_period: Given<DurationText>,
    pub(super) panic_threshold: Given<Number>,
    pub(super) passive: Given<bool>,
}

/// `[[service.backend]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Backend {
    pub(super) name: Given<String>,
    pub(super) address: Given<String>,
    pub(super) port: Given<Number>,
    pub(super) weight: Given<Number>,
    pub(super) health: Given<Health>,
}

/// `[[service.fallback]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Fallback {
    pub(super) name: Given<String>,
    pub(super) address: Given<String>,
    pub(super) port: Given<Number>,
    pub(super) health: Given<Health>,
}

/// A duration as text. A type of its own, so that the error for a bare number shows the form of a
/// duration.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct DurationText(pub(super) String);

impl<'de> Deserialize<'de> for DurationText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = DurationText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(DURATION_EXPECTED)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(DurationText(text.to_owned()))
            }
        }

        deserializer.deserialize_str(Text)
    }
}

/// A status code, or a range of codes as text.
#[derive(Clone, Debug)]
pub(super) enum Status {
    Code(i64),
    Range(String),
}

impl<'de> Deserialize<'de> for Status {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CodeOrRange;

        impl Visitor<'_> for CodeOrRange {
            type Value = Status;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(STATUS_EXPECTED)
            }

            fn visit_i64<E: de::Error>(self, code: i64) -> Result<Self::Value, E> {
                Ok(Status::Code(code))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Status::Range(text.to_owned()))
            }
        }

        deserializer.deserialize_any(CodeOrRange)
    }
}

/// A rate per second: a number, or text such as `100/s`.
#[derive(Debug)]
pub(super) enum Rate {
    Number(i64),
    Words(String),
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrWords;

        impl Visitor<'_> for NumberOrWords {
            type Value = Rate;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(RATE_EXPECTED)
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
                Ok(Rate::Number(number))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Rate::Words(text.to_owned()))
            }
        }

        deserializer.deserialize_any(NumberOrWords)
    }
}
