//! An independent reading of docs/policy.md, in the most naive code there is, and the engine held to it.

mod agree;
mod decide;
mod ebnf;
mod model;
mod random;
mod read;
mod seen;
mod told;
