//! The router's configuration as a tree: paths, nodes, differences, text forms, schema and commit-time rules.
//!
//! All of it is pure: bytes and trees in, trees, commands and errors out.

pub mod diff;
pub mod kind;
pub mod parse;
pub mod path;
pub mod print;
pub mod rules;
pub mod schema;
pub mod tree;
pub mod values;

pub use diff::{Command, diff};
pub use kind::{Kind, Kinds, Untyped};
pub use path::ConfigPath;
pub use schema::{Dialect, Schema, SchemaError};
pub use tree::{Children, Leaf, Node, ShapeError, Tree};
pub use values::Values;
