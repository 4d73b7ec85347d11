//! The error for a file that is refused: text for people, [`Diagnostic`]s for programs.

use std::{fmt, io, path::PathBuf};

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet, renderer::DecorStyle};
use serde::{Deserialize, Serialize};

use super::diagnostics::{Entry, Span};

/// Of more diagnostics than this only the number is shown; [`Report::diagnostics`] has them all.
const MOST_SHOWN: usize = 20;

/// A configuration file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}: {cause}", path.display())]
    Unreadable {
        /// Path of the file.
        path: PathBuf,
        /// The error of the system.
        cause: io::Error,
    },
    /// The file is invalid. The text of this error shows each problem at its place.
    #[error("{0}")]
    Invalid(Report),
}

impl ConfigError {
    /// The problems, in the order of the file. Empty if the file cannot be read.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        match self {
            Self::Unreadable { .. } => &[],
            Self::Invalid(report) => report.diagnostics(),
        }
    }
}

/// One problem in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Diagnostic {
    /// Path of the file, as given to [`super::parse`].
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What is expected instead.
    pub expected: String,
    /// The known word that was probably meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
}

/// All problems of a file. `Display` shows each one at its place in the text, in the format of
/// rustc, without colour.
#[derive(Debug)]
pub struct Report {
    diagnostics: Vec<Diagnostic>,
    rendered: String,
}

impl Report {
    pub(super) fn new(file: &str, text: &str, entries: Vec<Entry>) -> Self {
        let rendered = render(file, text, &entries);
        let diagnostics = entries.into_iter().map(|entry| diagnostic(file, text, entry)).collect();
        Self { diagnostics, rendered }
    }

    /// The problems, in the order of the file.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rendered)
    }
}

fn diagnostic(file: &str, text: &str, Entry { span, message, .. }: Entry) -> Diagnostic {
    let before = &text[..within(text, &span).start];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    Diagnostic {
        file: file.to_owned(),
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
        message: message.text,
        expected: message.expected,
        suggestion: message.suggestion,
    }
}

fn render(file: &str, text: &str, entries: &[Entry]) -> String {
    let groups: Vec<Group<'_>> = entries
        .iter()
        .take(MOST_SHOWN)
        .map(|entry| group(file, text, entry))
        .collect();
    let renderer = Renderer::plain().decor_style(DecorStyle::Ascii);
    let mut shown: Vec<String> = groups.chunks(1).map(|group| renderer.render(group)).collect();
    match entries.len() {
        0 | 1 => {}
        many if many <= MOST_SHOWN => shown.push(format!("{many} errors in {file}")),
        many => shown.push(format!("{many} errors in {file}; the first {MOST_SHOWN} are shown")),
    }
    shown.join("\n\n")
}

fn group<'a>(file: &'a str, text: &'a str, entry: &'a Entry) -> Group<'a> {
    let message = &entry.message;
    let primary = AnnotationKind::Primary
        .span(within(text, &entry.span))
        .label(format!("expected {}", message.expected));
    let mut snippet = Snippet::source(text).path(file).annotation(primary);
    if let Some((span, label)) = &entry.related {
        snippet = snippet.annotation(AnnotationKind::Context.span(within(text, span)).label(*label));
    }
    let group = Level::ERROR.primary_title(message.text.as_str()).element(snippet);
    match &message.suggestion {
        Some(word) => group.element(Level::HELP.message(format!("did you mean `{word}`?"))),
        None => group,
    }
}

/// `span`, limited to `text` and moved to character boundaries, so that the text can be sliced
/// there.
fn within(text: &str, span: &Span) -> Span {
    let start = text.floor_char_boundary(span.start);
    let end = text.ceil_char_boundary(span.end).max(start);
    start..end
}
