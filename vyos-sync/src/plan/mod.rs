//! Desired, running and what we applied last, turned into an immutable plan. Pure: no clock, no I/O.

pub mod desired;
pub mod owner;

pub use desired::{Claim, Contested, Desired};
pub use owner::{Mark, Owner};
