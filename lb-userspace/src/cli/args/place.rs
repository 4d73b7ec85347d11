//! The options that choose a node: `--config`, `--socket`, `--endpoint`, and those of `map`.

use std::path::PathBuf;

use clap::{ArgMatches, Args, FromArgMatches, parser::ValueSource};

/// Which node a command is about.
#[derive(Debug, Args)]
pub struct Place {
    /// Configuration file of the node; lbctl finds the socket and the maps there.
    #[arg(long, global = true, value_name = "FILE", default_value = "/etc/lbd/lbd.toml")]
    pub config: PathBuf,
    /// Admin socket of the node; overrides --config.
    #[arg(long, global = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Use the admin API over TCP: https://HOST:PORT, or http:// on a trusted network.
    #[arg(long, global = true, value_name = "URL", env = "LBCTL_ENDPOINT")]
    pub endpoint: Option<String>,
    /// File with the token for --endpoint.
    #[arg(long, global = true, value_name = "FILE", env = "LBCTL_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
    /// Trusted certificates for --endpoint, in PEM.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "LBCTL_CA_FILE",
        default_value = "/etc/ssl/certs/ca-certificates.crt"
    )]
    pub ca_file: PathBuf,
    /// BPF file system with the maps, used with --node in place of --config.
    #[arg(long, global = true, value_name = "PATH", requires = "node")]
    pub bpffs: Option<PathBuf>,
    /// Name of the node that owns the maps, used with --bpffs.
    #[arg(long, global = true, value_name = "NAME", requires = "bpffs")]
    pub node: Option<String>,
    /// Whether `--config` is on the command line.
    #[arg(skip)]
    pub is_config_given: bool,
}

impl Place {
    /// Reads the options. Returns `None` if they cannot be read.
    pub(crate) fn of(mut matches: ArgMatches) -> Option<Self> {
        let given = Given::of(&matches);
        let mut place = Self::from_arg_matches_mut(&mut matches).ok()?;
        given.apply(&mut place);
        Some(place)
    }
}

/// Which options are on the command line, and not only in the environment.
#[derive(Clone, Copy)]
pub(super) struct Given {
    pub(super) config: bool,
    pub(super) endpoint: bool,
}

impl Given {
    pub(super) fn of(matches: &ArgMatches) -> Self {
        let is_given = |option| matches.value_source(option) == Some(ValueSource::CommandLine);
        Self {
            config: is_given("config"),
            endpoint: is_given("endpoint"),
        }
    }

    /// `--config` on the command line wins over `LBCTL_ENDPOINT` in the environment.
    pub(super) fn apply(self, place: &mut Place) {
        place.is_config_given = self.config;
        if self.config && !self.endpoint {
            place.endpoint = None;
        }
    }
}
