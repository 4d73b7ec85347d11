//! Makes untrusted text safe for a terminal, such as responses of backends: no control or invisible
//! characters.

/// `text` with a blank in place of each control or invisible character.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if is_shown(c) { c } else { ' ' }).collect()
}

/// Whether a terminal shows `c` as it is: not a control character, a format character (Unicode
/// category Cf, such as marks of direction and characters without width), a line separator or a
/// filler.
fn is_shown(c: char) -> bool {
    !c.is_control()
        && !matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}'
            | '\u{115f}'..='\u{1160}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}'
            | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_and_invisible_characters_become_blanks() {
        for (text, then) in [
            (
                "status 503, 99 % \u{2013} \u{fc}ber\u{df}ig \u{1f980} \u{65e5}\u{672c} e\u{301} \u{fffd}",
                None,
            ),
            ("\u{1b}[31mred\u{9b}\r\n\t\u{7f}", Some(" [31mred     ")),
            (
                "a\u{202e}b\u{2066}c\u{200b}d\u{feff}e\u{2028}f\u{e0041}g",
                Some("a b c d e f g"),
            ),
        ] {
            assert_eq!(printable(text), then.unwrap_or(text));
        }
    }
}
