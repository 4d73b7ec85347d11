//! Checks of `[[vrrp.track]]` and `[vrrp.hook]`: what a virtual router depends on, and whom its changes are told.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use toml::Spanned;

use crate::config::{
    CommandTrack, Hook, Track, Tracked, defaults,
    diagnostics::{Diagnostics, Message, Span},
    duration::{duration, words as text},
    health::command,
    names,
    numbers::number,
    raw,
    words::{self, Word},
};

const MOST_TRACKS: usize = 32;
const MOST_QUORUM: u32 = 10_000;
const MOST_IN_A_ROW: u32 = 100;
const WEIGHTS: RangeInclusive<i128> = -253..=253;
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// Whether a file has to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Present,
    Absent,
}

impl Word for Expected {
    const WHAT: &'static str = "state of a file";
    const WORDS: &'static [(&'static str, Self)] = &[("present", Self::Present), ("absent", Self::Absent)];
}

/// Keys that belong to one kind of what is tracked.
const KEYS: &[(&str, &[&str])] = &[
    ("interface", &[]),
    ("service", &["quorum"]),
    ("file", &["expect"]),
    ("argv", &["environment", "user", "interval", "timeout", "rise", "fall"]),
];

/// Checks what a virtual router depends on.
pub(super) fn tracks(raw: &raw::Vrrp, priority: Option<u32>, diagnostics: &mut Diagnostics) -> Option<Vec<Track>> {
    if raw.track.len() > MOST_TRACKS {
        let problem = format!("{} tables `[[vrrp.track]]`", raw.track.len());
        diagnostics.add(
            raw.track[MOST_TRACKS].span(),
            Message::new(problem, format!("at most {MOST_TRACKS}")),
        );
        return None;
    }
    let mut found: Vec<Track> = Vec::with_capacity(raw.track.len());
    for item in &raw.track {
        let Some(track) = diagnostics.table(item.span(), |diagnostics| one(item, priority, diagnostics)) else {
            continue;
        };
        if found.iter().any(|other| other.what == track.what) {
            let problem = format!("{} is tracked twice", track.what);
            diagnostics.add(item.span(), Message::new(problem, "one table for each"));
            continue;
        }
        found.push(track);
    }
    (found.len() == raw.track.len()).then_some(found)
}

fn one(item: &Spanned<raw::Track>, priority: Option<u32>, diagnostics: &mut Diagnostics) -> Option<Track> {
    let raw = item.get_ref();
    let given = raw.places();
    let place = |key: &str| {
        given
            .iter()
            .find(|(name, _)| *name == key)
            .and_then(|(_, span)| span.clone())
    };
    let kinds: Vec<_> = KEYS.iter().filter(|(kind, _)| place(kind).is_some()).collect();
    let [(kind, _)] = kinds[..] else {
        let problem = match kinds.len() {
            0 => "it is not said what is tracked".to_owned(),
            _ => format!("`{}` and `{}` are two things", kinds[0].0, kinds[1].0),
        };
        let expected = "one of `interface`, `service`, `file` and `argv`";
        diagnostics.add(item.span(), Message::new(problem, expected));
        return None;
    };
    for (owner, keys) in KEYS.iter().filter(|(owner, _)| owner != kind) {
        for key in *keys {
            if let Some(span) = place(key) {
                let problem = format!("`{key}` belongs to `{owner}`, and this is about `{kind}`");
                diagnostics.add(span, Message::new(problem, format!("no `{key}`")));
                return None;
            }
        }
    }
    let weight = weight(raw, priority, diagnostics);
    let what = match *kind {
        "interface" => diagnostics
            .value(raw.interface.as_ref()?, |name| names::interface(name))
            .map(Tracked::Interface),
        "service" => service(raw, diagnostics),
        "file" => file(raw, diagnostics),
        _ => commanded(raw, &item.span(), diagnostics).map(Tracked::Command),
    };
    Some(Track {
        what: what?,
        weight: weight?,
    })
}

fn weight(raw: &raw::Track, priority: Option<u32>, diagnostics: &mut Diagnostics) -> Option<Option<i16>> {
    let Some(given) = &raw.weight else { return Some(None) };
    diagnostics.value(given, |weight| {
        if !WEIGHTS.contains(weight) || *weight == 0 {
            let problem = format!("weight {weight} is out of range");
            return Err(Message::new(problem, "a number from -253 to 253, but not 0"));
        }
        if priority == Some(255) {
            let problem = "the owner of the addresses has priority 255 always";
            return Err(Message::new(problem, "no `weight`: what is down is a fault then"));
        }
        Ok(i16::try_from(*weight).ok())
    })
}

