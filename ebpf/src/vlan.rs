//! VLAN sub-interfaces that are measured beside the interface below them.
//!
//! A packet of such a sub-interface passes two hooks: that of the sub-interface, without its tag, and that of the interface
//! below, with it. The hook of the sub-interface sorts it into the ledger; the one below only counts it.

use bytemuck::{Pod, Zeroable};

/// [`crate::RowKey::class`] of a hook's packets that the hook of a VLAN sub-interface sorts.
pub const CARRIED: u8 = 0xff;
/// VLAN sub-interfaces that can be told.
pub const SUB_INTERFACES_MAX: u32 = crate::HOOKS;

/// A VLAN on an interface.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct VlanKey {
    /// Index of the interface below.
    pub interface: u32,
    /// VLAN identifier.
    pub vlan: u32,
}
