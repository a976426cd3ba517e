//! What is wrong with a policy file: where, why, and what would be right; rendered for people and for tools.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{Annotation, AnnotationKind, Level, Renderer, Snippet};
use serde::{Serialize, Serializer};

use super::reference::Fillings;
use super::source::{FileId, Sources};

/// How many problems are kept; the rest are counted only.
const MAX_KEPT: usize = 100;
/// Words longer than this are not compared with what they may have meant.
const MAX_COMPARED: usize = 64;

/// A place in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Span {
    /// Which of the [`Sources`].
    #[serde(skip)]
    pub file: FileId,
    /// Counted from 1.
    pub line: u32,
    /// In characters, counted from 1.
    pub column: u32,
    /// In bytes from the start of the file.
    pub offset: u32,
    /// In bytes; may reach over line ends.
    pub len: u32,
}

/// A place, and the file that it is in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The file's name, as it was given.
    pub file: Arc<str>,
    /// Where in it.
    pub span: Span,
}

/// A value and where it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Spanned<T> {
    /// What was written.
    pub value: T,
    /// Where it was written.
    pub span: Span,
}

/// A text and where it was written.
pub type Text = Spanned<Box<str>>;

/// Whether a file with this problem loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It does not load.
    Error,
    /// It loads, and may not do what was meant.
    Warning,
}

/// One thing that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Stable, `snake_case`.
    pub code: &'static str,
    /// Whether the file loads all the same.
    pub severity: Severity,
    /// The name of the file, as it was given.
    #[serde(serialize_with = "as_text")]
    pub file: Arc<str>,
    /// Where.
    #[serde(flatten)]
    pub span: Span,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cure: Option<String>,
    /// Other places that take part in it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub related: Vec<Related>,
}

/// Another place that takes part in a problem, be it in the same file or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Related {
    /// The name of its file, as it was given.
    #[serde(serialize_with = "as_text")]
    pub file: Arc<str>,
    /// Where.
    #[serde(flatten)]
    pub span: Span,
    /// What is there.
    pub label: String,
}

/// The problems of a policy and the files that they are in; in the order of their places once [`Problems::sort`] was
/// called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    sources: Sources,
    /// What no message may tell.
    hidden: Box<Fillings>,
    list: Vec<Problem>,
    errors: usize,
    untold: usize,
}

impl Span {
    /// Where the policy file begins.
    pub const START: Self = Self::start_of(FileId::POLICY);

    /// Where a file begins.
    #[must_use]
    pub const fn start_of(file: FileId) -> Self {
        Self { file, line: 1, column: 1, offset: 0, len: 0 }
    }
}

/// `file:line`
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.span.line)
    }
}

impl<T> Spanned<T> {
    /// A value that was written there.
    pub const fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }

    /// Another value, written at the same place.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Spanned<U> {
        Spanned { value: change(self.value), span: self.span }
    }
}

impl Severity {
    /// `error` or `warning`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

impl Problem {
    /// An error; the names of files are filled in by [`Problems::report`].
    pub fn error(code: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self {
            code,
            severity: Severity::Error,
            file: Arc::default(),
            span,
            message: message.into(),
            cure: None,
            related: Vec::new(),
        }
    }

    /// A warning; the names of files are filled in by [`Problems::report`].
    pub fn warning(code: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, span, message) }
    }

    /// Says what would be right.
    #[must_use]
    pub fn cure(mut self, cure: impl Into<String>) -> Self {
        self.cure = Some(cure.into());
        self
    }

    /// Points at another place that takes part in it.
    #[must_use]
    pub fn related(mut self, span: Span, label: impl Into<String>) -> Self {
        self.related.push(Related { file: Arc::default(), span, label: label.into() });
        self
    }

    /// The problem with the lines it is about, each from its own file, a caret and the cure.
    #[must_use]
    pub fn render(&self, sources: &Sources, styled: bool) -> String {
        let renderer = if styled { Renderer::styled() } else { Renderer::plain() };
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group = level.primary_title(&self.message).id(self.code).elements(None::<Snippet<'_, Annotation<'_>>>);
        for (at, file) in self.files().into_iter().enumerate() {
            let places = |related: &&Related| related.span.file == file;
            let spans: Vec<Span> = (at == 0)
                .then_some(self.span)
                .into_iter()
                .chain(self.related.iter().filter(places).map(|related| related.span))
                .collect();
            let Some(excerpt) = Excerpt::of(sources.text(file), &spans) else {
                return format!("{self}\n");
            };
            let mut snippet =
                Snippet::source(excerpt.text).path(sources.name(file).to_string()).line_start(excerpt.line);
            if at == 0 {
                snippet = snippet.annotation(AnnotationKind::Primary.span(excerpt.place(self.span)));
            }
            for Related { span, label, .. } in self.related.iter().filter(places) {
                snippet = snippet.annotation(AnnotationKind::Context.span(excerpt.place(*span)).label(label));
            }
            group = group.element(snippet);
        }
        if let Some(cure) = &self.cure {
            group = group.element(Level::HELP.message(cure));
        }
        let mut rendered = renderer.render(&[group]);
        rendered.push('\n');
        rendered
    }

    /// The files that it is about, its own first.
    fn files(&self) -> Vec<FileId> {
        let mut files = vec![self.span.file];
        for related in &self.related {
            if !files.contains(&related.span.file) {
                files.push(related.span.file);
            }
        }
        files
    }
}

