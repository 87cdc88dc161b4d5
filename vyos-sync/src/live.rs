//! The world as it really is: a router's API, the state folder, probes and the clock.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;

use crate::{
    apply::{Fault, Landed, Pace, Record, Saved, World},
    config::{Command, Tree, parse},
    crd::Probe,
    probe::{ProbeError, Probes},
    secret,
    store::Store,
    vyos::{ApiError, Client, Fate, Redactor, Sessions, reboot_is_scheduled, warns_unsaved},
};

/// One router, live.
#[derive(Debug)]
pub struct Live {
    /// Its API.
    pub client: Client,
    /// Its state folder.
    pub store: Store,
    probes: Probes,
    pace: Mutex<Pace>,
}

impl Live {
    /// The world of one router.
    ///
    /// # Errors
    /// A probe cannot be asked.
    pub fn new(client: Client, store: Store, probes: &[Probe]) -> Result<Self, ProbeError> {
        Ok(Self { client, store, probes: Probes::new(probes)?, pace: Mutex::default() })
    }

    /// Reads the whole configuration; other people's secrets are replaced by fingerprints at once.
    ///
    /// # Errors
    /// The router's answer, or what is wrong with it.
    pub async fn running(&self) -> Result<Tree, ApiError> {
        let Some(value) = self.client.show_config(&[]).await? else { return Ok(Tree::new()) };
        let tree = parse::json(&value).map_err(|e| ApiError::NotVyos { what: e.to_string() })?;
        Ok(secret::masked(tree))
    }
}

fn fault(error: ApiError) -> Fault {
    let text = error.to_string();
    match (&error, error.fate()) {
        (ApiError::Unreachable { .. }, _) => Fault::Gone(text),
        (_, Fate::NotApplied) => Fault::NotDone(text),
        (_, Fate::PerhapsPartly) => Fault::Refused(text),
        (_, Fate::Unknown) => Fault::Unknown(text),
    }
}

impl World for Live {
    async fn tree(&self) -> Result<Tree, Fault> {
        self.running().await.map_err(fault)
    }

    async fn commit(&self, commands: &[Command], minutes: Option<u16>) -> Result<Landed, Fault> {
        let clean = Redactor::new(secret::of_commands(commands));
        match minutes {
            Some(minutes) => {
                match self.client.configure_armed(commands, minutes, &clean).await.map_err(fault)? {
                    true => Ok(Landed::Armed),
                    false => Ok(Landed::Plain),
                }
            }
            None => {
                if let Some(warning) = self.client.configure(commands, &clean).await.map_err(fault)? {
                    tracing::info!(warning = clean.clean(&warning), "the router warns");
                }
                Ok(Landed::Plain)
            }
        }
    }

    async fn confirm(&self) -> Result<(), Fault> {
        self.client.confirm().await.map(drop).map_err(fault)
    }

    async fn save(&self) -> Result<(), Fault> {
        self.client.save().await.map_err(fault)
    }

    async fn reboot_is_set(&self) -> Result<bool, Fault> {
        match self.client.show(&["reboot"]).await {
            Ok(text) => Ok(reboot_is_scheduled(&text)),
            // Not every build has the command; then a stranger's reboot cannot be seen.
            Err(ApiError::Refused { .. }) => Ok(false),
            Err(error) => Err(fault(error)),
        }
    }

    async fn reboot_in(&self, minutes: u16) -> Result<Saved, Fault> {
        let text = self.client.reboot_in(minutes).await.map_err(fault)?;
        match (reboot_is_scheduled(&text), warns_unsaved(&text)) {
            (false, _) => Err(Fault::Unknown("the router does not say that the reboot is set".to_owned())),
            (true, true) => Ok(Saved::Dirty),
            (true, false) => Ok(Saved::Clean),
        }
    }

    async fn reboot_cancel(&self) -> Result<(), Fault> {
        self.client.reboot_cancel().await.map(drop).map_err(fault)
    }

    async fn sessions(&self) -> Result<BTreeSet<IpAddr>, Fault> {
        match self.client.show(&["bgp", "summary"]).await {
            Ok(text) => Ok(Sessions::parse(&text).up),
            // A router without BGP refuses the command.
            Err(ApiError::Refused { .. }) => Ok(BTreeSet::new()),
            Err(error) => Err(fault(error)),
        }
    }

    async fn silent_probes(&self) -> Vec<String> {
        let up = match self.probes.ask_for_sessions() {
            true => self.sessions().await.map_err(|e| e.to_string()),
            false => Ok(BTreeSet::new()),
        };
        self.probes.silent(up.as_ref().map_err(String::as_str)).await
    }

    async fn keep(&self, record: &Record) -> Result<(), Fault> {
        self.store.keep(record).map_err(|e| Fault::NoRecord(e.to_string()))
    }

    fn pace(&self) -> Pace {
        *self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn measured(&self, commands: usize, took: Duration) {
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        *pace = pace.after(commands, took);
    }

    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}
