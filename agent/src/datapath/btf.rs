//! The running kernel's types: where a member of a structure lies and what an enumeration's values are called.
//! Format: Documentation/bpf/btf.rst. Nothing of the kernel's layout is copied into the agent.

use std::collections::HashMap;
use std::path::Path;
use std::{fs, io};

use thiserror::Error;

const MAGIC: u16 = 0xeb9f;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
/// Typedef, volatile, const, restrict: look through to the type behind.
const KINDS_SEEN_THROUGH: [u32; 4] = [8, 9, 10, 11];

/// A kernel's BTF.
pub struct Btf {
    data: Vec<u8>,
    /// Offset of each type, by its number; 0 is void.
    types: Vec<usize>,
    strings: usize,
}

/// BTF is missing or not as it should be.
#[derive(Debug, Error)]
pub enum BtfError {
    /// It cannot be read.
    #[error("cannot read {path}; the kernel needs CONFIG_DEBUG_INFO_BTF")]
    Read {
        /// The file.
        path: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// It is cut off or contradicts its own format.
    #[error("the kernel's BTF is malformed at offset {0}")]
    Malformed(usize),
    /// It has no such type or member.
    #[error("the kernel's BTF has no {0}")]
    Missing(String),
}

/// What is needed of the kernel's types to count drops; all else of them can be forgotten.
pub struct DropTypes {
    /// Offsets of `sk_buff.dev`, `net_device.ifindex`, `net_device.nd_net` and `net.ns.inum`.
    pub(super) offsets: [u32; 4],
    /// Names of `enum skb_drop_reason`, by number.
    pub(super) reasons: HashMap<u32, String>,
}

impl DropTypes {
    /// Looks them up in the running kernel.
    ///
    /// # Errors
    /// When its BTF is missing or malformed, or lacks one of them.
    pub fn running() -> Result<Self, BtfError> {
        let btf = Btf::running()?;
        let offsets = [
            btf.offset("sk_buff", "dev")?,
            btf.offset("net_device", "ifindex")?,
            btf.offset("net_device", "nd_net")?,
            btf.offset("net", "ns.inum")?,
        ];
        Ok(Self { offsets, reasons: btf.enumeration("skb_drop_reason").unwrap_or_default() })
    }
}

impl Btf {
    /// Reads the running kernel's.
    ///
    /// # Errors
    /// When the file is missing or malformed.
    pub fn running() -> Result<Self, BtfError> {
        let path = Path::new("/sys/kernel/btf/vmlinux");
        let read = |source| BtfError::Read { path: path.display().to_string(), source };
        Self::parse(fs::read(path).map_err(read)?)
    }

    /// Reads BTF from memory.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn parse(data: Vec<u8>) -> Result<Self, BtfError> {
        let mut btf = Self { data, types: vec![0], strings: 0 };
        let magic = btf.data.get(..2).ok_or(BtfError::Malformed(0))?;
        if u16::from_ne_bytes([magic[0], magic[1]]) != MAGIC {
            return Err(BtfError::Malformed(0));
        }
        let header = btf.word(4)? as usize;
        let (mut at, length) = (header + btf.word(8)? as usize, btf.word(12)? as usize);
        btf.strings = header + btf.word(16)? as usize;
        let end = at + length;
        while at < end {
            btf.types.push(at);
            at += 12 + btf.trailer(at)?;
        }
        Ok(btf)
    }

    /// Offset in octets of a member, which may lie in anonymous structures and unions; `a.b` follows `a` into its type.
    ///
    /// # Errors
    /// When there is no such structure or member.
    pub fn offset(&self, structure: &str, member: &str) -> Result<u32, BtfError> {
        let missing = || BtfError::Missing(format!("struct {structure} with member {member}"));
        let mut kind = self.find(structure, KIND_STRUCT).ok_or_else(missing)?;
        let mut bits = 0;
        for name in member.split('.') {
            let (offset, inner) = self.member(kind, name, 8).ok_or_else(missing)?;
            bits += offset;
            kind = inner;
        }
        Ok(bits / 8)
    }