/// `file:line:column: error[code]: message`, on one line.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Span { line, column, .. } = self.span;
        write!(f, "{}:{line}:{column}: {}[{}]: ", self.file, self.severity.word(), self.code)?;
        write_line(f, &self.message)?;
        if let Some(cure) = &self.cure {
            f.write_str("; ")?;
            write_line(f, cure)?;
        }
        Ok(())
    }
}

impl Problems {
    /// None yet, of a policy in this file.
    #[must_use]
    pub fn of(name: &str, text: &str) -> Self {
        let mut problems = Self::default();
        problems.sources.add(name, text);
        problems
    }

    /// The files that they are in.
    #[must_use]
    pub const fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Takes in one more file; `None` where there are too many.
    pub fn add_source(&mut self, name: &str, text: &str) -> Option<FileId> {
        self.sources.add(name, text)
    }

    /// Shows a part of a file as asterisks from now on: what should not stand there, and is not to be shown as well.
    pub(super) fn blank(&mut self, span: Span) {
        self.sources.hide(span);
    }

    /// From now on, the values that were put into scalars are told by no message.
    pub(super) fn hide(&mut self, values: Fillings) {
        *self.hidden = values;
    }

    /// Forgets them again: no more problems follow.
    pub(super) fn forget(&mut self) {
        *self.hidden = Fillings::default();
    }

    /// The scalars that were made with values from outside of the policy.
    pub(super) fn fillings(&self) -> &Fillings {
        &self.hidden
    }

    /// Takes note of a problem in one of the files.
    pub fn report(&mut self, mut problem: Problem) {
        // What follows from a value that could not be had, which was told.
        if self.hidden.is_broken(problem.span) {
            return;
        }
        // An excerpt of this line, for this problem or for another, must not show it.
        if problem.code == "secret_in_file" {
            self.sources.hide(problem.span);
        }
        let is_error = problem.severity == Severity::Error;
        // Warnings never take the place of an error, nor keep a file from loading by their number.
        let full = if is_error { self.is_full() } else { self.warnings() >= MAX_KEPT };
        if is_error {
            self.errors = self.errors.saturating_add(1);
        }
        if full {
            self.untold = self.untold.saturating_add(1);
            return;
        }
        self.hidden.hide(&mut problem);
        problem.file = self.sources.name(problem.span.file);
        for related in &mut problem.related {
            related.file = self.sources.name(related.span.file);
        }
        self.list.push(problem);
    }

    /// Whether any of them keeps the file from loading.
    #[must_use]
    pub const fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// Whether further errors are counted, but no longer kept.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.errors >= MAX_KEPT
    }

    fn warnings(&self) -> usize {
        self.list.iter().filter(|problem| problem.severity == Severity::Warning).count()
    }

    /// Forgets the warnings that somebody has accepted.
    pub fn accept(&mut self, mut accepted: impl FnMut(&Problem) -> bool) {
        self.list.retain(|problem| problem.severity == Severity::Error || !accepted(problem));
    }

    /// Whether there is any problem, warnings included.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.list.is_empty() && self.untold == 0
    }

    /// How many problems there are beyond those kept.
    #[must_use]
    pub const fn untold(&self) -> usize {
        self.untold
    }

    /// Puts them in the order of their places.
    pub fn sort(&mut self) {
        self.list.sort_by(|a, b| (a.span, a.code).cmp(&(b.span, b.code)));
    }

    /// Those that were kept.
    #[must_use]
    pub fn as_slice(&self) -> &[Problem] {
        &self.list
    }

    /// Every problem as [`Problem::render`] shows it, and how many more there are.
    #[must_use]
    pub fn render(&self, styled: bool) -> String {
        let mut rendered: Vec<String> = self.list.iter().map(|problem| problem.render(&self.sources, styled)).collect();
        if self.untold > 0 {
            rendered.push(format!("... and {} more\n", self.untold));
        }
        rendered.join("\n")
    }
}

