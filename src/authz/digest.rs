//! A digest of several parts under a name: no two lists of parts, and no two uses, meet in one.

use aws_lc_rs::digest::{Context, SHA256};

/// SHA-256 over the purpose and each part, each after its length: `a:b` and `c` is not `a` and `b:c`.
#[must_use]
pub fn of(purpose: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in std::iter::once(purpose.as_bytes()).chain(parts.iter().copied()) {
        context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(part);
    }
    let mut digest = [0; 32];
    digest.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_that_would_run_into_each_other_stay_apart() {
        // R02
        let lists: [&[&[u8]]; 7] =
            [&[b"a:b", b"c"], &[b"a", b"b:c"], &[b"a:b:c"], &[b"a:b", b"c", b""], &[b"{a:b}", b"c"], &[b"a\r\nb"], &[]];
        let mut digests: Vec<_> = lists.iter().map(|parts| of("limit", parts)).collect();
        digests.extend(lists.iter().map(|parts| of("proof", parts)));
        digests.push(of("limi", &[b"ta:b", b"c"]));
        let all = digests.len();
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), all);
        assert_eq!(of("limit", &[&vec![b'x'; 1 << 20]]).len(), 32);
    }
}
