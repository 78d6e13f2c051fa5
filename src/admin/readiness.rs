//! Whether this replica wants requests.
//!
//! Alive and ready are different questions: a replica that drains, or that has lost its store, must not be restarted for it,
//! but should get no new requests.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use serde::Serialize;

/// The answer of `/readyz`, shared by who decides it and who shows it; cheap to clone. Not ready until [`Self::set_started`].
#[derive(Clone, Default)]
pub struct Readiness(Arc<State>);

#[derive(Default)]
struct State {
    phase: AtomicU8,
    checks: RwLock<Vec<Check>>,
    warnings: RwLock<Vec<Check>>,
    configuration: OnceLock<Box<dyn Fn() -> ActiveConfiguration + Send + Sync>>,
}

/// Which configuration a replica goes by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ActiveConfiguration {
    pub hash: String,
    /// When it was taken (RFC 3339).
    pub since: String,
}

struct Check {
    name: &'static str,
    check: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
}

/// Phases only go forward.
const STARTED: u8 = 1;
const DRAINING: u8 = 2;

impl Readiness {
    /// A replica that is starting.
    pub fn new() -> Self {
        Self::default()
    }

    /// The listeners are open and the revocation set is loaded.
    pub fn set_started(&self) {
        self.0.phase.fetch_max(STARTED, Ordering::Relaxed);
    }

    /// The replica is going to end: not ready from now on, whatever else happens.
    pub fn set_draining(&self) {
        self.0.phase.fetch_max(DRAINING, Ordering::Relaxed);
    }

    /// Adds a condition, asked at each question: it looks at memory and does not wait. Its error is shown to whoever asks, after
    /// `name`.
    pub fn add_check(
        &self,
        name: &'static str,
        check: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) {
        add(&self.0.checks, name, check);
    }

    /// Adds something that has to be seen to, but does not make the replica unfit for requests. As [`Self::add_check`].
    pub fn add_warning(
        &self,
        name: &'static str,
        check: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) {
        add(&self.0.warnings, name, check);
    }

    /// What has to be seen to; empty if there is nothing.
    pub fn warnings(&self) -> Vec<String> {
        failed(&self.0.warnings)
    }

    /// Where to ask which configuration is active. The first registration stays.
    pub fn observe_configuration(
        &self,
        configuration: impl Fn() -> ActiveConfiguration + Send + Sync + 'static,
    ) {
        let _ = self.0.configuration.set(Box::new(configuration));
    }

    /// Which configuration is active, if that is known.
    pub fn configuration(&self) -> Option<ActiveConfiguration> {
        self.0.configuration.get().map(|observe| observe())
    }

    /// Why this replica is not ready; empty if it is.
    pub fn reasons(&self) -> Vec<String> {
        let phase = match self.0.phase.load(Ordering::Relaxed) {
            DRAINING => Some("draining".to_owned()),
            STARTED => None,
            _ => Some("starting".to_owned()),
        };
        phase.into_iter().chain(failed(&self.0.checks)).collect()
    }
}

fn add(
    checks: &RwLock<Vec<Check>>,
    name: &'static str,
    check: impl Fn() -> Result<(), String> + Send + Sync + 'static,
) {
    let check = Box::new(check);
    checks
        .write()
        .unwrap_or_else(PoisonError::into_inner)
        .push(Check { name, check });
}

fn failed(checks: &RwLock<Vec<Check>>) -> Vec<String> {
    let checks = checks.read().unwrap_or_else(PoisonError::into_inner);
    let failed = checks.iter().filter_map(|Check { name, check }| {
        let error = check().err()?;
        Some(format!("{name}: {error}"))
    });
    failed.collect()
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Readiness")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::Readiness;

    #[test]
    fn a_replica_is_ready_from_its_start_until_it_drains() {
        let readiness = Readiness::new();
        assert_eq!(readiness.reasons(), ["starting"]);
        readiness.set_started();
        assert!(readiness.reasons().is_empty());
        readiness.set_draining();
        readiness.set_started();
        assert_eq!(readiness.reasons(), ["draining"]);
    }

    #[test]
    fn checks_are_asked_each_time_and_name_themselves() {
        let readiness = Readiness::new();
        let lapsed = Arc::new(AtomicBool::new(true));
        let asked = lapsed.clone();
        readiness.add_check("lease", move || {
            if asked.load(Ordering::Relaxed) {
                Err("has lapsed".into())
            } else {
                Ok(())
            }
        });
        assert_eq!(readiness.reasons(), ["starting", "lease: has lapsed"]);
        readiness.set_started();
        assert_eq!(readiness.reasons(), ["lease: has lapsed"]);
        lapsed.store(false, Ordering::Relaxed);
        assert!(readiness.reasons().is_empty());
    }
}
