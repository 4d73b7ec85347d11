//! Checks `[[vrrp.track]]` and `[vrrp.hook]`: conditions and hooks of a virtual router.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use toml::Spanned;

use crate::config::{
    CommandTrack, Hook, Track, Tracked, defaults,
    duration::{duration, words as text},
    finding::{Findings, Problem, Span},
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
pub(super) fn tracks(raw: &raw::Vrrp, priority: Option<u32>, findings: &mut Findings) -> Option<Vec<Track>> {
    if raw.track.len() > MAX_TRACKS {
        let problem = format!("{} tables `[[vrrp.track]]`", raw.track.len());
        findings.add(
            raw.track[MAX_TRACKS].span(),
            Problem::new(problem, format!("at most {MAX_TRACKS}")),
        );
        return None;
    }
    let mut found: Vec<Track> = Vec::with_capacity(raw.track.len());
    for item in &raw.track {
        let Some(track) = findings.whole(item.span(), |findings| one(item, priority, findings)) else {
            continue;
        };
        if found.iter().any(|other| other.what == track.what) {
            let problem = format!("{} is tracked twice", track.what);
            findings.add(item.span(), Problem::new(problem, "one table for each"));
            continue;
        }
        found.push(track);
    }
    (found.len() == raw.track.len()).then_some(found)
}

fn one(item: &Spanned<raw::Track>, priority: Option<u32>, findings: &mut Findings) -> Option<Track> {
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
        findings.add(item.span(), Problem::new(problem, expected));
        return None;
    };
    for (owner, keys) in KEYS.iter().filter(|(owner, _)| owner != kind) {
        for key in *keys {
            if let Some(span) = place(key) {
                let problem = format!("`{key}` belongs to `{owner}`, and this track has `{kind}`");
                findings.add(span, Problem::new(problem, format!("no `{key}`")));
                return None;
            }
        }
    }
    let weight = weight(raw, priority, findings);
    let what = match *kind {
        "interface" => findings
            .value(raw.interface.as_ref()?, |name| names::interface(name))
            .map(Tracked::Interface),
        "service" => service(raw, findings),
        "file" => file(raw, findings),
        _ => commanded(raw, &item.span(), findings).map(Tracked::Command),
    };
    Some(Track {
        what: what?,
        weight: weight?,
    })
}

fn weight(raw: &raw::Track, priority: Option<u32>, findings: &mut Findings) -> Option<Option<i16>> {
    let Some(given) = &raw.weight else { return Some(None) };
    findings.value(given, |weight| {
        if !WEIGHTS.contains(weight) || *weight == 0 {
            let problem = format!("weight {weight} is out of range");
            return Err(Problem::new(problem, "a number from -253 to 253, but not 0"));
        }
        if priority == Some(255) {
            let problem = "the owner of the addresses always has priority 255";
            return Err(Problem::new(
                problem,
                "no `weight`: the track is then a fault while it is down",
            ));
        }
        Ok(i16::try_from(*weight).ok())
    })
}

fn service(raw: &raw::Track, findings: &mut Findings) -> Option<Tracked> {
    let name = findings.value(raw.service.as_ref()?, |name| names::SERVICE.check(name));
    let quorum = findings.optional(&raw.quorum, 1, number("quorum", 1, MAX_QUORUM));
    Some(Tracked::Service {
        name: name?,
        quorum: quorum?,
    })
}

fn file(raw: &raw::Track, findings: &mut Findings) -> Option<Tracked> {
    let path = findings.value(raw.file.as_ref()?, |path| names::absolute(path));
    let expected = findings.optional(&raw.expect, Expected::Present, |word| words::choice(word));
    Some(Tracked::File {
        path: path?,
        present: expected? == Expected::Present,
    })
}

fn commanded(raw: &raw::Track, table: &Span, findings: &mut Findings) -> Option<CommandTrack> {
    let command = command::command((&raw.argv, &raw.environment, &raw.user), table, findings);
    let interval = findings.optional(
        &raw.interval,
        defaults::TRACK_INTERVAL,
        duration(SHORTEST_INTERVAL, LONGEST),
    );
    let longest = interval.unwrap_or(LONGEST);
    let timeout = findings.optional(&raw.timeout, defaults::TRACK_INTERVAL.min(longest), |given| {
        let found = duration(SHORTEST_TIMEOUT, LONGEST)(given)?;
        if found > longest {
            let problem = format!("the timeout {} is longer than the interval", text(found));
            return Err(Problem::new(
                problem,
                format!("at most the interval, {}", text(longest)),
            ));
        }
        Ok(found)
    });
    let rise = findings.optional(&raw.rise, 1, number("rise", 1, MAX_IN_A_ROW));
    let fall = findings.optional(&raw.fall, defaults::FALL, number("fall", 1, MAX_IN_A_ROW));
    Some(CommandTrack {
        command: command?,
        interval: interval?,
        timeout: timeout?,
        rise: rise?,
        fall: fall?,
    })
}

/// Checks a hook.
pub(super) fn hook(item: &Spanned<raw::Hook>, findings: &mut Findings) -> Option<Hook> {
    let raw = item.get_ref();
    let root = raw.user.as_ref().is_some_and(|user| user.get_ref() == "root");
    // Unlike tracked commands, a hook may run as root: only root can change routes.
    let user = if root { &None } else { &raw.user };
    let command = command::command((&raw.argv, &raw.environment, user), &item.span(), findings);
    let timeout = findings.optional(
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
pub(super) fn services(raw: &[Spanned<raw::Vrrp>], known: &BTreeMap<&str, usize>, findings: &mut Findings) {
    for track in raw.iter().flat_map(|vrrp| &vrrp.get_ref().track) {
        let track = track.get_ref();
        let Some(given) = &track.service else { continue };
        let name = given.get_ref();
        let Some(backends) = known.get(name.as_str()) else {
            let problem = format!("there is no service \"{}\"", name.escape_debug());
            findings.add(given.span(), Problem::new(problem, "the name of a `[[service]]`"));
            continue;
        };
        let quorum = track
            .quorum
            .as_ref()
            .filter(|quorum| *quorum.get_ref() > *backends as i128);
        if let Some(quorum) = quorum {
            let problem = format!("{name} can never have {} backends up", quorum.get_ref());
            let expected = format!("at most {backends}: the number of its backends without fallbacks");
            findings.add(quorum.span(), Problem::new(problem, expected));
        }
    }
}
