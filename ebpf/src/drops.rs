//! Packets that the kernel gave up: tracepoint `skb:kfree_skb` (skb, location, reason, ...).
//!
//! Fields are read by plain loads at offsets that the agent takes from the running kernel's BTF: that works under
//! every lockdown mode, where helpers that read kernel memory do not.

use aya_ebpf::programs::BtfTracePointContext;
use weir_ebpf::{DropKey, shortfall};

use crate::maps::*;

/// `offsetof(struct sk_buff, dev)`, set by the loader.
///
/// As all that the loader sets, in a section of its own: else the linker lets constants of the same first value share the place,
/// and they change with it.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".rodata.loader")]
static SKB_DEV: u32 = 0;
/// `offsetof(struct net_device, ifindex)`.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".rodata.loader")]
static DEVICE_IFINDEX: u32 = 0;
/// `offsetof(struct net_device, nd_net)`.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".rodata.loader")]
static DEVICE_NET: u32 = 0;
/// `offsetof(struct net, ns.inum)`.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".rodata.loader")]
static NET_INODE: u32 = 0;

#[inline(always)]
pub fn count(arguments: &BtfTracePointContext) {
    let skb: *const u8 = arguments.arg(0);
    let mut key = DropKey { reason: arguments.arg(2), ..DropKey::default() };
    // SAFETY: the verifier knows the types behind the pointers and checks each load; faulting ones read zero.
    unsafe {
        let device = field::<*const u8>(skb, &SKB_DEV);
        if !device.is_null() {
            key.interface = field(device, &DEVICE_IFINDEX);
            let net = field::<*const u8>(device, &DEVICE_NET);
            if !net.is_null() {
                key.namespace = field(net, &NET_INODE);
            }
        }
    }
    if let Some(count) = DROP_COUNTS.get_ptr_mut(&key) {
        // SAFETY: the value is this CPU's own.
        return unsafe { *count += 1 };
    }
    if DROP_COUNTS.insert(&key, &1, 0).is_err() {
        fell_short(shortfall::DROP_KINDS_FULL);
    }
}

/// Reads a field of a kernel structure.
#[inline(always)]
unsafe fn field<T: Copy>(structure: *const u8, offset: &'static u32) -> T {
    // SAFETY: the caller's promise; volatile, because the loader sets the offset.
    unsafe { core::ptr::read_volatile(structure.add(core::ptr::read_volatile(offset) as usize).cast()) }
}
