//! An independent reading of docs/policy.md, in the most naive code there is, and the engine held to it.
#![expect(
    clippy::string_slice,
    clippy::unreachable,
    clippy::too_many_lines,
    reason = "a test that cannot go on has failed; a generator is a list of choices"
)]

mod agree;
mod decide;
mod ebnf;
mod identity;
mod model;
mod near;
mod random;
mod read;
mod route;
mod seen;
mod told;
mod words;

pub use random::Dice;
