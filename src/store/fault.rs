//! Why the store cannot tell, as a closed list for metrics and logs: nothing that a server said is in it.

/// The store cannot tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("the store cannot tell: {0}")]
pub struct Unavailable(pub Fault);

/// Why an operation on the store failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Fault {
    /// The memory of this process that is set aside for it is full of what has not expired.
    #[error("its memory is full")]
    Full,
    /// An entry, or a reply, is larger than may be.
    #[error("it is too large")]
    Oversize,
}

impl Fault {
    /// Every fault there is.
    pub const ALL: [Self; 2] = [Self::Full, Self::Oversize];

    /// Its name in metrics and logs.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Oversize => "oversize",
        }
    }
}
