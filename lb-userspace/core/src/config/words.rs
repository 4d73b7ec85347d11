//! The words of the file for each choice, and the nearest one to a word that is none of them.

use lb_common::{Mode, OnBackendDown, Scheduler};

use super::{PacketLog, Protocol, XdpMode, diagnostics::Message, foreign};

/// A choice that the file, the command line and the API name by the same word.
pub trait Word: Copy + PartialEq + 'static {
    /// What is chosen, as in "unknown scheduler".
    const WHAT: &'static str;

    /// Every choice with its word.
    const WORDS: &'static [(&'static str, Self)];

    /// The word of this choice.
    fn word(self) -> &'static str {
        // Every implementation lists all values; a test sees to it.
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

/// The choice that `text` names.
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

/// The word that `text` is probably a misspelling of.
pub(super) fn nearest<'a>(text: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Nothing near a known word is this long, and the distance takes quadratic time.
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
    fn every_choice_has_a_word_that_names_it() {
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
    fn the_nearest_word_is_one_that_could_be_meant() {
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
