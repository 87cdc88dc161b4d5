//! The kernel's type information, as far as the report needs it: the number of a named typedef
//! (format: Documentation/bpf/btf.rst).

const MAGIC: u16 = 0xeb9f;
const KIND_TYPEDEF: u32 = 8;

/// Whether these octets are type information of this machine's byte order.
pub(super) fn is_btf(btf: &[u8]) -> bool {
    btf.first_chunk().is_some_and(|magic| u16::from_ne_bytes(*magic) == MAGIC)
}

/// The identifier of the typedef of that name.
pub(super) fn typedef(btf: &[u8], name: &str) -> Option<u32> {
    let header = usize::try_from(word(btf, 4)?).ok()?;
    let section = |offset: usize, length: usize| {
        let start = header.checked_add(usize::try_from(word(btf, offset)?).ok()?)?;
        btf.get(start..start.checked_add(usize::try_from(word(btf, length)?).ok()?)?)
    };
    let (mut types, strings) = (section(8, 12)?, section(16, 20)?);
    let named = |offset: u32| {
        let text = strings.get(usize::try_from(offset).ok()?..)?;
        text.strip_prefix(name.as_bytes()).filter(|rest| rest.first() == Some(&0))
    };
    for id in 1.. {
        let info = word(types, 4)?;
        let kind = info >> 24 & 0x1f;
        if kind == KIND_TYPEDEF && named(word(types, 0)?).is_some() {
            return Some(id);
        }
        types = types.get(12 + tail(kind, info & 0xffff)?..)?;
    }
    None
}

/// How many octets follow a type's common part. A kind of the future ends the search.
fn tail(kind: u32, members: u32) -> Option<usize> {
    let members = usize::try_from(members).ok()?;
    Some(match kind {
        2 | 7..=12 | 16 | 18 => 0,
        1 | 14 | 17 => 4,
        3 => 12,
        4 | 5 | 15 | 19 => 12 * members,
        6 | 13 => 8 * members,
        _ => return None,
    })
}

fn word(octets: &[u8], offset: usize) -> Option<u32> {
    octets.get(offset..)?.first_chunk().map(|word| u32::from_ne_bytes(*word))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A header, an int, a struct of one member, a typedef and their names.
    fn sample() -> Vec<u8> {
        let types: [u32; 13] = [1, 1 << 24, 4, 32, 5, 4 << 24 | 1, 4, 1, 1, 0, 9, KIND_TYPEDEF << 24, 2];
        let strings = b"\0int\0skb\0btf_trace_kfree_skb\0";
        let head = [0x0001_eb9f, 24, 0, 52, 52, u32::try_from(strings.len()).unwrap()];
        let words = head.iter().chain(&types).flat_map(|word| word.to_ne_bytes());
        words.chain(strings.iter().copied()).collect()
    }

    #[test]
    fn a_typedef_is_found_by_its_whole_name() {
        let btf = sample();
        assert!(is_btf(&btf));
        assert_eq!(typedef(&btf, "btf_trace_kfree_skb"), Some(3));
        assert_eq!(typedef(&btf, "btf_trace_kfree"), None);
        assert_eq!(typedef(&btf, "int"), None, "an int is no typedef");
    }

    proptest! {
        #[test]
        fn damaged_type_information_does_no_harm(at in 0_usize..100, octet: u8, cut in 0_usize..120) {
            let mut btf = sample();
            if let Some(place) = btf.get_mut(at) {
                *place = octet;
            }
            btf.truncate(cut);
            let _ = (is_btf(&btf), typedef(&btf, "btf_trace_kfree_skb"));
        }
    }
}
