//! A revocation as Redis keeps and tells it: when it expires, its key after the key's length, its value.

use super::resp::Reply;
use crate::authz::time::Timestamp;
use crate::store::fault::Fault;
use crate::store::{Entry, MAX_KEY, MAX_VALUE};

/// As it is stored and published.
pub fn encode(entry: &Entry) -> Vec<u8> {
    let length = u32::try_from(entry.key.len()).unwrap_or(u32::MAX);
    [&entry.expires.as_millis().to_be_bytes(), &length.to_be_bytes()[..], &entry.key, &entry.value].concat()
}

/// Reads what [`encode`] wrote.
pub fn decode(stored: &[u8]) -> Result<Entry, Fault> {
    let read = || {
        let (expires, rest) = stored.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (key, value) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        let fits = key.len() <= MAX_KEY && value.len() <= MAX_VALUE;
        let expires = Timestamp::from_millis(i64::from_be_bytes(*expires));
        fits.then(|| Entry { key: key.into(), value: value.into(), expires })
    };
    read().ok_or(Fault::Garbled)
}

/// An epoch, as Redis counts: in decimal.
pub fn epoch(text: &[u8]) -> Result<u64, Fault> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(Fault::Garbled)
}

/// A page of a scan: where the next one begins (`0` after the last), and its entries.
pub fn page(reply: Reply) -> Result<(Vec<u8>, Vec<Entry>), Fault> {
    let Reply::List(parts) = reply else { return Err(Fault::Garbled) };
    let Ok([Reply::Bytes(next), Reply::List(fields)]) = <[Reply; 2]>::try_from(parts) else {
        return Err(Fault::Garbled);
    };
    let (pairs, []) = fields.as_chunks::<2>() else { return Err(Fault::Garbled) };
    let entries = pairs.iter().map(|[key, stored]| {
        let (Reply::Bytes(key), Reply::Bytes(stored)) = (key, stored) else { return Err(Fault::Garbled) };
        decode(stored).and_then(|entry| if *entry.key == **key { Ok(entry) } else { Err(Fault::Garbled) })
    });
    Ok((next, entries.collect::<Result<_, _>>()?))
}

/// What was published: the epoch, where there is one, and the entry, where one was added.
pub fn published(message: &[u8]) -> Result<(Option<u64>, Option<Entry>), Fault> {
    let end = message.iter().position(|byte| *byte == b'\n').ok_or(Fault::Garbled)?;
    let (number, entry) = message.split_at_checked(end).ok_or(Fault::Garbled)?;
    let number = if number.is_empty() { None } else { Some(epoch(number)?) };
    let entry = entry.get(1..).filter(|entry| !entry.is_empty());
    Ok((number, entry.map(decode).transpose()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry { key: b"a\nb".as_slice().into(), value: b"\0v".as_slice().into(), expires: Timestamp::from_secs(9) }
    }

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        assert_eq!(decode(&encode(&entry())), Ok(entry()));
        let stored = encode(&entry());
        for end in 0..stored.len() - entry().value.len() {
            assert_eq!(decode(&stored[..end]), Err(Fault::Garbled), "{end}");
        }
        let long = Entry { value: vec![0; MAX_VALUE + 1].into(), ..entry() };
        assert_eq!(decode(&encode(&long)), Err(Fault::Garbled));
    }

    #[test]
    fn a_message_tells_epoch_and_entry() {
        let stored = encode(&entry());
        assert_eq!(published(&[b"12\n".as_slice(), &stored].concat()), Ok((Some(12), Some(entry()))));
        assert_eq!(published(&[b"\n".as_slice(), &stored].concat()), Ok((None, Some(entry()))));
        assert_eq!(published(b"12\n"), Ok((Some(12), None)));
        for bad in [&b""[..], b"12", b"x\n", b"-1\n", b"12\nx"] {
            assert_eq!(published(bad), Err(Fault::Garbled));
        }
    }

    #[test]
    fn a_page_that_is_not_one_is_refused() {
        let bytes = |bytes: &[u8]| Reply::Bytes(bytes.to_vec());
        let page_of = |fields| page(Reply::List(vec![bytes(b"7"), Reply::List(fields)]));
        let stored = bytes(&encode(&entry()));
        assert_eq!(page_of(vec![bytes(b"a\nb"), stored.clone()]), Ok((b"7".to_vec(), vec![entry()])));
        assert_eq!(page_of(vec![]), Ok((b"7".to_vec(), vec![])));
        for bad in [vec![bytes(b"b"), stored.clone()], vec![stored], vec![bytes(b"a"), Reply::Nil]] {
            assert_eq!(page_of(bad), Err(Fault::Garbled));
        }
        assert_eq!(page(Reply::Nil), Err(Fault::Garbled));
        assert_eq!(page(Reply::List(vec![bytes(b"0")])), Err(Fault::Garbled));
    }
}