/// One line a problem.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.list {
            writeln!(f, "{problem}")?;
        }
        if self.untold > 0 { writeln!(f, "... and {} more", self.untold) } else { Ok(()) }
    }
}

impl Serialize for Problems {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(&self.list)
    }
}

/// The lines of a file that a problem is about.
struct Excerpt<'a> {
    text: &'a str,
    start: usize,
    line: usize,
}

impl<'a> Excerpt<'a> {
    fn of(source: &'a str, spans: &[Span]) -> Option<Self> {
        let first = spans.iter().min()?;
        let last = spans.iter().max()?;
        let before = source.get(..first.offset as usize)?;
        let start = before.rfind('\n').map_or(0, |at| at.saturating_add(1));
        let after = source.get(last.offset as usize..)?;
        let end = after.find('\n').map_or(source.len(), |at| at.saturating_add(last.offset as usize));
        Some(Self { text: source.get(start..end)?, start, line: first.line as usize })
    }

    /// A span within this text, cut at its first line end.
    fn place(&self, span: Span) -> Range<usize> {
        let start = (span.offset as usize).saturating_sub(self.start).min(self.text.len());
        let rest = self.text.get(start..).unwrap_or_default();
        let covered = rest.get(..span.len as usize).unwrap_or(rest);
        let line = covered.split(['\n', '\r']).next().unwrap_or_default().trim_end();
        start..start.saturating_add(line.len())
    }
}

/// The candidate that a word was most likely meant to be, if any is near: swapped, missing, added or changed letters.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > MAX_COMPARED {
        return None;
    }
    let allowed = word.len().div_euclid(3).clamp(1, 3);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= MAX_COMPARED && candidate.len() > 1)
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(away, _)| *away <= allowed)
        .min_by_key(|(away, _)| *away)
        .map(|(_, candidate)| candidate)
}

/// Optimal string alignment: insertions, deletions, changes and swaps of neighbours; case does not count.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().map(|c| c.to_ascii_lowercase()).collect();
    let mut older: Vec<usize> = Vec::new();
    let mut old: Vec<usize> = (0..=b.len()).collect();
    let mut last = None;
    for (row, left) in a.chars().map(|c| c.to_ascii_lowercase()).enumerate() {
        let mut new = vec![row.saturating_add(1)];
        for (column, right) in b.iter().enumerate() {
            let at = |cells: &[usize], column: usize| cells.get(column).copied().unwrap_or(usize::MAX);
            let next = column.saturating_add(1);
            let change = at(&old, column).saturating_add(usize::from(left != *right));
            let mut best = change.min(at(&old, next).saturating_add(1)).min(at(&new, column).saturating_add(1));
            let before = column.checked_sub(1);
            if last == Some(*right) && before.and_then(|at| b.get(at)) == Some(&left) {
                best = best.min(at(&older, before.unwrap_or_default()).saturating_add(1));
            }
            new.push(best);
        }
        older = std::mem::replace(&mut old, new);
        last = Some(left);
    }
    old.last().copied().unwrap_or_default()
}

fn write_line(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    text.split_whitespace().enumerate().try_for_each(|(at, word)| {
        if at > 0 {
            f.write_str(" ")?;
        }
        f.write_str(word)
    })
}

