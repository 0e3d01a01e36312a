//! Writes down now and then how far the readers of the stream are.

use std::sync::Arc;
use std::time::Duration;

use hub::hub::Hub;

/// What a crash may have the hub forget of its readers.
const EVERY: Duration = Duration::from_secs(10);

/// Starts the work for a hub; it ends with it.
pub(crate) fn keep(hub: &Arc<Hub>) {
    let hub = Arc::downgrade(hub);
    tokio::spawn(async move {
        let mut written = Vec::new();
        loop {
            tokio::time::sleep(EVERY).await;
            let Some(hub) = hub.upgrade() else { return };
            match hub.write_positions(&written).await {
                Ok(now) => written = now,
                Err(error) => tracing::error!(%error, "the positions of readers could not be written down"),
            }
        }
    });
}
