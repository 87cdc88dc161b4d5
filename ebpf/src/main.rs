//! Weir's datapath programs: entry points only, one room each for what they do.
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]

#[cfg(all(target_arch = "bpf", feature = "bench"))]
mod bench;
#[cfg(target_arch = "bpf")]
mod bounds;
#[cfg(target_arch = "bpf")]
mod count;
#[cfg(target_arch = "bpf")]
mod drops;
#[cfg(target_arch = "bpf")]
mod guard;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod tap;
#[cfg(target_arch = "bpf")]
mod tcp;
#[cfg(target_arch = "bpf")]
mod watch;

#[cfg(target_arch = "bpf")]
mod entry {
    use aya_ebpf::macros::{btf_tracepoint, classifier, sock_ops, xdp};
    use aya_ebpf::programs::{BtfTracePointContext, SockOpsContext, TcContext, XdpContext};
    use weir_ebpf::{EGRESS, INGRESS};

    use crate::{count, drops, guard, tcp};

    /// Let the next program in the chain decide.
    const TCX_NEXT: i32 = -1;

    #[classifier]
    pub fn weir_ingress(packet: TcContext) -> i32 {
        guard::judge_elsewhere::<INGRESS>(&packet);
        count::packet::<INGRESS>(&packet);
        TCX_NEXT
    }

    #[classifier]
    pub fn weir_egress(packet: TcContext) -> i32 {
        guard::judge_elsewhere::<EGRESS>(&packet);
        count::packet::<EGRESS>(&packet);
        TCX_NEXT
    }

    /// Where the two above go on while there is a policy.
    #[classifier]
    pub fn weir_guard_in(packet: TcContext) -> i32 {
        guard::packet::<INGRESS>(&packet)
    }

    #[classifier]
    pub fn weir_guard_out(packet: TcContext) -> i32 {
        guard::packet::<EGRESS>(&packet)
    }

    /// Where the two above go on with packets that a rule rejects.
    #[classifier]
    pub fn weir_answer(packet: TcContext) -> i32 {
        guard::answer(&packet)
    }

    /// Where it is asked for, before the hooks.
    #[xdp]
    pub fn weir_xdp(packet: XdpContext) -> u32 {
        guard::early(&packet)
    }

    /// Not attached anywhere: the agent runs it to read two clocks at once.
    #[classifier]
    pub fn weir_clock(_packet: TcContext) -> i32 {
        count::clock();
        TCX_NEXT
    }

    #[sock_ops]
    pub fn weir_tcp(socket: SockOpsContext) -> u32 {
        tcp::callback(&socket);
        1
    }

    #[btf_tracepoint(function = "kfree_skb")]
    pub fn weir_drops(arguments: BtfTracePointContext) -> i32 {
        drops::count(&arguments);
        0
    }
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    // Never reached: no program that could panic passes the verifier.
    loop {}
}

#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";

/// The host has nothing to run here; it uses the library.
#[cfg(not(target_arch = "bpf"))]
fn main() {}