fn as_text<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "routes:\n  /a: public\n  /ä: role:x\n  /a: role:y\n";

    fn twice() -> Problems {
        let mut problems = Problems::of("portcullis.yaml", TEXT);
        problems.report(
            Problem::error(
                "duplicate_key",
                Span { line: 4, column: 3, offset: 37, len: 2, ..Span::START },
                "`/a` is here twice",
            )
            .cure("keep one of the two lines")
            .related(Span { line: 2, column: 3, offset: 10, len: 2, ..Span::START }, "first here"),
        );
        problems
    }

    #[test]
    fn a_problem_shows_both_lines_a_caret_and_the_cure() {
        let shown = twice().render(false);
        for part in
            ["error[duplicate_key]: `/a` is here twice", "portcullis.yaml:4:3", "2 |   /a: public", "first here"]
        {
            assert!(shown.contains(part), "{part}\n{shown}");
        }
        assert!(shown.contains("4 |   /a: role:y\n  |   ^^"), "{shown}");
        assert!(shown.contains("help: keep one of the two lines"), "{shown}");
    }

    #[test]
    fn a_problem_of_two_files_shows_each_place_in_its_own() {
        let mut problems = Problems::of("root.yaml", "routes:\n  /x: public\n");
        let team = problems.add_source("team.yaml", "# ours\n\nroutes:\n  /x: role:y\n").unwrap();
        let place = Span { file: team, line: 4, column: 3, offset: 18, len: 2 };
        let first = Span { line: 2, column: 3, offset: 10, len: 2, ..Span::START };
        problems.report(Problem::error("route_clash", place, "twice").related(first, "first here").cure("keep one"));
        let expected = "\
error[route_clash]: twice
 --> team.yaml:4:3
  |
4 |   /x: role:y
  |   ^^
  |
 ::: root.yaml:2:3
  |
2 |   /x: public
  |   -- first here
  |
  = help: keep one
";
        assert_eq!(problems.render(false), expected);
        assert_eq!(problems.to_string(), "team.yaml:4:3: error[route_clash]: twice; keep one\n");
        let json = serde_json::to_value(&problems).unwrap();
        assert_eq!((&json[0]["file"], &json[0]["related"][0]["file"]), (&"team.yaml".into(), &"root.yaml".into()));
        assert_eq!((&json[0]["line"], &json[0]["related"][0]["line"]), (&4.into(), &2.into()));
        assert_eq!(json[0]["related"][0]["label"], "first here");
    }

    #[test]
    fn a_problem_is_one_line_for_tools() {
        let mut problem = twice().as_slice()[0].clone();
        problem.message = "two\nlines".into();
        assert_eq!(
            problem.to_string(),
            "portcullis.yaml:4:3: error[duplicate_key]: two lines; keep one of the two lines"
        );
        let json = serde_json::to_value(&problem).unwrap();
        assert_eq!(
            (&json["code"], &json["line"], &json["severity"]),
            (&"duplicate_key".into(), &4.into(), &"error".into())
        );
    }

    #[test]
    fn a_place_outside_of_the_text_is_shown_without_a_snippet() {
        let mut problems = Problems::of("portcullis.yaml", TEXT);
        problems.report(Problem::error("e", Span { line: 4, column: 3, offset: 4_000, len: 2, ..Span::START }, "e"));
        assert!(problems.render(false).starts_with("portcullis.yaml:4:3: error"));
    }

    #[test]
    fn problems_are_sorted_by_place_and_capped_without_forgetting_that_there_was_an_error() {
        let mut problems = Problems::default();
        for line in (1..=150).rev() {
            problems.report(Problem::warning("w", Span { line, ..Span::default() }, "w"));
        }
        assert!(!problems.has_errors() && !problems.is_full(), "warnings do not keep a file from loading");
        problems.report(Problem::error("e", Span::default(), "e"));
        problems.sort();
        assert!(problems.has_errors());
        assert_eq!((problems.as_slice().len(), problems.untold()), (101, 50));
        assert_eq!((problems.as_slice()[0].code, problems.as_slice()[1].span.line), ("e", 51));
        assert!(problems.to_string().ends_with("... and 50 more\n"));
        problems.accept(|problem| problem.span.line < 150);
        assert_eq!(problems.as_slice().iter().map(|problem| problem.code).collect::<Vec<_>>(), ["e", "w"]);
    }

    #[test]
    fn the_nearest_word_is_suggested_and_a_far_one_is_not() {
        let words = ["issuers", "routes", "headers", "guards"];
        assert_eq!(nearest("isuers", words), Some("issuers"));
        assert_eq!(nearest("ruotes", words), Some("routes"));
        assert_eq!(nearest("Headers", words), Some("headers"));
        assert_eq!(nearest("guardz", words), Some("guards"));
        assert_eq!(nearest("limits", words), None);
        assert_eq!(nearest(&"x".repeat(1_000_000), words), None);
        assert_eq!((distance("ab", "ba"), distance("", "abc"), distance("kitten", "sitting")), (1, 3, 3));
    }
}
