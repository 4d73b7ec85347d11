//! `lbctl map`: reads the pinned maps, so it works without the daemon.

use std::io::Write;

use crate::{
    cli::{
        args::MapVerb,
        error::CliError,
        output::{MORE, note, print_json},
        render,
    },
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
            // Read one entry more than is shown, to know whether there are more.
            let mut entries = dump::dump(pins, &name, limit.saturating_add(1))?;
            let are_more = entries.as_ref().is_some_and(|entries| entries.len() > limit);
            if let Some(entries) = &mut entries {
                entries.truncate(limit);
            }
            match &entries {
                entries if json => print_json(entries, out)?,
                Some(entries) => write!(out, "{}", render::entries(entries))?,
                None => writeln!(out, "this map cannot be read without disturbing the packet path")?,
            }
            if are_more { note(MORE, json, out) } else { Ok(()) }
        }
    }
}
