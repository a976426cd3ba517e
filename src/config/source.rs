//! The files that a policy is read from, by number: what each is called and what it says, so that a place can be shown.

use std::ops::Range;
use std::sync::Arc;

use super::error::{Span, Text};

/// A file's number in its [`Sources`]; the policy file itself is the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(u16);

/// Files, each with its name and its text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources(Vec<Source>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Source {
    name: Arc<str>,
    text: Arc<str>,
}

impl FileId {
    /// The policy file.
    pub const POLICY: Self = Self(0);
}

impl Sources {
    /// Takes in one more file; `None` where there are 65,536 already. Its text may be empty where it cannot be read.
    pub fn add(&mut self, name: &str, text: &str) -> Option<FileId> {
        let id = FileId(u16::try_from(self.0.len()).ok()?);
        self.0.push(Source { name: Arc::from(name), text: Arc::from(text) });
        Some(id)
    }

    /// All of them, each with its name and its text; the policy file first.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|source| (&*source.name, &*source.text))
    }

    /// What a file is called; empty where there is none of this number.
    #[must_use]
    pub fn name(&self, file: FileId) -> Arc<str> {
        self.source(file).map(|source| Arc::clone(&source.name)).unwrap_or_default()
    }

    /// What a file says; empty where there is none of this number.
    #[must_use]
    pub fn text(&self, file: FileId) -> &str {
        self.source(file).map_or("", |source| &source.text)
    }

    /// Puts stars in the place of what should not have been written there, so that no excerpt shows it.
    pub(super) fn hide(&mut self, span: Span) {
        let Some(source) = self.0.get_mut(usize::from(span.file.0)) else { return };
        let (from, len) = (span.offset as usize, span.len as usize);
        let Some((before, rest)) = source.text.split_at_checked(from) else { return };
        let Some((hidden, after)) = rest.split_at_checked(len) else { return };
        let star = |byte| if byte == b'\n' { '\n' } else { '*' };
        source.text = before.chars().chain(hidden.bytes().map(star)).chain(after.chars()).collect::<String>().into();
    }

    fn source(&self, file: FileId) -> Option<&Source> {
        self.0.get(usize::from(file.0))
    }

    /// The place of a part of a text; that of all of it where it was not written as it reads.
    #[must_use]
    pub fn within(&self, text: &Text, at: &Range<usize>) -> Span {
        let whole = text.span;
        let narrowed = || {
            let source = self.text(whole.file).get(whole.offset as usize..)?;
            let bare = source.strip_prefix(['"', '\'']).filter(|bare| bare.starts_with(&*text.value));
            let source = bare.or_else(|| source.starts_with(&*text.value).then_some(source))?;
            let before = source.get(..at.start).filter(|before| !before.contains('\n'))?;
            let quote = u32::from(bare.is_some());
            let columns = u32::try_from(before.chars().count()).ok()?;
            Some(Span {
                column: whole.column.saturating_add(quote).saturating_add(columns),
                offset: whole.offset.saturating_add(quote).saturating_add(u32::try_from(at.start).ok()?),
                len: u32::try_from(at.len()).ok()?,
                ..whole
            })
        };
        narrowed().unwrap_or(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden_takes_as_much_room_as_before() {
        let mut sources = Sources::default();
        sources.add("a.yaml", "key: geheimäß\nb: c\n");
        let span = |offset, len| Span { file: FileId::POLICY, line: 1, column: 1, offset, len };
        for nowhere in [span(99, 1), span(5, 99), span(12, 1)] {
            sources.hide(nowhere);
        }
        assert_eq!(sources.text(FileId::POLICY), "key: geheimäß\nb: c\n");
        sources.hide(span(5, 12));
        assert_eq!(sources.text(FileId::POLICY), "key: **********\n*: c\n");
    }

    #[test]
    fn a_place_is_found_in_the_file_that_it_is_in() {
        let mut sources = Sources::default();
        assert_eq!(sources.add("a.yaml", "x: role:y\n"), Some(FileId::POLICY));
        let second = sources.add("b.yaml", "roles: {ä: \"role:zz\"}\n").unwrap();
        assert_eq!((&*sources.name(second), sources.text(FileId::POLICY)), ("b.yaml", "x: role:y\n"));
        let span = Span { file: second, line: 1, column: 12, offset: 12, len: 9 };
        let text = Text::new("role:zz".into(), span);
        assert_eq!(sources.within(&text, &(5..7)), Span { column: 18, offset: 18, len: 2, ..span });
        let elsewhere = Text::new("role:zz".into(), Span { file: FileId::POLICY, ..span });
        assert_eq!(sources.within(&elsewhere, &(5..7)), elsewhere.span);
        assert_eq!(sources.text(FileId(7)), "");
    }
}
