//! Any bytes as what a Redis replies: read the same however they are cut, never more than was asked for, and then as entries.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::store::Fault;
use portcullis::store::redis::entry;
use portcullis::store::redis::resp::{Reader, Reply};

const LIMIT: usize = 256;

fn read(parts: impl Iterator<Item = Vec<u8>>) -> (Vec<Reply>, Option<Fault>) {
    let (mut reader, mut replies) = (Reader::default(), Vec::new());
    for part in parts {
        reader.arrived.extend_from_slice(&part);
        loop {
            match reader.take(LIMIT) {
                Ok(Some(reply)) => replies.push(reply),
                Ok(None) => break,
                Err(fault) => return (replies, Some(fault)),
            }
        }
    }
    assert!(reader.arrived.len() <= LIMIT, "more was kept than a reply may be");
    (replies, None)
}

fuzz_target!(|input: (u8, &[u8])| {
    let (cut, bytes) = input;
    let (whole, fault) = read(std::iter::once(bytes.to_vec()));
    let (parts, cut_fault) = read(bytes.chunks(usize::from(cut).max(1)).map(<[u8]>::to_vec));
    assert_eq!(whole, parts);
    // What is wrong may be noticed later, when as much has arrived as is awaited.
    assert!(fault.is_some() || cut_fault.is_none());
    for reply in whole {
        if let Reply::Bytes(bytes) = &reply {
            if let Ok(read) = entry::decode(bytes) {
                assert_eq!(&entry::encode(&read), bytes);
            }
            let _ = entry::published(bytes);
        }
        let _ = entry::page(reply);
    }
});
