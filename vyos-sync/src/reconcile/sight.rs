//! Where the router sees machines, asked where there is hardware to look for.

use std::time::Duration;

use tokio::time::Instant;

use super::Session;
use crate::{
    inputs::{Inputs, Look, Sighting},
    view::{self, SIGHTINGS},
    vyos::ApiError,
};

/// What was seen last, and when.
#[derive(Debug)]
pub(super) struct Sighted {
    at: Instant,
    seen: Look<Sighting>,
}

impl Session {
    /// Puts what the router sees of machines into what a pass works on. It is asked at most once in a `period`, and only
    /// where there is hardware.
    pub async fn sight(&mut self, inputs: &mut Inputs, period: Duration) {
        if inputs.hardware.is_empty() {
            self.sighted = None;
            return;
        }
        let known = self.sighted.take().filter(|sighted| sighted.at.elapsed() < period);
        let sighted = match known {
            Some(sighted) => sighted,
            None => Sighted { at: Instant::now(), seen: self.sightings().await },
        };
        inputs.sightings = Some(self.sighted.insert(sighted).seen.clone());
    }

    /// Where the router sees machines now.
    ///
    /// # Errors
    /// It does not answer one of the commands.
    pub async fn sightings(&self) -> Look<Sighting> {
        let [arp, nd, leases] = SIGHTINGS;
        let (arp, nd) = (self.said(arp).await?, self.said(nd).await?);
        let leases = match self.live.client.show(leases).await {
            Ok(text) => text,
            // It serves no DHCP, or its release has no such command: then its neighbours alone tell.
            Err(ApiError::Refused { .. }) => String::new(),
            Err(error) => return Err(error.to_string()),
        };
        view::sightings([&arp, &nd, &leases])
    }

    async fn said(&self, command: &[&str]) -> Result<String, String> {
        let said = self.live.client.show(command).await;
        said.map_err(|error| format!("`show {}` was not answered: {error}", command.join(" ")))
    }
}
