//! `lbctl map`: from the pinned maps, so also without the daemon.

use std::io::Write;

use super::print_json;
use crate::{
    cli::{CliError, args::MapVerb, render},
    dataplane::{Pins, dump},
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
