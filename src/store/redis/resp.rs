//! Redis's protocol, RESP2: commands out, replies in, in bounds. A reply is never larger than was asked for, nor deep.

use bytes::{Buf, BytesMut};

use crate::store::fault::Fault;

/// How deep lists may nest: a page of a scan is a list in a list.
const DEPTH: u8 = 3;
/// The longest line: an error's text, most of all.
const LINE: usize = 4_096;
/// What the shortest reply takes: `+`, CR, LF.
const SHORTEST: usize = 3;

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A status: `OK`.
    Status(Vec<u8>),
    /// A refusal.
    Error(Vec<u8>),
    /// A number.
    Number(i64),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Nothing: a key that is not there.
    Nil,
    /// Several.
    List(Vec<Reply>),
}

impl Reply {
    /// The same; an error as the fault that it is.
    pub fn good(self) -> Result<Self, Fault> {
        match self {
            Self::Error(error) => Err(Fault::of_reply(&error)),
            reply => Ok(reply),
        }
    }
}

/// Appends a command.
pub fn encode(to: &mut Vec<u8>, words: &[&[u8]]) {
    let head = |to: &mut Vec<u8>, kind, length: usize| {
        to.push(kind);
        to.extend_from_slice(length.to_string().as_bytes());
        to.extend_from_slice(b"\r\n");
    };
    head(to, b'*', words.len());
    for word in words {
        head(to, b'$', word.len());
        to.extend_from_slice(word);
        to.extend_from_slice(b"\r\n");
    }
}

/// Reads replies as they arrive.
#[derive(Default)]
pub struct Reader {
    /// What has arrived and was not read.
    pub arrived: BytesMut,
    /// How much must have arrived for a reply to be whole, as far as is known.
    awaited: usize,
}

impl Reader {
    /// Takes one reply of at most `limit` bytes; `None` where it has not arrived in full.
    pub fn take(&mut self, limit: usize) -> Result<Option<Reply>, Fault> {
        if self.arrived.is_empty() || self.arrived.len() < self.awaited {
            return Ok(None);
        }
        let mut cursor = Cursor { bytes: &self.arrived, at: 0, limit };
        match cursor.reply(DEPTH) {
            // A line may be long and have come at once.
            Ok(_) if cursor.at > limit => Err(Fault::Oversize),
            Ok(reply) => {
                let at = cursor.at;
                self.arrived.advance(at);
                self.awaited = 0;
                Ok(Some(reply))
            }
            Err(Stop::More(awaited)) if awaited <= limit => {
                self.awaited = awaited;
                Ok(None)
            }
            Err(Stop::More(_)) => Err(Fault::Oversize),
            Err(Stop::Bad(fault)) => Err(fault),
        }
    }
}

struct Cursor<'b> {
    bytes: &'b [u8],
    at: usize,
    limit: usize,
}

enum Stop {
    /// So much must have arrived, at least.
    More(usize),
    Bad(Fault),
}

impl<'b> Cursor<'b> {
    fn reply(&mut self, depth: u8) -> Result<Reply, Stop> {
        let (kind, line) = self.line()?;
        match kind {
            b'+' => Ok(Reply::Status(line.to_vec())),
            b'-' => Ok(Reply::Error(line.to_vec())),
            b':' => number(line).map(Reply::Number),
            b'$' => self.bytes(number(line)?),
            b'*' => self.list(number(line)?, depth.checked_sub(1).ok_or(Stop::Bad(Fault::Garbled))?),
            _ => Err(Stop::Bad(Fault::Garbled)),
        }
    }

    /// A reply's first byte, and the rest of its line.
    fn line(&mut self) -> Result<(u8, &'b [u8]), Stop> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let Some(end) = rest.iter().take(LINE).position(|byte| *byte == b'\n') else {
            return Err(if rest.len() < LINE {
                self.more(rest.len().saturating_add(1))
            } else {
                Stop::Bad(Fault::Garbled)
            });
        };
        self.at = self.at.saturating_add(end).saturating_add(1);
        let line = rest.get(..end).and_then(|line| line.strip_suffix(b"\r")).and_then(<[u8]>::split_first);
        line.map(|(kind, line)| (*kind, line)).ok_or(Stop::Bad(Fault::Garbled))
    }

    fn bytes(&mut self, length: i64) -> Result<Reply, Stop> {
        let Some(length) = self.length(length)? else { return Ok(Reply::Nil) };
        let end = self.at.saturating_add(length);
        let whole = end.saturating_add(2);
        let Some(after) = self.bytes.get(end..whole) else { return Err(self.more(whole.saturating_sub(self.at))) };
        if after != b"\r\n" {
            return Err(Stop::Bad(Fault::Garbled));
        }
        let bytes = self.bytes.get(self.at..end).unwrap_or_default().to_vec();
        self.at = whole;
        Ok(Reply::Bytes(bytes))
    }

    fn list(&mut self, length: i64, depth: u8) -> Result<Reply, Stop> {
        let Some(length) = self.length(length)? else { return Ok(Reply::Nil) };
        let shortest = length.saturating_mul(SHORTEST);
        if self.bytes.len() < self.at.saturating_add(shortest) {
            return Err(self.more(shortest));
        }
        let mut list = Vec::new();
        for after in (0..length).rev() {
            list.push(self.reply(depth).map_err(|stop| match stop {
                Stop::More(awaited) => Stop::More(awaited.saturating_add(after.saturating_mul(SHORTEST))),
                bad @ Stop::Bad(_) => bad,
            })?);
        }
        Ok(Reply::List(list))
    }

    /// A length; `None` for the one that stands for nothing.
    fn length(&self, length: i64) -> Result<Option<usize>, Stop> {
        match usize::try_from(length) {
            Ok(length) if length > self.limit => Err(Stop::Bad(Fault::Oversize)),
            Ok(length) => Ok(Some(length)),
            Err(_) if length == -1 => Ok(None),
            Err(_) => Err(Stop::Bad(Fault::Garbled)),
        }
    }

    const fn more(&self, further: usize) -> Stop {
        Stop::More(self.at.saturating_add(further))
    }
}

