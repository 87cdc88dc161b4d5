//! BFD profiles, only where somebody asked for BFD. The peers name the profile.

use super::{Block, Pen, at, short_name, tag_name};
use crate::inputs::ObjectId;
use crate::intent::Bgp;
use crate::plan::Owner;

/// VyOS takes profile names of at most 32 characters.
const LONGEST: usize = 32;

pub(super) fn render(pen: &mut Pen<'_>, bgp: &Bgp, object: &ObjectId) {
    for policy in &bgp.policies {
        let Some(bfd) = &policy.bfd else { continue };
        let interval = Block::new()
            .leaf("receive", bfd.receive_milliseconds)
            .leaf("transmit", bfd.transmit_milliseconds)
            .leaf("multiplier", bfd.multiplier);
        let path = at("protocols", &["bfd", "profile", &profile_of(&policy.owner)]);
        pen.subtree(object, &policy.owner, &path, Block::new().block("interval", interval));
    }
}

/// The profile of an owner.
pub(super) fn profile_of(owner: &Owner) -> String {
    short_name(&tag_name(owner), LONGEST)
}
