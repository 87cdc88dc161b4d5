//! Stand-in text, replaced by the first slice.