    /// Names of an enumeration's values.
    ///
    /// # Errors
    /// When there is no such enumeration.
    pub fn enumeration(&self, name: &str) -> Result<HashMap<u32, String>, BtfError> {
        let missing = || BtfError::Missing(format!("enum {name}"));
        let at = self.types[self.find(name, KIND_ENUM).ok_or_else(missing)? as usize];
        let count = self.word(at + 4)? & 0xffff;
        (0..count as usize)
            .map(|n| {
                Ok((self.word(at + 12 + n * 8 + 4)?, self.string(self.word(at + 12 + n * 8)?).to_owned()))
            })
            .collect()
    }

    fn find(&self, name: &str, kind: u32) -> Option<u32> {
        let found = (1..self.types.len()).find(|&number| {
            let at = self.types[number];
            self.kind(at) == Some(kind) && self.word(at).is_ok_and(|offset| self.string(offset) == name)
        })?;
        u32::try_from(found).ok()
    }

    /// Bit offset and type of a member, searched through anonymous members, at most `depth` deep.
    fn member(&self, number: u32, name: &str, depth: u32) -> Option<(u32, u32)> {
        let at = *self.types.get(number as usize)?;
        let (kind, info) = (self.kind(at)?, self.word(at + 4).ok()?);
        if depth == 0 {
            return None;
        }
        if KINDS_SEEN_THROUGH.contains(&kind) {
            return self.member(self.word(at + 8).ok()?, name, depth - 1);
        }
        if kind != KIND_STRUCT && kind != KIND_UNION {
            return None;
        }
        (0..(info & 0xffff) as usize).find_map(|n| {
            let entry = at + 12 + n * 12;
            let (label, inner, mut bits) =
                (self.word(entry).ok()?, self.word(entry + 4).ok()?, self.word(entry + 8).ok()?);
            if info >> 31 == 1 {
                bits &= 0x00ff_ffff;
            }
            if label == 0 {
                return self.member(inner, name, depth - 1).map(|(offset, inner)| (bits + offset, inner));
            }
            (self.string(label) == name).then_some((bits, inner))
        })
    }

    fn kind(&self, at: usize) -> Option<u32> {
        self.word(at + 4).ok().map(|info| info >> 24 & 31)
    }

    /// Octets behind the common part of a type.
    fn trailer(&self, at: usize) -> Result<usize, BtfError> {
        let info = self.word(at + 4)?;
        let count = (info & 0xffff) as usize;
        Ok(match info >> 24 & 31 {
            1 | 14 | 17 => 4,
            3 => 12,
            KIND_STRUCT | KIND_UNION | 15 | 19 => count * 12,
            KIND_ENUM | 13 => count * 8,
            0 | 2 | 7..=12 | 16 | 18 => 0,
            _ => return Err(BtfError::Malformed(at)),
        })
    }

    fn word(&self, at: usize) -> Result<u32, BtfError> {
        let octets =
            at.checked_add(4).and_then(|end| self.data.get(at..end)).ok_or(BtfError::Malformed(at))?;
        Ok(u32::from_ne_bytes([octets[0], octets[1], octets[2], octets[3]]))
    }

    fn string(&self, offset: u32) -> &str {
        let rest = self.data.get(self.strings + offset as usize..).unwrap_or_default();
        let length = rest.iter().position(|&octet| octet == 0).unwrap_or(0);
        std::str::from_utf8(&rest[..length]).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_running_kernel_has_what_the_programs_read() {
        let Ok(btf) = Btf::running() else {
            eprintln!("SKIPPED the_running_kernel_has_what_the_programs_read: this kernel has no BTF");
            return;
        };
        assert!(btf.offset("sk_buff", "dev").unwrap() < 256);
        assert!(btf.offset("net", "ns.inum").unwrap() > 0);
        let reasons = btf.enumeration("skb_drop_reason").unwrap();
        assert!(reasons.values().any(|name| name == "SKB_DROP_REASON_NO_SOCKET"), "{reasons:?}");
        assert!(matches!(btf.offset("sk_buff", "no_such_member"), Err(BtfError::Missing(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(mut bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for (at, octet) in MAGIC.to_ne_bytes().into_iter().enumerate() {
                if let Some(place) = bytes.get_mut(at) { *place = octet }
            }
            if let Ok(btf) = Btf::parse(bytes) {
                let _ = btf.offset("sk_buff", "dev");
                let _ = btf.enumeration("skb_drop_reason");
            }
        }
    }
}
