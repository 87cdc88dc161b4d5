//! Numbers that every verifier believes to lie within bounds.

/// The number, if it lies between these two. It is checked, and then made of what was checked: kernels before 6.13 do not carry
/// what they learn of a copy over to the number, and older ones learn nothing from "not zero".
#[inline(always)]
pub fn within(number: u32, least: u64, most: u64) -> Option<u64> {
    let above = opaque((number as u64).wrapping_sub(least));
    if above > most - least { None } else { Some(opaque(above) + least) }
}

/// The same number, of which the compiler knows nothing: the checks that the verifier wants to see stay where they are.
#[inline(always)]
fn opaque(mut number: u64) -> u64 {
    // SAFETY: a register is given its own value. (Without any instruction the kernel refuses the line information.)
    unsafe { core::arch::asm!("{0} = {0}", inout(reg) number, options(nomem, nostack, preserves_flags)) }
    number
}
