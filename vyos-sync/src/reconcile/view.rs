//! What the router has learned, asked and published beside the ledger.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use jiff::Timestamp;

use crate::{
    crd::RouterSpec,
    inputs::{Inputs, Object},
    intent,
    pass::Error,
    view,
    vyos::ApiError,
};

use super::Session;

/// Where the router's view is in the state folder.
const VIEW: &str = "router-view.json";

impl Session {
    /// Asks the router what it has learned, and keeps its answer as a document beside the ledger. Reads only: one request for
    /// each of [`view::COMMANDS`].
    ///
    /// # Errors
    /// The router is away, or the document cannot be written. A command that the router refuses is told in the document.
    pub async fn publish_view(
        &self,
        router: &Object<RouterSpec>,
        inputs: &Inputs,
        period: Duration,
    ) -> Result<(), Error> {
        let intent = intent::derive(inputs, &self.name.as_str().into());
        let gateways =
            intent.networks.iter().flat_map(|network| &network.subnets).map(|subnet| subnet.gateway);
        let named = router.spec.bgp.iter().flat_map(|bgp| &bgp.addresses);
        let addresses: BTreeSet<IpAddr> =
            named.filter_map(|text| text.parse().ok()).chain(gateways).collect();
        let asked = view::Asked {
            router: self.name.clone(),
            addresses: addresses.into_iter().collect(),
            at: Timestamp::now(),
            period_seconds: u32::try_from(period.as_secs()).unwrap_or(u32::MAX),
        };
        let mut said: [view::Said; view::COMMANDS.len()] = std::array::from_fn(|_| Ok(String::new()));
        for (said, command) in said.iter_mut().zip(view::COMMANDS) {
            *said = match self.live.client.show(command).await {
                Ok(text) => Ok(text),
                Err(error @ ApiError::Unreachable { .. }) => return Err(self.api(error)),
                Err(error) => Err(error.to_string()),
            };
        }
        Ok(self.live.store.write(VIEW, &view::assemble(asked, said))?)
    }
}
