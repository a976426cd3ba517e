//! The policy file: text into a spanned tree, the tree into the file as it was written, every problem with its place.

pub mod api_keys;
pub mod compile;
pub mod dotenv;
pub mod effective;
pub mod envoy;
pub mod error;
pub mod file;
pub mod lint;
pub mod origin;
mod overlay;
pub mod provider;
pub mod reference;
pub mod schema;
mod shape;
pub mod source;
mod trap;
pub mod tree;

pub use compile::{Authority, Compiled, Feed, KeySource, Settings, compile, compile_all};
pub use effective::Effective;
pub use error::{Place, Problem, Problems, Related, Severity, Span, Spanned, Text};
pub use file::{File, parse};
pub use origin::{Origin, Variables, load};
pub use reference::{Secret, Surroundings};
pub use source::{FileId, Sources};
