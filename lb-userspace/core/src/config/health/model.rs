//! Health checks as the file means them.

use std::{collections::BTreeMap, fmt, net::IpAddr, path::PathBuf, time::Duration};

use regex::bytes::Regex;

use crate::config::Tls;

/// How a backend is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked.
    pub probe: Probe,
    /// Whom it asks.
    pub target: CheckTarget,
    /// Port to ask; `None`: the backend's own.
    pub port: Option<u16>,
    /// When.
    pub timing: Timing,
    /// What the answers mean.
    pub rules: Rules,
}

/// Whom a check asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckTarget {
    /// The worker's own address.
    Backend,
    /// The virtual address, by the way that clients' packets take to this worker.
    Virtual {
        /// The address of this machine that it comes from; `None`: the one that packets to the worker come from.
        source: Option<IpAddr>,
    },
}

/// When a backend is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// From the start of one check to the start of the next.
    pub interval: Duration,
    /// The same while results speak against the verdict, or there is none; not longer than `interval`.
    pub fast_interval: Duration,
    /// By how many percent intervals vary at random, in both directions.
    pub jitter: u32,
    /// How long a check may take; not longer than `interval`.
    pub timeout: Duration,
}

/// When results change the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Successes in a row that bring a backend up.
    pub rise: u32,
    /// Failures in a row that take a backend down.
    pub fall: u32,
    /// What is thought of a backend before its first check.
    pub initial: Initial,
    /// When a backend goes up and down too often; `None`: never.
    pub flaps: Option<Flaps>,
}

/// What is thought of a backend before its first check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Initial {
    /// It takes no new flows, and the first result decides.
    #[default]
    Unknown,
    /// It takes flows; `fall` failures take it down.
    Up,
    /// It takes no new flows; `rise` successes bring it up.
    Down,
}

/// When a backend goes up and down too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flaps {
    /// How often it may go down within `period`; the last of these times it has to be well for a whole `period` before it
    /// comes up.
    pub limit: u32,
    /// See `limit`.
    pub period: Duration,
}

/// What a health check asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A TCP connection is accepted.
    Tcp,
    /// An HTTP/1.1 request is answered as expected.
    Http(HttpProbe),
    /// The gRPC health service says that it serves.
    Grpc(GrpcProbe),
    /// A datagram is answered as expected.
    Udp(UdpProbe),
    /// A name is resolved as expected.
    Dns(DnsProbe),
    /// An echo request is answered.
    Icmp,
    /// A command ends with status 0.
    Command(CommandProbe),
}

impl Probe {
    /// What makes its connections confidential.
    pub fn tls(&self) -> Option<&TlsClient> {
        match self {
            Self::Http(probe) => probe.tls.as_ref(),
            Self::Grpc(probe) => probe.tls.as_ref(),
            Self::Tcp | Self::Udp(_) | Self::Dns(_) | Self::Icmp | Self::Command(_) => None,
        }
    }

    /// Whether it asks a port.
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
    /// Host header; `None`: the backend's address and port.
    pub host: Option<String>,
    /// Other headers.
    pub headers: BTreeMap<String, String>,
    /// Inclusive ranges of status codes that count as success.
    pub status: Vec<(u16, u16)>,
    /// What the body has to say; `None`: it is not read.
    pub body: Option<Pattern>,
    /// `None`: plain HTTP.
    pub tls: Option<TlsClient>,
}

/// A check by the gRPC health checking protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcProbe {
    /// Name of the service that is asked about; empty: the server as a whole.
    pub service: String,
    /// `:authority`; `None`: the backend's address and port.
    pub host: Option<String>,
    /// `None`: HTTP/2 without TLS.
    pub tls: Option<TlsClient>,
}

/// The side of TLS that a check is on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TlsClient {
    /// The name that the certificate has to be for, which is sent in the clear (SNI) if it is no address; `None`: the
    /// backend's address.
    pub server_name: Option<String>,
    /// Whether the certificate has to be trusted.
    pub verify: bool,
    /// Certificates that are trusted, in PEM; `None`: those of the system.
    pub ca_file: Option<PathBuf>,
    /// What the check shows of itself.
    pub identity: Option<Tls>,
}

/// A check by one datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpProbe {
    /// What is sent.
    pub payload: Vec<u8>,
    /// What the reply has to say; `None`: anything.
    pub reply: Option<Pattern>,
    /// Whether there has to be a reply; else it is enough that nobody says that the port is closed.
    pub require_reply: bool,
}

/// A check by a question to a name server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsProbe {
    /// The name that is asked for.
    pub name: String,
    /// The type of its records, such as `A`.
    pub record: String,
    /// At least one of these has to be among the answers; empty: one of any kind.
    pub answers: Vec<String>,
    /// Whether it is asked by TCP.
    pub tcp: bool,
}

/// A check by a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandProbe {
    /// Program, by its whole path, and arguments.
    pub argv: Vec<String>,
    /// What is in its environment besides what every command gets.
    pub environment: BTreeMap<String, String>,
    /// The user that it runs as, by name; never root.
    pub user: String,
}

/// What a text has to contain.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    regex: Option<Regex>,
}

impl Pattern {
    /// These words.
    pub fn contains(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            regex: None,
        }
    }

    /// What a regular expression finds.
    ///
    /// # Errors
    ///
    /// When it is none, or takes too much memory.
    pub fn matches(text: &str) -> Result<Self, regex::Error> {
        let regex = regex::bytes::RegexBuilder::new(text).size_limit(1 << 20).build()?;
        Ok(Self {
            text: text.to_owned(),
            regex: Some(regex),
        })
    }

    /// Whether it is in `bytes`.
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
