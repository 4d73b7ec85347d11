//! What callers get to know of a file that is refused, for people and for programs.

use std::{fmt, io, path::PathBuf};

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet, renderer::DecorStyle};
use serde::{Deserialize, Serialize};

use super::finding::{Finding, Span};

/// More findings than this are counted, not shown; [`Invalid::diagnostics`] has them all.
const MOST_SHOWN: usize = 20;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}: {cause}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The file is wrong; the text of this error shows each place.
    #[error("{0}")]
    Invalid(Invalid),
}

impl ConfigError {
    /// What is wrong in the file, in its order; empty if it cannot be read.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        match self {
            Self::Unreadable { .. } => &[],
            Self::Invalid(invalid) => invalid.diagnostics(),
        }
    }
}

/// One thing that is wrong in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// The file, as it was named to [`super::load`] or [`super::parse`].
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What would have been right.
    pub expected: String,
    /// The known word that was probably meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
}

/// All that is wrong in a file. `Display` shows each place in the text, in the manner of rustc, without colour.
#[derive(Debug)]
pub struct Invalid {
    diagnostics: Vec<Diagnostic>,
    rendered: String,
}

impl Invalid {
    pub(super) fn new(file: &str, text: &str, findings: Vec<Finding>) -> Self {
        let rendered = render(file, text, &findings);
        let diagnostics = findings
            .into_iter()
            .map(|finding| diagnostic(file, text, finding))
            .collect();
        Self { diagnostics, rendered }
    }

    /// What is wrong, in the order of the file.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rendered)
    }
}

fn diagnostic(file: &str, text: &str, Finding { span, problem, .. }: Finding) -> Diagnostic {
    let before = &text[..within(text, &span).start];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    Diagnostic {
        file: file.to_owned(),
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
        message: problem.message,
        expected: problem.expected,
        suggestion: problem.suggestion,
    }
}

fn render(file: &str, text: &str, findings: &[Finding]) -> String {
    let groups: Vec<Group<'_>> = findings
        .iter()
        .take(MOST_SHOWN)
        .map(|finding| group(file, text, finding))
        .collect();
    let renderer = Renderer::plain().decor_style(DecorStyle::Ascii);
    let mut shown: Vec<String> = groups.chunks(1).map(|group| renderer.render(group)).collect();
    match findings.len() {
        0 | 1 => {}
        many if many <= MOST_SHOWN => shown.push(format!("{many} errors in {file}")),
        many => shown.push(format!(
            "{many} errors in {file}, of which the first {MOST_SHOWN} are shown"
        )),
    }
    shown.join("\n\n")
}

fn group<'a>(file: &'a str, text: &'a str, finding: &'a Finding) -> Group<'a> {
    let problem = &finding.problem;
    let primary = AnnotationKind::Primary
        .span(within(text, &finding.span))
        .label(format!("expected {}", problem.expected));
    let mut snippet = Snippet::source(text).path(file).annotation(primary);
    if let Some((span, label)) = &finding.related {
        snippet = snippet.annotation(AnnotationKind::Context.span(within(text, span)).label(*label));
    }
    let group = Level::ERROR.primary_title(problem.message.as_str()).element(snippet);
    match &problem.suggestion {
        Some(word) => group.element(Level::HELP.message(format!("did you mean `{word}`?"))),
        None => group,
    }
}

/// `span`, kept within `text` and between characters, since text cannot be sliced anywhere else.
fn within(text: &str, span: &Span) -> Span {
    let start = text.floor_char_boundary(span.start);
    let end = text.ceil_char_boundary(span.end).max(start);
    start..end
}
