//! The folder of keys to mint with: a next key is always there before it signs, and an old one goes when its last token
//! has expired. Several replicas may share the folder: what each would do follows from the names in it and the time.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Duration;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::authz::algorithm::Algorithm;
use crate::authz::mint::CLOCKS;
use crate::authz::time::Timestamp;
use crate::config::compile::{MintFolder, begins, name_of};

/// Makes the keys that are not there and should be, and removes those that nobody needs. Says whether anything changed.
///
/// # Errors
/// What the system says. A folder that can only be read is its owner's to fill.
pub fn tend(folder: &MintFolder, now: Timestamp) -> io::Result<bool> {
    if !folder.path.is_dir() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder.path)?;
    }
    let mut times = Vec::new();
    for entry in fs::read_dir(&folder.path)? {
        times.extend(entry?.file_name().to_str().and_then(begins));
    }
    times.sort_unstable();
    let mut changed = false;
    if !times.iter().any(|from| *from <= now) {
        changed |= make(folder, on_grid(now, folder.rotate, false))?;
    }
    if !times.iter().any(|from| *from > now) {
        // Not so soon that nobody could have heard of it.
        let soonest = now.plus(folder.rotate.checked_div(2).unwrap_or_default());
        changed |= make(folder, on_grid(soonest, folder.rotate, true))?;
    }
    for (from, next) in times.iter().zip(times.iter().skip(1)) {
        if next.plus(folder.lifetime).plus(CLOCKS) <= now {
            changed |= gone(fs::remove_file(folder.path.join(name_of(*from))))?;
        }
    }
    Ok(changed)
}

