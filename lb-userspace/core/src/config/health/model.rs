//! Health checks after validation.

use std::{collections::BTreeMap, fmt, net::IpAddr, path::PathBuf, time::Duration};

use regex::bytes::Regex;

use crate::config::Tls;

/// How a backend is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What the check asks.
    pub probe: Probe,
    /// The address that it asks.
    pub target: CheckTarget,
    /// The port that it asks. `None`: the backend's port.
    pub port: Option<u16>,
    /// When it is made.
    pub timing: Timing,
    /// What its results mean.
    pub rules: Rules,
}

/// The address that a check asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckTarget {
    /// The worker's own address.
    Backend,
    /// The virtual address, by the same path to this worker as packets of clients.
    Virtual {
        /// The source address of the check. `None`: the source address that this machine uses
        /// towards the worker.
        source: Option<IpAddr>,
    },
}

/// When a backend is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// From the start of one check to the start of the next: 10 ms to 24 h, default 2 s.
    pub interval: Duration,
    /// The interval while results contradict the verdict, and without a verdict: 10 ms to
    /// `interval`, default `interval`.
    pub fast_interval: Duration,
    /// Percent by which intervals vary at random, in both directions: 0 to 50, default 10.
    pub jitter: u32,
    /// How long a check may take: 1 ms to `interval`, default 1 s or `interval` if that is shorter.
    pub timeout: Duration,
}

/// When results change the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Successes in a row that bring a backend up: 1 to 100, default 2.
    pub rise: u32,
    /// Failures in a row that take a backend down: 1 to 100, default 3.
    pub fall: u32,
    /// The state of a backend before its first verdict.
    pub initial: Initial,
    /// Flap damping. `None`: off, which is the default.
    pub flaps: Option<Flaps>,
}

/// The state of a backend before its first verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Initial {
    /// It takes no new flows. The first result decides.
    #[default]
    Unknown,
    /// It takes flows. `fall` failures take it down.
    Up,
    /// It takes no new flows. `rise` successes bring it up.
    Down,
}

/// Flap damping: a backend that goes down too often must stay healthy for longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flaps {
    /// A backend that went down so often within `period` comes up only after it was healthy for a
    /// whole `period`: 1 to 100.
    pub limit: u32,
    /// The period for `limit`: 1 s to 24 h, default 5 min.
    pub period: Duration,
}

/// What a health check asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// The backend must accept a TCP connection.
    Tcp,
    /// The response to an HTTP/1.1 request must be as expected.
    Http(HttpProbe),
    /// The gRPC health service must report `SERVING`.
    Grpc(GrpcProbe),
    /// The reply to a datagram must be as expected.
    Udp(UdpProbe),
    /// The backend must resolve a name as expected.
    Dns(DnsProbe),
    /// The backend must reply to an echo request.
    Icmp,
    /// A command must end with status 0.
    Command(CommandProbe),
}

impl Probe {
    /// Its TLS client. `None`: it does not use TLS.
    pub fn tls(&self) -> Option<&TlsClient> {
        match self {
            Self::Http(probe) => probe.tls.as_ref(),
            Self::Grpc(probe) => probe.tls.as_ref(),
            Self::Tcp | Self::Udp(_) | Self::Dns(_) | Self::Icmp | Self::Command(_) => None,
        }
    }

    /// Whether it asks a port: all but `icmp` and `command`.
    pub fn has_port(&self) -> bool {
        !matches!(self, Self::Icmp | Self::Command(_))
    }
}

/// An HTTP health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpProbe {
    /// Method, such as `GET`.
    pub method: String,
    /// Path and query, beginning with `/`.
    pub path: String,
    /// Host header. `None`: the backend's address and port.
    pub host: Option<String>,
    /// Further headers, by their name.
    pub headers: BTreeMap<String, String>,
    /// Inclusive ranges of status codes that count as success.
    pub status: Vec<(u16, u16)>,
    /// What the body must contain. `None`: it is not read.
    pub body: Option<Pattern>,
    /// The TLS client of `https`. `None`: `http`.
    pub tls: Option<TlsClient>,
}

/// A check by the gRPC health checking protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcProbe {
    /// Name of the service to ask about. Empty: the server as a whole.
    pub service: String,
    /// `:authority`. `None`: the backend's address and port.
    pub host: Option<String>,
    /// The TLS client. `None`: HTTP/2 without TLS.
    pub tls: Option<TlsClient>,
}

/// How a check uses TLS, as the client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TlsClient {
    /// The name that the certificate must have. It is sent as SNI unless it is an address. `None`:
    /// the backend's address.
    pub server_name: Option<String>,
    /// Whether the certificate is verified. Default: true.
    pub verify: bool,
    /// File with trusted certificates, in PEM. `None`: those of the system.
    pub ca_file: Option<PathBuf>,
    /// Client certificate and its key. `None`: the check has none.
    pub identity: Option<Tls>,
}

/// A check by one datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpProbe {
    /// The datagram, 1 to 1200 bytes.
    pub payload: Vec<u8>,
    /// What the reply must contain. `None`: anything.
    pub reply: Option<Pattern>,
    /// Whether a reply is required. If not, the check succeeds unless an ICMP error arrives before
    /// the timeout. Default: true.
    pub require_reply: bool,
}

/// A check of a name server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsProbe {
    /// The name to resolve.
    pub name: String,
    /// The record type, such as `A`.
    pub record: String,
    /// Expected answers, at least one of which must be present. Empty: any answer.
    pub answers: Vec<String>,
    /// Whether the query is sent by TCP; else by UDP.
    pub tcp: bool,
}

/// A check by a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandProbe {
    /// Program, by its absolute path, and arguments: 1 to 64 items.
    pub argv: Vec<String>,
    /// Variables of its environment, in addition to those that every command gets.
    pub environment: BTreeMap<String, String>,
    /// Name of the user that runs it. Not root.
    pub user: String,
}

/// A text to search for.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    regex: Option<Regex>,
}

impl Pattern {
    /// Searches for a plain text.
    pub fn contains(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            regex: None,
        }
    }

    /// Searches for a match of a regular expression.
    ///
    /// # Errors
    ///
    /// When the expression is not valid, or compiles to more than 1 MiB.
    pub fn matches(text: &str) -> Result<Self, regex::Error> {
        let regex = regex::bytes::RegexBuilder::new(text).size_limit(1 << 20).build()?;
        Ok(Self {
            text: text.to_owned(),
            regex: Some(regex),
        })
    }

    /// Whether `bytes` contain it.
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        match &self.regex {
            Some(regex) => regex.is_match(bytes),
            None => {
                self.text.is_empty()
                    || bytes
                        .windows(self.text.len())
                        .any(|window| window == self.text.as_bytes())
            }
        }
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text && self.regex.is_some() == other.regex.is_some()
    }
}

impl Eq for Pattern {}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.text.escape_debug();
        match self.regex {
            Some(_) => write!(f, "/{text}/"),
            None => write!(f, "\"{text}\""),
        }
    }
}
