//! BFD's sessions as messages. Pure.

use super::convert::nanoseconds;
use super::proto;
use crate::model::bfd::{BfdMode, RemoteView, SessionView};
use crate::state::Snapshot;

/// All that is known of BFD.
pub(super) fn answer(snapshot: &Snapshot) -> proto::BfdResponse {
    let bfd = &snapshot.bfd;
    let reason = match &bfd.mode {
        BfdMode::Observing(reason) => Some(reason.clone()),
        BfdMode::Off | BfdMode::Speaking => None,
    };
    let rejected = bfd.rejected.0.iter();
    proto::BfdResponse {
        mode: bfd.mode.as_str().to_owned(),
        reason,
        sessions: bfd.sessions.iter().map(session).collect(),
        rejected: rejected
            .map(|(reason, packets)| proto::BfdRejected {
                reason: reason.as_str().to_owned(),
                packets: *packets,
            })
            .collect(),
        lateness_ns: nanoseconds(bfd.lateness),
        priority: bfd.priority.clone(),
        held: bfd.held.map(|diagnostic| diagnostic.as_str().to_owned()),
    }
}

fn session(one: &SessionView) -> proto::BfdSession {
    let drops = one.drops.iter();
    proto::BfdSession {
        peer: one.label(),
        state: one.state.as_str().to_owned(),
        diagnostic: one.diagnostic.as_str().to_owned(),
        age_ns: nanoseconds(one.age),
        multihop: one.multihop,
        passive: one.role == crate::model::bfd::Role::Passive,
        discriminator: one.discriminator,
        source_port: one.source_port.into(),
        transmit_interval_ns: one.transmit_interval.map(nanoseconds),
        detection_time_ns: nanoseconds(one.detection_time),
        remote_detection_time_ns: nanoseconds(one.remote_detection_time),
        margin: one.margin,
        remote: one.remote.as_ref().map(remote),
        received: one.received,
        sent: one.sent,
        echoes: one.echoes,
        drops: drops
            .map(|(why, times)| proto::BfdDrops { diagnostic: why.as_str().to_owned(), times: *times })
            .collect(),
        problem: one.problem.clone(),
    }
}

fn remote(remote: &RemoteView) -> proto::BfdRemote {
    proto::BfdRemote {
        state: remote.state.as_str().to_owned(),
        diagnostic: remote.diagnostic.as_str().to_owned(),
        discriminator: remote.discriminator,
        min_transmit_interval_ns: nanoseconds(remote.min_tx.duration()),
        min_receive_interval_ns: nanoseconds(remote.min_rx.duration()),
        multiplier: remote.multiplier.into(),
        control_plane_independent: remote.control_plane_independent,
    }
}