/// Another replica may have been faster.
fn gone(removed: io::Result<()>) -> io::Result<bool> {
    match removed {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The last whole multiple of a period that is not after this time, or the first one after it: the same for every
/// replica.
fn on_grid(time: Timestamp, period: Duration, after: bool) -> Timestamp {
    let period = i64::try_from(period.as_millis()).unwrap_or(i64::MAX).max(1);
    let count = time.as_millis().div_euclid(period).saturating_add(i64::from(after));
    Timestamp::from_millis(count.saturating_mul(period))
}

/// Makes a key that signs from this time on. It is there whole or not at all, and the first of several replicas wins.
fn make(folder: &MintFolder, from: Timestamp) -> io::Result<bool> {
    let pem = new_key(folder.algorithm).ok_or_else(|| io::Error::other("no key could be made"))?;
    let mut random = [0; 8];
    let _ = aws_lc_rs::rand::fill(&mut random);
    let part = folder.path.join(format!(".{:016x}", u64::from_be_bytes(random)));
    let made = write(&part, pem.as_bytes()).and_then(|()| fs::hard_link(&part, folder.path.join(name_of(from))));
    let _ = fs::remove_file(&part);
    match made {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn new_key(algorithm: Algorithm) -> Option<String> {
    let der = if algorithm == Algorithm::EdDsa {
        Ed25519KeyPair::generate().ok()?.to_pkcs8v1().ok()?.as_ref().to_vec()
    } else {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).ok()?;
        pair.to_pkcs8v1().ok()?.as_ref().to_vec()
    };
    let body = STANDARD.encode(der);
    let lines: Vec<&str> = body.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    Some(format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

    use super::*;
    use crate::authz::mint::{Key, Keys};

    const DAY: u64 = 86_400;

    struct Place(PathBuf);

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn folder(name: &str, algorithm: Algorithm) -> (Place, MintFolder) {
        let path = std::env::temp_dir().join(format!("portcullis-mint-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        let (rotate, lifetime) = (Duration::from_secs(30 * DAY), Duration::from_secs(60));
        (Place(path.clone()), MintFolder { path, algorithm, rotate, lifetime })
    }

    fn names(folder: &MintFolder) -> BTreeSet<String> {
        fs::read_dir(&folder.path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn keys(folder: &MintFolder) -> Keys {
        let read = |name: &String| Key::read(&fs::read(folder.path.join(name)).unwrap(), begins(name)).unwrap();
        Keys::new(names(folder).iter().map(read).collect())
    }

    #[test]
    fn an_empty_folder_gets_a_key_for_now_and_one_for_later() {
        for algorithm in [Algorithm::Es256, Algorithm::EdDsa] {
            let (_place, folder) = folder(algorithm.name(), algorithm);
            let now = Timestamp::parse("2027-01-15T08:00:00Z").unwrap();
            assert!(tend(&folder, now).unwrap());
            assert!(!tend(&folder, now).unwrap(), "nothing is left to do");
            let both = keys(&folder);
            assert_eq!(both.iter().filter(|key| key.algorithm == algorithm).count(), 2);
            let (signing, next) = (both.signing(now).unwrap(), both.iter().last().unwrap());
            assert!(signing.from <= Some(now) && next.from >= Some(now.plus(folder.rotate / 2)));
            for name in names(&folder) {
                let mode = fs::metadata(folder.path.join(name)).unwrap().permissions().mode();
                assert_eq!(mode & 0o777, 0o600);
            }
            assert_eq!(fs::metadata(&folder.path).unwrap().permissions().mode() & 0o777, 0o700);
        }
    }

    #[test]
    fn a_key_is_published_before_it_signs_and_until_its_last_token_has_expired() {
        let (_place, folder) = folder("rotation", Algorithm::EdDsa);
        let mut now = Timestamp::parse("2027-01-15T08:00:00Z").unwrap();
        let mut known: BTreeSet<Box<str>> = BTreeSet::new();
        let mut signers = BTreeSet::new();
        for _ in 0..400 {
            tend(&folder, now).unwrap();
            let keys = keys(&folder);
            let signing = keys.signing(now).unwrap();
            if !signers.is_empty() {
                assert!(known.contains(&signing.kid), "it was published a day before, at least");
            }
            signers.insert(signing.kid.clone());
            known = keys.published(folder.lifetime, now).map(|key| key.kid.clone()).collect();
            assert!(known.len() <= 3);
            now = now.plus(Duration::from_secs(DAY));
        }
        assert!((13..=15).contains(&signers.len()), "{} in 400 days", signers.len());
    }

    #[test]
    fn an_old_key_stays_as_long_as_a_token_of_it_can_hold() {
        let (_place, folder) = folder("overlap", Algorithm::EdDsa);
        let start = Timestamp::parse("2027-01-15T08:00:00Z").unwrap();
        tend(&folder, start).unwrap();
        let (old, next) =
            (keys(&folder).signing(start).unwrap().kid.clone(), keys(&folder).iter().last().unwrap().from);
        let over = next.unwrap().plus(folder.lifetime).plus(CLOCKS);
        let is_there = |now: Timestamp| {
            tend(&folder, now).unwrap();
            keys(&folder).published(folder.lifetime, now).any(|key| key.kid == old)
        };
        assert!(is_there(Timestamp::from_millis(over.as_millis() - 1)));
        assert!(!is_there(over));
        assert!(!keys(&folder).iter().any(|key| key.kid == old), "its file is gone as well");
    }

    #[test]
    fn replicas_that_start_together_agree_on_one_key() {
        let (_place, folder) = folder("together", Algorithm::EdDsa);
        let now = Timestamp::parse("2027-01-15T08:00:00Z").unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| tend(&folder, now).unwrap());
            }
        });
        assert_eq!(names(&folder).len(), 2, "{:?}", names(&folder));
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_an_error_and_nothing_else() {
        let path = PathBuf::from("/proc/portcullis-mint");
        let times = Duration::from_secs(3_600);
        let folder = MintFolder { path, algorithm: Algorithm::EdDsa, rotate: times, lifetime: times };
        assert!(tend(&folder, Timestamp::from_secs(1_800_000_000)).is_err());
    }
}
