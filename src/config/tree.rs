//! Text into a tree in which every key and value knows its place: a strict subset of YAML 1.2.

use std::borrow::Cow;

use serde_saphyr::granit_parser::{self, ErrorKind, Event, Parser, ScalarStyle, ScanError};

use super::error::{Problem, Span};
use super::trap;

/// The largest file, in bytes.
pub const MAX_FILE: usize = 16 << 20;
/// The longest key or value, in bytes.
pub const MAX_SCALAR: usize = 1 << 20;
/// How deep lists and maps may nest.
pub const MAX_DEPTH: usize = 32;
/// How many keys, values, lists and maps a file may have.
pub const MAX_NODES: usize = 500_000;
/// How many aliases, anchors, tags and merge keys are reported one by one.
const MAX_REFUSED: usize = 32;

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
    const HERE: Span = Span::START;
    if bytes.len() > MAX_FILE {
        return Err(Problem::error("file_too_large", HERE, "the file is larger than 16 MiB").into());
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
            // What breaks the text on the line of a trap, or right after it, is that trap.
            let line = problem.span.line;
            let explained = |last: &Problem| last.span.line == line || last.span.line.saturating_add(1) == line;
            if !growth.problems.last().is_some_and(explained) {
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
                self.refuse_properties(span, anchor, tag.is_some())?;
                let node = self.scalar(text, style, here)?;
                self.add(node)?;
            }
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                let text: Box<str> = self.slice(here).into();
                self.refuse(trap::alias(self.text, here))?;
                self.add(Node { span: here, kind: Kind::Text { text, plain: true } })?;
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.refuse_properties(span, anchor, tag.is_some())?;
                self.enter(Open::List(here, Vec::new()))?;
            }
            Event::MappingStart(_, anchor, tag) => {
                self.refuse_properties(span, anchor, tag.is_some())?;
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
            )?;
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
                let node = self.as_key(Node { span: reach(span), kind: Kind::List(items) })?;
                self.add(node)
            }
            Some(Open::Map(span, entries, _)) => {
                let node = self.as_key(Node { span: reach(span), kind: Kind::Map(entries) })?;
                self.add(node)
            }
            None => Ok(()),
        }
    }

    fn add(&mut self, node: Node) -> Result<(), Box<Problem>> {
        self.nodes = self.nodes.saturating_add(1);
        if self.nodes > MAX_NODES {
            return Err(
                Problem::error("too_many_values", node.span, "the file has more than 500,000 keys and values").into()
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
    fn as_key(&mut self, node: Node) -> Result<Node, Box<Problem>> {
        if !matches!(node.kind, Kind::List(_) | Kind::Map(_))
            || !matches!(self.open.last(), Some(Open::Map(_, _, None)))
        {
            return Ok(node);
        }
        self.refuse(trap::key(self.text, node.span))?;
        let text: Box<str> = self.slice(node.span).trim_end().into();
        Ok(Node { span: node.span, kind: Kind::Text { text, plain: true } })
    }

    fn refuse_properties(
        &mut self,
        span: &granit_parser::Span,
        anchor: usize,
        tagged: bool,
    ) -> Result<(), Box<Problem>> {
        if anchor != 0 {
            self.refuse(trap::anchor(self.text, place(span)))?;
        }
        if tagged {
            self.refuse(trap::tag(self.text, span.tag_span().map_or_else(|| place(span), |span| place(&span))))?;
        }
        Ok(())
    }

    /// Takes note of what cannot be part of a policy; a file that is full of it is not read on.
    fn refuse(&mut self, problem: Problem) -> Result<(), Box<Problem>> {
        if self.problems.len() >= MAX_REFUSED {
            return Err(problem.into());
        }
        self.problems.push(problem);
        Ok(())
    }

    fn slice(&self, span: Span) -> &str {
        let start = span.offset as usize;
        self.text.get(start..start.saturating_add(span.len as usize)).unwrap_or_default()
    }
}

/// Refuses what an editor does not show, or shows other than it is.
fn acceptable(text: &str) -> Result<(), Box<Problem>> {
    if text.len() > MAX_FILE {
        return Err(Problem::error("file_too_large", span_at(text, 0, 0), "the file is larger than 16 MiB").into());
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
        ..Span::START
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
        ..Span::START
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
        ..Span::START
    }
}

fn narrow(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(u32, u32, &'static str)> {
        read(text).1.iter().map(|problem| (problem.span.line, problem.span.column, problem.code)).collect()
    }

    fn values(text: &str) -> Vec<(String, Kind)> {
        let (tree, problems) = read(text);
        assert_eq!(problems, [], "{text}");
        let Kind::Map(entries) = tree.unwrap().kind else { panic!("no map: {text}") };
        let name = |key: Node| if let Kind::Text { text, .. } = key.kind { text.into() } else { String::new() };
        entries.into_iter().map(|(key, value)| (name(key), value.kind)).collect()
    }

    fn plain(text: &str) -> Kind {
        Kind::Text { text: text.into(), plain: true }
    }

    #[test]
    fn keys_and_values_know_their_line_column_and_bytes() {
        let text = "# ü\nroutes:\n  \"/ä\":  role:x\n  GET /b: {any: [role:y, 'z']}\n";
        let (tree, problems) = read(text);
        assert!(problems.is_empty());
        let mut seen = Vec::new();
        let mut open = vec![tree.unwrap()];
        while let Some(node) = open.pop() {
            let span = node.span;
            let slice = text.get(span.offset as usize..).and_then(|rest| rest.get(..span.len as usize)).unwrap();
            match node.kind {
                Kind::Map(entries) => open.extend(entries.into_iter().flat_map(|(key, value)| [key, value])),
                Kind::List(items) => {
                    assert_eq!(slice, "[role:y, 'z']");
                    open.extend(items);
                }
                _ => seen.push((span.line, span.column, slice)),
            }
        }
        seen.sort_unstable();
        let expected = [
            (2, 1, "routes"),
            (3, 3, "\"/ä\""),
            (3, 10, "role:x"),
            (4, 3, "GET /b"),
            (4, 12, "any"),
            (4, 18, "role:y"),
            (4, 26, "'z'"),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn scalars_are_taken_as_written() {
        // L02
        let text = "a: yes\nb: no\nc: on\nd: 0o7\ne: 1_000\nf: .inf\ng: 010\nh: 1.0\ni: True\nj: 2024-01-01\n";
        for (_, kind) in values(text) {
            assert!(matches!(&kind, Kind::Text { plain: true, .. }), "{kind:?}");
        }
        let text = "a: true\nb: \"true\"\nc: ~\nd: 'null'\ne:\nf: |\n  x\n";
        let kinds: Vec<Kind> = values(text).into_iter().map(|(_, kind)| kind).collect();
        let quoted = |text: &str| Kind::Text { text: text.into(), plain: false };
        assert_eq!(kinds, [Kind::Bool(true), quoted("true"), Kind::Null, quoted("null"), Kind::Null, quoted("x\n")]);
    }

    #[test]
    fn a_key_that_is_there_twice_is_kept_twice() {
        assert_eq!(
            values("a: 1\nb: 2\na: 3\n"),
            [("a".into(), plain("1")), ("b".into(), plain("2")), ("a".into(), plain("3"))]
        );
    }

    #[test]
    fn anchors_aliases_tags_and_merge_keys_are_refused_at_their_places() {
        // L02
        let text = "a: !role x\nb: !!binary aGk=\nc: &x 1\nd: *x\ne: !!str y\nf: ! z\n";
        let expected = [(1, 4, "tag"), (2, 4, "tag"), (3, 4, "anchor"), (4, 4, "alias"), (5, 4, "tag"), (6, 4, "tag")];
        assert_eq!(found(text), expected);
        assert_eq!(found("a:\n  <<: {b: c}\n"), [(2, 3, "merge_key")]);
        assert_eq!(found("a: {x: 1, <<: [b]}\n"), [(1, 11, "merge_key")]);
        assert_eq!(found("\"<<\": role:x\n"), []);
        assert_eq!(found("%YAML 1.1\n---\na: on\n"), [(1, 1, "quote_key")]);
    }

    #[test]
    fn an_alias_bomb_is_refused_without_being_expanded() {
        // L02
        let mut text = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
        for level in 1..=9 {
            let aliases = vec![format!("*a{}", level - 1); 9].join(", ");
            text.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
        }
        let problems = read(&text).1;
        assert!(problems.len() <= MAX_REFUSED + 1);
        assert!(problems.iter().all(|problem| matches!(problem.code, "alias" | "anchor")));
    }

    #[test]
    fn depth_length_and_number_are_bounded() {
        // L02
        for open in ["[", "{a: ", "- ", "? ", "a: ["] {
            let problems = read(&open.repeat(10_000)).1;
            assert_eq!(problems.iter().map(|problem| problem.code).collect::<Vec<_>>(), ["too_deep"], "{open}");
        }
        let block: String = (0..10_000).map(|depth| format!("{}a:\n", " ".repeat(depth.min(200)))).collect();
        assert_eq!(found(&block)[0].2, "too_deep");
        let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!((found(&deep(32)).len(), found(&deep(33))[0].2), (0, "too_deep"));
        let long = |length: usize| format!("a: {}\n", "x".repeat(length));
        assert_eq!((found(&long(MAX_SCALAR)).len(), found(&long(MAX_SCALAR + 1))[0].2), (0, "value_too_long"));
        let keys: String = (0..250_000).map(|key| format!("k{key}: 1\n")).collect();
        assert_eq!(found(&keys)[0].2, "too_many_values");
        assert_eq!(found(&"x: y\n".repeat(MAX_FILE / 5 + 1)), [(1, 1, "file_too_large")]);
    }

    #[test]
    fn what_an_editor_does_not_show_is_refused() {
        // L02
        assert_eq!(found("\u{feff}a: b\n"), [(1, 1, "byte_order_mark")]);
        assert_eq!(found("a: b\n\0"), [(2, 1, "control_character")]);
        assert_eq!(found("ä: b\u{202e}c\n"), [(1, 5, "control_character")]);
        assert_eq!(found("a: b\u{85}c: d\n"), [(1, 5, "control_character")]);
        assert_eq!(found("a: b\r\nc: d\r\n"), []);
    }

    #[test]
    fn bytes_that_are_not_utf8_are_refused() {
        // L02
        fn code(bytes: &[u8]) -> Result<&str, (u32, u32, &'static str)> {
            decode(bytes).map_err(|problem| (problem.span.line, problem.span.column, problem.code))
        }
        let utf16: Vec<u8> = "\u{feff}a: b".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(code(&utf16), Err((1, 1, "not_utf8")));
        assert_eq!(code(b"a: b\nc: \xff"), Err((2, 4, "not_utf8")));
        assert_eq!(code(&vec![b' '; MAX_FILE + 1]), Err((1, 1, "file_too_large")));
        assert_eq!(code("a: ü".as_bytes()), Ok("a: ü"));
    }

    #[test]
    fn one_document_is_read() {
        // L02
        assert_eq!(found("a: b\n---\nc: d\n"), [(2, 1, "two_documents")]);
        assert_eq!(found("---\na: b\n...\n"), []);
        assert_eq!(read("# nothing\n"), (None, Vec::new()));
    }

    #[test]
    fn ten_thousand_routes_are_read() {
        let text: String = (0..10_000).map(|n| format!("  /team{}/item{n}/{{id}}: role:r{n}\n", n % 50)).collect();
        let (tree, problems) = read(&format!("routes:\n{text}"));
        assert!(problems.is_empty());
        assert!(
            matches!(tree.unwrap().kind, Kind::Map(top) if matches!(&top[0].1.kind, Kind::Map(routes) if routes.len() == 10_000))
        );
    }
}
