//! What to do about a change that a restart or a lost router left open. The router's own state decides.

use super::{
    record::Record,
    step::{Applied, disarm},
    world::{Fault, World},
};
use crate::crd::{ChangePhase, ChangeResult};

/// How the router was found: does a plan made now still want something?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// The router holds all that is wanted: the change came through.
    InForce,
    /// It does not.
    Wanting,
}

/// Ends an open record: takes its guard away, and saves what is in force.
///
/// The API answers, or the caller would not know how the router was found; that much of the verification is done. A
/// change that the router undid by itself ends as rolled back, and its plan must not be sent again unchanged.
///
/// # Errors
/// The router or the store does not do its part; the record stays open.
pub async fn resume<W: World + Sync>(
    world: &W,
    mut record: Record,
    found: Found,
) -> Result<Option<Applied>, Fault> {
    let overdue = world.now() >= record.deadline;
    if record.result == Some(ChangeResult::Failed) && !overdue {
        let why = format!(
            "`{}` could not be undone; the router's own undo is due at {}",
            record.name, record.deadline
        );
        return Err(Fault::NotDone(why));
    }
    if record.may_be_armed() {
        disarm(world, record.guard).await?;
    }
    let (phase, result, message) = match (found, record.may_be_live()) {
        (Found::InForce, true) => {
            world.save().await?;
            (ChangePhase::Saved, ChangeResult::Applied, "found in force after an interruption".to_owned())
        }
        (Found::Wanting, true) if overdue => {
            let why = format!("the router undid it by itself: {}", record.message);
            (ChangePhase::RolledBack, ChangeResult::Failed, why)
        }
        (_, _) => (record.phase, ChangeResult::Unknown, "interrupted; a new plan takes its place".to_owned()),
    };
    record.phase = phase;
    record.result = Some(result);
    record.ended = Some(world.now());
    record.message = message;
    world.keep(&record).await?;
    Ok((result == ChangeResult::Applied).then_some(Applied { record, foreign: Vec::new() }))
}
