//! Why the store cannot tell, as a closed list for metrics and logs: nothing that a server said is in it.

/// The store cannot tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("the store cannot tell: {0}")]
pub struct Unavailable(pub Fault);

/// Why an operation on the store failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
#[repr(u8)]
pub enum Fault {
    /// What is set aside for it is full of what has not expired.
    #[error("what is set aside for it is full")]
    Full,
    /// An entry, or a reply, is larger than may be.
    #[error("an entry or a reply is too large")]
    Oversize,
    /// Too many operations wait.
    #[error("too many operations wait for it")]
    Busy,
    /// It failed so often that it is not asked for a moment.
    #[error("it failed too often and is not asked for a moment")]
    CircuitOpen,
    /// No reply came before the deadline.
    #[error("no reply came in time")]
    Deadline,
    /// There is no connection.
    #[error("there is no connection to it")]
    Unreachable,
    /// TLS failed: its certificate is not one to believe, most often.
    #[error("TLS with it failed: see `ca` and the name in the URL")]
    Tls,
    /// It does not accept the password, or wants one.
    #[error("it does not accept user and password, or wants them")]
    Credentials,
    /// The user may not do this.
    #[error("its user may not do this: see its ACL")]
    Forbidden,
    /// It is reading its data from disk, or has lost its primary.
    #[error("it is loading its data or has lost its primary")]
    Loading,
    /// It is a replica.
    #[error("it is a replica that takes no writes")]
    ReadOnly,
    /// Its memory is full.
    #[error("its memory is full")]
    OutOfMemory,
    /// It is a node of a cluster, which is not supported.
    #[error("it is a node of a cluster, and the key is elsewhere")]
    Cluster,
    /// It refused, for another reason.
    #[error("it refused")]
    Refused,
    /// It does not speak the protocol.
    #[error("its reply was not understood")]
    Garbled,
}

impl Fault {
    /// Every fault there is, in the order of their declaration.
    pub const ALL: [Self; 15] = [
        Self::Full,
        Self::Oversize,
        Self::Busy,
        Self::CircuitOpen,
        Self::Deadline,
        Self::Unreachable,
        Self::Tls,
        Self::Credentials,
        Self::Forbidden,
        Self::Loading,
        Self::ReadOnly,
        Self::OutOfMemory,
        Self::Cluster,
        Self::Refused,
        Self::Garbled,
    ];

    /// Its name in metrics and logs.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Oversize => "oversize",
            Self::Busy => "busy",
            Self::CircuitOpen => "circuit_open",
            Self::Deadline => "deadline",
            Self::Unreachable => "unreachable",
            Self::Tls => "tls",
            Self::Credentials => "credentials",
            Self::Forbidden => "forbidden",
            Self::Loading => "loading",
            Self::ReadOnly => "read_only",
            Self::OutOfMemory => "out_of_memory",
            Self::Cluster => "cluster",
            Self::Refused => "refused",
            Self::Garbled => "garbled",
        }
    }

    /// What an error reply of Redis says, by its first word.
    pub(super) fn of_reply(error: &[u8]) -> Self {
        match error.split(|byte| *byte == b' ').next().unwrap_or_default() {
            b"NOAUTH" | b"WRONGPASS" => Self::Credentials,
            b"NOPERM" => Self::Forbidden,
            b"LOADING" | b"MASTERDOWN" | b"BUSY" | b"TRYAGAIN" => Self::Loading,
            b"READONLY" => Self::ReadOnly,
            b"OOM" => Self::OutOfMemory,
            b"MOVED" | b"ASK" | b"CLUSTERDOWN" | b"CROSSSLOT" => Self::Cluster,
            b"FULL" => Self::Full,
            _ => Self::Refused,
        }
    }

    /// Whether another connection may lead to a server that does better: the name may stand for another one by now.
    pub(super) const fn is_of_the_server(self) -> bool {
        matches!(
            self,
            Self::ReadOnly | Self::Cluster | Self::Loading | Self::Credentials | Self::Garbled | Self::Oversize
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_stands_at_its_place_with_a_name_of_its_own() {
        let mut codes: Vec<_> = Fault::ALL.iter().map(|fault| fault.code()).collect();
        for (place, fault) in Fault::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(fault as u8), place);
        }
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Fault::ALL.len());
    }

    #[test]
    fn an_error_reply_is_known_by_its_first_word() {
        for (reply, fault) in [
            (&b"WRONGPASS invalid username-password pair or user is disabled."[..], Fault::Credentials),
            (b"NOAUTH Authentication required.", Fault::Credentials),
            (b"NOPERM this user has no permissions to run the 'set' command", Fault::Forbidden),
            (b"LOADING Redis is loading the dataset in memory", Fault::Loading),
            (b"READONLY You can't write against a read only replica.", Fault::ReadOnly),
            (b"OOM command not allowed when used memory > 'maxmemory'.", Fault::OutOfMemory),
            (b"MOVED 866 127.0.0.1:7001", Fault::Cluster),
            (b"CLUSTERDOWN Hash slot not served", Fault::Cluster),
            (b"FULL", Fault::Full),
            (b"ERR unknown command", Fault::Refused),
            (b"OOMPH", Fault::Refused),
            (b"", Fault::Refused),
        ] {
            assert_eq!(Fault::of_reply(reply), fault);
        }
    }
}
