//! Sees when the files of certificates change.

use std::time::Duration;

use tracing::{info, warn};

use super::Parts;
use crate::causes::Causes;
use crate::certificates::{Certificates, Reloaded};
use crate::telemetry::CertificateGauges;

/// Looks at the files for as long as the gateway runs.
pub(super) async fn watch(certificates: Certificates) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        let looking = certificates.clone();
        // Only a runtime that ends loses a task.
        let Ok(reloaded) = tokio::task::spawn_blocking(move || looking.look()).await else {
            return;
        };
        report(&reloaded);
    }
}

/// Says what has come of new files.
pub fn report(reloaded: &Reloaded) {
    match reloaded {
        Reloaded::Unchanged => {}
        Reloaded::Replaced => info!("new connections get the new certificates"),
        Reloaded::Kept(error) => warn!(
            error = %Causes(error),
            "cannot use the new certificates; those of before stay"
        ),
    }
}

/// Shows it in metrics and beside the readiness, which it does not end: the certificates of before still serve.
pub(super) fn observe(certificates: &Certificates, parts: &Parts) {
    let watched = certificates.clone();
    parts
        .metrics
        .observe_certificates(move || CertificateGauges {
            reloads: watched.reloads(),
            refused: watched.trouble().is_some(),
        });
    let watched = certificates.clone();
    parts
        .readiness
        .add_warning("certificates", move || match watched.trouble() {
            Some(trouble) => Err(format!("the new ones cannot be used: {trouble}")),
            None => Ok(()),
        });
}

/// A few `stat` calls; new certificates come days before the old ones end.
const INTERVAL: Duration = Duration::from_secs(1);
