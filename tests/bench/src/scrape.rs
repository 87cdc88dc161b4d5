//! The cost of writing a scrape, against prometheus-client with the same series and nothing else.

use anyhow::Result;

use crate::Effort;

pub(crate) fn measure(_effort: Effort) -> Result<()> {
    anyhow::bail!("scrape")
}