fn service(raw: &raw::Track, diagnostics: &mut Diagnostics) -> Option<Tracked> {
    let name = diagnostics.value(raw.service.as_ref()?, |name| names::SERVICE.check(name));
    let quorum = diagnostics.optional(&raw.quorum, 1, number("quorum", 1, MOST_QUORUM));
    Some(Tracked::Service {
        name: name?,
        quorum: quorum?,
    })
}

fn file(raw: &raw::Track, diagnostics: &mut Diagnostics) -> Option<Tracked> {
    let path = diagnostics.value(raw.file.as_ref()?, |path| names::absolute(path));
    let expected = diagnostics.optional(&raw.expect, Expected::Present, |word| words::choice(word));
    Some(Tracked::File {
        path: path?,
        present: expected? == Expected::Present,
    })
}

fn commanded(raw: &raw::Track, table: &Span, diagnostics: &mut Diagnostics) -> Option<CommandTrack> {
    let command = command::command((&raw.argv, &raw.environment, &raw.user), table, diagnostics);
    let interval = diagnostics.optional(
        &raw.interval,
        defaults::TRACK_INTERVAL,
        duration(SHORTEST_INTERVAL, LONGEST),
    );
    let longest = interval.unwrap_or(LONGEST);
    let timeout = diagnostics.optional(&raw.timeout, defaults::TRACK_INTERVAL.min(longest), |given| {
        let found = duration(SHORTEST_TIMEOUT, LONGEST)(given)?;
        if found > longest {
            let problem = format!("the timeout {} is longer than the interval", text(found));
            return Err(Message::new(
                problem,
                format!("at most the interval, {}", text(longest)),
            ));
        }
        Ok(found)
    });
    let rise = diagnostics.optional(&raw.rise, 1, number("rise", 1, MOST_IN_A_ROW));
    let fall = diagnostics.optional(&raw.fall, defaults::FALL, number("fall", 1, MOST_IN_A_ROW));
    Some(CommandTrack {
        command: command?,
        interval: interval?,
        timeout: timeout?,
        rise: rise?,
        fall: fall?,
    })
}

/// Checks whom changes of the role are told.
pub(super) fn hook(raw: &raw::Vrrp, diagnostics: &mut Diagnostics) -> Option<Option<Hook>> {
    let Some(item) = &raw.hook else { return Some(None) };
    let raw = item.get_ref();
    let root = raw.user.as_ref().is_some_and(|user| user.get_ref() == "root");
    // Whoever changes routes has to be root; the file says so.
    let user = if root { &None } else { &raw.user };
    let command = command::command((&raw.argv, &raw.environment, user), &item.span(), diagnostics);
    let timeout = diagnostics.optional(
        &raw.timeout,
        defaults::HOOK_TIMEOUT,
        duration(SHORTEST_TIMEOUT, LONGEST),
    );
    let mut command = command?;
    if root {
        "root".clone_into(&mut command.user);
    }
    Some(Some(Hook {
        command,
        timeout: timeout?,
    }))
}

/// Refuses services that are not in the file, and more backends of them than there are.
pub(super) fn services(raw: &[Spanned<raw::Vrrp>], known: &BTreeMap<&str, usize>, diagnostics: &mut Diagnostics) {
    for track in raw.iter().flat_map(|vrrp| &vrrp.get_ref().track) {
        let track = track.get_ref();
        let Some(given) = &track.service else { continue };
        let name = given.get_ref();
        let Some(backends) = known.get(name.as_str()) else {
            let problem = format!("there is no service \"{}\"", name.escape_debug());
            diagnostics.add(given.span(), Message::new(problem, "the name of a `[[service]]`"));
            continue;
        };
        let quorum = track
            .quorum
            .as_ref()
            .filter(|quorum| *quorum.get_ref() > *backends as i128);
        if let Some(quorum) = quorum {
            let problem = format!("{} backends of {name} can never be up", quorum.get_ref());
            let expected = format!("at most {backends}: those that are no fallback");
            diagnostics.add(quorum.span(), Message::new(problem, expected));
        }
    }
}