fn number(line: &[u8]) -> Result<i64, Stop> {
    let digits = line.strip_prefix(b"-").unwrap_or(line);
    let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(line).ok().filter(|_| plain).and_then(|line| line.parse().ok());
    number.ok_or(Stop::Bad(Fault::Garbled))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &[u8], limit: usize) -> Result<Option<Reply>, Fault> {
        let mut reader = Reader::default();
        reader.arrived.extend_from_slice(text);
        reader.take(limit)
    }

    fn write(reply: &Reply, to: &mut Vec<u8>) {
        let line = |to: &mut Vec<u8>, kind: u8, line: &[u8]| to.extend([&[kind], line, b"\r\n"].concat());
        match reply {
            Reply::Status(text) => line(to, b'+', text),
            Reply::Error(text) => line(to, b'-', text),
            Reply::Number(number) => line(to, b':', number.to_string().as_bytes()),
            Reply::Nil => line(to, b'$', b"-1"),
            Reply::Bytes(bytes) => {
                line(to, b'$', bytes.len().to_string().as_bytes());
                to.extend_from_slice(bytes);
                to.extend_from_slice(b"\r\n");
            }
            Reply::List(list) => {
                line(to, b'*', list.len().to_string().as_bytes());
                list.iter().for_each(|reply| write(reply, to));
            }
        }
    }

    fn replies() -> impl Strategy<Value = Reply> {
        let text = || proptest::collection::vec(0x20_u8..0x7f, 0..20);
        let leaf = prop_oneof![
            text().prop_map(Reply::Status),
            text().prop_map(Reply::Error),
            any::<i64>().prop_map(Reply::Number),
            Just(Reply::Nil),
            proptest::collection::vec(any::<u8>(), 0..40).prop_map(Reply::Bytes),
        ];
        leaf.prop_recursive(2, 20, 5, |inner| proptest::collection::vec(inner, 0..5).prop_map(Reply::List))
    }

    proptest! {
        #[test]
        fn replies_are_read_however_they_are_cut(replies in proptest::collection::vec(replies(), 1..5), cut in 1_usize..20) {
            let mut wire = Vec::new();
            replies.iter().for_each(|reply| write(reply, &mut wire));
            let (mut reader, mut read) = (Reader::default(), Vec::new());
            for part in wire.chunks(cut) {
                reader.arrived.extend_from_slice(part);
                while let Some(reply) = reader.take(10_000).unwrap() {
                    read.push(reply);
                }
            }
            prop_assert_eq!(read, replies);
            prop_assert!(reader.arrived.is_empty());
        }

        #[test]
        fn anything_else_neither_panics_nor_waits_for_more_than_the_limit(bytes in "[-+:$*0-9a\r\n]{0,40}") {
            let mut reader = Reader::default();
            reader.arrived.extend_from_slice(bytes.as_bytes());
            while let Ok(Some(_)) = reader.take(64) {}
            prop_assert!(reader.awaited <= 64);
        }
    }

    #[test]
    fn a_reply_that_claims_to_be_large_is_refused_before_it_arrives() {
        // R01
        for text in
            ["$1000000000\r\n", "*1000000000\r\n", "$101\r\n", "*1\r\n$98\r\n", "*34\r\n", "*2\r\n*31\r\n:1\r\n"]
        {
            assert_eq!(read(text.as_bytes(), 100), Err(Fault::Oversize), "{text}");
        }
        assert_eq!(read(&[b'x'; LINE], 1 << 20), Err(Fault::Garbled));
        assert_eq!(read(b"$90\r\n", 100), Ok(None));
        let line = |length| [b"-".as_slice(), &vec![b'x'; length], b"\r\n"].concat();
        assert_eq!(read(&line(97), 100).unwrap(), Some(Reply::Error(vec![b'x'; 97])));
        assert_eq!(read(&line(98), 100), Err(Fault::Oversize), "a line that has arrived in full");
    }

    #[test]
    fn what_is_not_the_protocol_is_refused() {
        // R01
        for text in [
            "HTTP/1.1 400 Bad Request\r\n",
            "\r\n",
            "\n",
            "+OK\n",
            ":x\r\n",
            ":\r\n",
            ":+1\r\n",
            ":99999999999999999999\r\n",
            "$-2\r\n",
            "$2\r\nabc\r\n",
            "$1\r\nab\r",
            "*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n",
            "%1\r\n",
        ] {
            assert_eq!(read(text.as_bytes(), 100), Err(Fault::Garbled), "{text:?}");
        }
    }

    #[test]
    fn a_command_is_a_list_of_words() {
        let mut wire = Vec::new();
        encode(&mut wire, &[b"SET", b"", b"a\r\n b"]);
        assert_eq!(wire, b"*3\r\n$3\r\nSET\r\n$0\r\n\r\n$5\r\na\r\n b\r\n");
    }
}
