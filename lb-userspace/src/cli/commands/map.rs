//! `lbctl map`: from the pinned maps, so also without the daemon.

use std::io::Write;

use super::print_json;
use crate::{
    cli::{CliError, args::MapVerb, render},
    dataplane::{Pins, dump, usage},
};

pub(super) fn run(verb: MapVerb, pins: &Pins, json: bool, out: &mut dyn Write) -> Result<(), CliError> {
    match verb {
        MapVerb::List => {
            let maps = dump::list(pins)?;
            if json {
                print_json(&maps, out)
            } else {
                Ok(write!(out, "{}", render::maps(&maps))?)
            }
        }
        MapVerb::Stats => {
            let usage = usage(pins)?;
            if json {
                print_json(&usage, out)
            } else {
                Ok(write!(out, "{}", render::usage(&usage))?)
            }
        }
        MapVerb::Dump { name, limit } => {
            let entries = dump::dump(pins, &name, limit)?;
            if json {
                print_json(&entries, out)
            } else {
                Ok(write!(out, "{}", render::entries(&entries))?)
            }
        }
    }
}
