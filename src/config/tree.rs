//! Text into a tree in which every key and value knows its place: a strict subset of YAML 1.2.

use std::borrow::Cow;

use serde_saphyr::granit_parser::{self, ErrorKind, Event, Parser, ScalarStyle, ScanError};

use super::error::{Problem, Span};
use super::trap;

/// The largest file, in bytes.
pub const MAX_FILE: usize = 4 << 20;
/// The longest key or value, in bytes.
pub const MAX_SCALAR: usize = 1 << 20;
/// How deep lists and maps may nest.
pub const MAX_DEPTH: usize = 32;
/// How many keys, values, lists and maps a file may have.
pub const MAX_NODES: usize = 150_000;

/// A value, list or map, and where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Where it begins, and how long it is.
    pub span: Span,
    /// What it is.
    pub kind: Kind,
}

/// What a node is. Numbers are text, as they were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing, `~` or `null`.
    Null,
    /// Plain `true` or `false`, and no other spelling.
    Bool(bool),
    /// Everything else that is neither list nor map.
    Text {
        /// After quotes and escapes were resolved.
        text: Box<str>,
        /// Whether it was written without quotes, and not as a block.
        plain: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// A map, in file order; the same key may be there twice.
    Map(Vec<(Node, Node)>),
}

impl Kind {
    /// What it is, with its article, for messages.
    #[must_use]
    pub const fn noun(&self) -> &'static str {
        match self {
            Self::Null => "empty",
            Self::Bool(_) => "true or false",
            Self::Text { .. } => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

/// Reads the bytes of a file as text.
///
/// # Errors
/// Where the file is too large, or not UTF-8.
pub fn decode(bytes: &[u8]) -> Result<&str, Box<Problem>> {
    const HERE: Span = Span { line: 1, column: 1, offset: 0, len: 0 };
    if bytes.len() > MAX_FILE {
        return Err(Problem::error("file_too_large", HERE, "the file is larger than 4 MiB").into());
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(Problem::error("not_utf8", HERE, "the file is UTF-16").cure("save it as UTF-8").into());
    }
    std::str::from_utf8(bytes).map_err(|error| {
        let good = bytes.get(..error.valid_up_to()).and_then(|good| std::str::from_utf8(good).ok()).unwrap_or_default();
        Problem::error("not_utf8", span_at(good, good.len(), 1), "the file is not UTF-8 from here on")
            .cure("save it as UTF-8")
            .into()
    })
}

/// Reads one document.
///
/// What cannot be part of any policy (anchors, aliases, tags, merge keys) is reported, and reading goes on; there is
/// no tree where the text cannot be read to its end.
#[must_use]
pub fn read(text: &str) -> (Option<Node>, Vec<Problem>) {
    if let Err(problem) = acceptable(text) {
        return (None, vec![*problem]);
    }
    let mut options = granit_parser::options! {
        disallow_directives: true,
        emit_unresolved_aliases: true,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    options.set_emit_comments(false);
    let mut growth = Growth { text, open: Vec::new(), root: None, nodes: 0, problems: Vec::new() };
    for event in Parser::new_from_str_with_options(text, options) {
        let grown = match event {
            Ok((event, span)) => growth.take(event, &span),
            Err(error) => Err(unreadable(text, &error).into()),
        };
        if let Err(problem) = grown {
            // What breaks the text on the line of a trap is that trap.
            if growth.problems.last().is_none_or(|last| last.span.line != problem.span.line) {
                growth.problems.push(*problem);
            }
            return (None, growth.problems);
        }
    }
    (growth.root, growth.problems)
}

/// A list or map that has not ended yet.
enum Open {
    List(Span, Vec<Node>),
    Map(Span, Vec<(Node, Node)>, Option<Node>),
}

/// A tree while it is read.
struct Growth<'a> {
    text: &'a str,
    open: Vec<Open>,
    root: Option<Node>,
    nodes: usize,
    problems: Vec<Problem>,
}

impl Growth<'_> {
    fn take(&mut self, event: Event<'_>, span: &granit_parser::Span) -> Result<(), Box<Problem>> {
        let here = place(span);
        match event {
            Event::DocumentStart(..) if self.root.is_some() => {
                return Err(Problem::error("two_documents", here, "a second document begins here")
                    .cure("keep one document to a file: remove this `---`")
                    .into());
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_properties(span, anchor, tag.is_some());
                let node = self.scalar(text, style, here)?;
                self.add(node)?;
            }
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                let text: Box<str> = self.slice(here).into();
                self.refuse(trap::alias(self.text, here));
                self.add(Node { span: here, kind: Kind::Text { text, plain: true } })?;
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.refuse_properties(span, anchor, tag.is_some());
                self.enter(Open::List(here, Vec::new()))?;
            }
            Event::MappingStart(_, anchor, tag) => {
                self.refuse_properties(span, anchor, tag.is_some());
                self.enter(Open::Map(here, Vec::new(), None))?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.leave(here)?,
            _ => {}
        }
        Ok(())
    }

    fn scalar(&mut self, text: Cow<'_, str>, style: ScalarStyle, span: Span) -> Result<Node, Box<Problem>> {
        if text.len() > MAX_SCALAR {
            return Err(Problem::error("value_too_long", span, "this value is longer than 1 MiB").into());
        }
        let plain = style == ScalarStyle::Plain;
        if plain && text == "<<" && matches!(self.open.last(), Some(Open::Map(_, _, None))) {
            self.refuse(
                Problem::error("merge_key", span, "`<<` would merge another map into this one, which is not read here")
                    .cure("write the lines out"),
            );
        }
        let kind = match &*text {
            "" | "~" | "null" | "Null" | "NULL" if plain => Kind::Null,
            "true" if plain => Kind::Bool(true),
            "false" if plain => Kind::Bool(false),
            _ => Kind::Text { text: text.into(), plain },
        };
        Ok(Node { span, kind })
    }

    fn enter(&mut self, open: Open) -> Result<(), Box<Problem>> {
        if self.open.len() >= MAX_DEPTH {
            let (Open::List(span, _) | Open::Map(span, ..)) = open;
            return Err(too_deep(span).into());
        }
        self.open.push(open);
        Ok(())
    }

    fn leave(&mut self, end: Span) -> Result<(), Box<Problem>> {
        let reach = |span: Span| Span {
            len: end.offset.saturating_add(end.len).saturating_sub(span.offset).max(span.len),
            ..span
        };
        match self.open.pop() {
            Some(Open::List(span, items)) => {
                let node = self.as_key(Node { span: reach(span), kind: Kind::List(items) });
                self.add(node)
            }
            Some(Open::Map(span, entries, _)) => {
                let node = self.as_key(Node { span: reach(span), kind: Kind::Map(entries) });
                self.add(node)
            }
            None => Ok(()),
        }
    }

    fn add(&mut self, node: Node) -> Result<(), Box<Problem>> {
        self.nodes = self.nodes.saturating_add(1);
        if self.nodes > MAX_NODES {
            return Err(
                Problem::error("too_many_values", node.span, "the file has more than 150,000 keys and values").into()
            );
        }
        match self.open.last_mut() {
            Some(Open::List(_, items)) => items.push(node),
            Some(Open::Map(_, entries, key)) => match key.take() {
                Some(key) => entries.push((key, node)),
                None => *key = Some(node),
            },
            None => self.root = Some(node),
        }
        Ok(())
    }

    /// A key is text: what YAML reads as a list or map in its place is taken as it was written, and reported.
    fn as_key(&mut self, node: Node) -> Node {
        if !matches!(node.kind, Kind::List(_) | Kind::Map(_))
            || !matches!(self.open.last(), Some(Open::Map(_, _, None)))
        {
            return node;
        }
        self.refuse(trap::key(self.text, node.span));
        let text: Box<str> = self.slice(node.span).trim_end().into();
        Node { span: node.span, kind: Kind::Text { text, plain: true } }
    }

    fn refuse_properties(&mut self, span: &granit_parser::Span, anchor: usize, tagged: bool) {
        if anchor != 0 {
            self.refuse(trap::anchor(self.text, place(span)));
        }
        if tagged {
            self.refuse(trap::tag(self.text, span.tag_span().map_or_else(|| place(span), |span| place(&span))));
        }
    }

    fn refuse(&mut self, problem: Problem) {
        if self.problems.len() < MAX_DEPTH {
            self.problems.push(problem);
        }
    }

    fn slice(&self, span: Span) -> &str {
        let start = span.offset as usize;
        self.text.get(start..start.saturating_add(span.len as usize)).unwrap_or_default()
    }
}

/// Refuses what an editor does not show, or shows other than it is.
fn acceptable(text: &str) -> Result<(), Box<Problem>> {
    if text.len() > MAX_FILE {
        return Err(Problem::error("file_too_large", span_at(text, 0, 0), "the file is larger than 4 MiB").into());
    }
    let unseen = |c: char| {
        (c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
            || matches!(c, '\u{feff}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let Some((at, found)) = text.char_indices().find(|(_, c)| unseen(*c)) else { return Ok(()) };
    let span = span_at(text, at, found.len_utf8());
    let problem = match found {
        '\u{feff}' => Problem::error("byte_order_mark", span, "a byte order mark is here")
            .cure("save the file as UTF-8 without a byte order mark"),
        '\0' => Problem::error("control_character", span, "a NUL byte is here")
            .cure("the file may be UTF-16 or not text at all: save it as UTF-8"),
        _ => Problem::error(
            "control_character",
            span,
            format!("the invisible character U+{:04X} is here", u32::from(found)),
        )
        .cure("remove it"),
    };
    Err(problem.into())
}

fn unreadable(text: &str, error: &ScanError) -> Problem {
    let marker = error.marker();
    let offset = marker.byte_offset().unwrap_or(text.len()).min(text.len());
    let span = Span {
        line: narrow(marker.line()),
        column: narrow(marker.col().saturating_add(1)),
        offset: narrow(offset),
        len: u32::from(offset < text.len()),
    };
    if *error.kind() == ErrorKind::RecursionLimitExceeded {
        return too_deep(span);
    }
    trap::syntax(text, span, error.kind())
}

fn too_deep(span: Span) -> Problem {
    Problem::error("too_deep", span, "lists and maps nest deeper than 32 here")
}

fn place(span: &granit_parser::Span) -> Span {
    let start = span.start.byte_offset().unwrap_or_default();
    Span {
        line: narrow(span.start.line()),
        column: narrow(span.start.col().saturating_add(1)),
        offset: narrow(start),
        len: narrow(span.end.byte_offset().unwrap_or(start).saturating_sub(start)),
    }
}

/// The place of a byte offset.
fn span_at(text: &str, offset: usize, len: usize) -> Span {
    let before = text.get(..offset).unwrap_or_default();
    let line = before.rsplit('\n').next().unwrap_or_default();
    Span {
        line: narrow(before.matches('\n').count().saturating_add(1)),
        column: narrow(line.chars().count().saturating_add(1)),
        offset: narrow(offset),
        len: narrow(len),
    }
}

fn narrow(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
