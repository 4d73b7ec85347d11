//! Checks `[[vrrp.track]]` and `[vrrp.hook]`: conditions and hooks of a virtual router.

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

const MAX_TRACKS: usize = 32;
const MAX_QUORUM: u32 = 10_000;
const MAX_IN_A_ROW: u32 = 100;
const WEIGHTS: RangeInclusive<i128> = -253..=253;
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// Whether a tracked file must exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Present,
    Absent,
}

impl Word for Expected {
    const WHAT: &'static str = "state of a file";
    const WORDS: &'static [(&'static str, Self)] = &[("present", Self::Present), ("absent", Self::Absent)];
}

/// Kinds of tracks, each with the keys that only this kind has.
const KEYS: &[(&str, &[&str])] = &[
    ("interface", &[]),
    ("service", &["quorum"]),
    ("file", &["expect"]),
    ("argv", &["environment", "user", "interval", "timeout", "rise", "fall"]),
];

/// Checks the tracks of a virtual router.
pub(super) fn tracks(raw: &raw::Vrrp, priority: Option<u32>, diagnostics: &mut Diagnostics) -> Option<Vec<Track>> {
    if raw.track.len() > MAX_TRACKS {
        let problem = format!("{} tables `[[vrrp.track]]`", raw.track.len());
        diagnostics.add(
            raw.track[MAX_TRACKS].span(),
            Message::new(problem, format!("at most {MAX_TRACKS}")),
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
            0 => "nothing is tracked".to_owned(),
            _ => format!("`{}` and `{}` are two conditions", kinds[0].0, kinds[1].0),
        };
        let expected = "one of `interface`, `service`, `file` and `argv`";
        diagnostics.add(item.span(), Message::new(problem, expected));
        return None;
    };
    for (owner, keys) in KEYS.iter().filter(|(owner, _)| owner != kind) {
        for key in *keys {
            if let Some(span) = place(key) {
                let problem = format!("`{key}` belongs to `{owner}`, and this track has `{kind}`");
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
            let problem = "the owner of the addresses always has priority 255";
            return Err(Message::new(
                problem,
                "no `weight`: the track is then a fault while it is down",
            ));
        }
        Ok(i16::try_from(*weight).ok())
    })
}

fn service(raw: &raw::Track, diagnostics: &mut Diagnostics) -> Option<Tracked> {
    let name = diagnostics.value(raw.service.as_ref()?, |name| names::SERVICE.check(name));
    let quorum = diagnostics.optional(&raw.quorum, 1, number("quorum", 1, MAX_QUORUM));
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
    let rise = diagnostics.optional(&raw.rise, 1, number("rise", 1, MAX_IN_A_ROW));
    let fall = diagnostics.optional(&raw.fall, defaults::FALL, number("fall", 1, MAX_IN_A_ROW));
    Some(CommandTrack {
        command: command?,
        interval: interval?,
        timeout: timeout?,
        rise: rise?,
        fall: fall?,
    })
}

/// Checks a hook.
pub(super) fn hook(item: &Spanned<raw::Hook>, diagnostics: &mut Diagnostics) -> Option<Hook> {
    let raw = item.get_ref();
    let root = raw.user.as_ref().is_some_and(|user| user.get_ref() == "root");
    // Unlike tracked commands, a hook may run as root: only root can change routes.
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
    Some(Hook {
        command,
        timeout: timeout?,
    })
}

/// Refuses tracks of services that do not exist, and quorums that no service can reach.
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
            let problem = format!("{name} can never have {} backends up", quorum.get_ref());
            let expected = format!("at most {backends}: the number of its backends without fallbacks");
            diagnostics.add(quorum.span(), Message::new(problem, expected));
        }
    }
}
