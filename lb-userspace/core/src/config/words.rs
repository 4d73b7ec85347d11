//! The words for each choice of the file, and the nearest known word to a misspelt one.

use lb_common::{Mode, OnBackendDown, Scheduler};

use super::{PacketLog, Protocol, XdpMode, diagnostics::Message, foreign};

/// A choice with one word for each value, the same in the file, on the command line and in the API.
pub trait Word: Copy + PartialEq + 'static {
    /// What is chosen, for the error "unknown scheduler".
    const WHAT: &'static str;

    /// Every value with its word.
    const WORDS: &'static [(&'static str, Self)];

    /// The word of this value.
    fn word(self) -> &'static str {
        // A test checks that every implementation lists all values.
        Self::WORDS
            .iter()
            .find(|(_, choice)| *choice == self)
            .map_or("?", |(word, _)| word)
    }
}

impl Word for XdpMode {
    const WHAT: &'static str = "XDP mode";
    const WORDS: &'static [(&'static str, Self)] = &[
        ("auto", Self::Auto),
        ("native", Self::Native),
        ("generic", Self::Generic),
    ];
}

impl Word for PacketLog {
    const WHAT: &'static str = "packet log";
    const WORDS: &'static [(&'static str, Self)] =
        &[("off", Self::Off), ("debug", Self::Debug), ("trace", Self::Trace)];
}

impl Word for Protocol {
    const WHAT: &'static str = "protocol";
    const WORDS: &'static [(&'static str, Self)] = &[(Self::Tcp.name(), Self::Tcp), (Self::Udp.name(), Self::Udp)];
}

impl Word for Mode {
    const WHAT: &'static str = "forwarding mode";
    const WORDS: &'static [(&'static str, Self)] = &[
        ("nat", Self::Nat),
        ("dnat", Self::Dnat),
        ("dsr", Self::Dsr),
        ("ipip", Self::Ipip),
        ("gue", Self::Gue),
    ];
}

impl Word for Scheduler {
    const WHAT: &'static str = "scheduler";
    const WORDS: &'static [(&'static str, Self)] = &[
        ("round-robin", Self::RoundRobin),
        ("least-connection", Self::LeastConnection),
        ("source-hash", Self::SourceHash),
        ("maglev", Self::Maglev),
        ("random", Self::Random),
    ];
}

impl Word for OnBackendDown {
    const WHAT: &'static str = "policy";
    const WORDS: &'static [(&'static str, Self)] = &[
        ("reset", Self::Reset),
        ("reschedule", Self::Reschedule),
        ("hold", Self::Hold),
    ];
}

/// The value that `text` names.
pub(super) fn choice<T: Word>(text: &str) -> Result<T, Message> {
    if let Some((_, choice)) = T::WORDS.iter().find(|(word, _)| *word == text) {
        return Ok(*choice);
    }
    let words = || T::WORDS.iter().map(|(word, _)| *word);
    let expected = words()
        .map(|word| format!("\"{word}\""))
        .collect::<Vec<_>>()
        .join(" or ");
    Err(
        Message::new(format!("unknown {} \"{}\"", T::WHAT, text.escape_debug()), expected)
            .suggest(foreign::value(T::WHAT, text).or_else(|| nearest(text, words()))),
    )
}

/// The known word of which `text` is probably a misspelling.
pub(super) fn nearest<'a>(text: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // No known word is this long, and computing the distance takes quadratic time.
    if text.len() > 64 {
        return None;
    }
    let text = text.to_lowercase().replace('-', "_");
    words
        .map(|word| (strsim::osa_distance(&text, &word.replace('-', "_")), word))
        .filter(|(distance, word)| *distance <= (word.len() / 3).clamp(1, 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_a_word() {
        fn check<T: Word + std::fmt::Debug>(all: &[T]) {
            assert_eq!(all.len(), T::WORDS.len());
            for choice in all {
                assert_eq!(super::choice::<T>(choice.word()).as_ref(), Ok(choice));
            }
        }
        check(&[XdpMode::Auto, XdpMode::Native, XdpMode::Generic]);
        check(&[PacketLog::Off, PacketLog::Debug, PacketLog::Trace]);
        check(&[Protocol::Tcp, Protocol::Udp]);
        check(&Mode::ALL);
        check(&[
            Scheduler::RoundRobin,
            Scheduler::LeastConnection,
            Scheduler::SourceHash,
            Scheduler::Maglev,
            Scheduler::Random,
        ]);
        check(&[OnBackendDown::Reset, OnBackendDown::Reschedule, OnBackendDown::Hold]);
    }

    #[test]
    fn the_nearest_word_is_a_plausible_one() {
        let words = ["address", "port", "on_backend_down", "rise"];
        for (text, expected) in [
            ("adress", Some("address")),
            ("addres", Some("address")),
            ("Port", Some("port")),
            ("prot", Some("port")),
            ("on-backend-down", Some("on_backend_down")),
            ("riese", Some("rise")),
            ("", None),
            ("x", None),
            ("weight", None),
            (&"address".repeat(1000), None),
        ] {
            assert_eq!(nearest(text, words.into_iter()), expected, "{text}");
        }
    }
}
