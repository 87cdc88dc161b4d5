//! A checksum that tells cut or changed names apart.

/// FNV-1a, 32 bits: the same in every release of the toolchain, unlike the standard hasher.
pub(crate) fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}
