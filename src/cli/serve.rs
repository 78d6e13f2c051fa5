//! `portcullis serve`: the gateway, until it is told to stop.

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::{Exit, ServeArgs, refuse};
use crate::certificates::Certificates;
use crate::clock::Clock;
use crate::config::Telemetry;
use crate::gateway::Gateway;
use crate::gateway::certificate_watch::report;
use crate::gateway::config_watch::ConfigFile;
use crate::telemetry::{self, LogGuard};

pub fn run(args: ServeArgs) -> anyhow::Result<Exit> {
    // Before it is read, so that no change is missed.
    let file = args.config.clone().map(ConfigFile::new);
    let config = match args.load() {
        Ok(config) => config,
        Err(errors) => return Ok(refuse(&errors)),
    };
    let log = start_logging(&config.telemetry)?;
    let gateway = Gateway::start(&config, Clock::system())?;
    gateway
        .parts()
        .metrics
        .observe_dropped_log_lines(log.dropped_lines());
    for place in gateway.places() {
        info!(address = %place, "listening");
    }
    if let Some(address) = gateway.admin_address() {
        info!(%address, "admin listening");
    }
    info!(hash = gateway.reloader().hash(), "configuration");
    let (ask, asked) = mpsc::channel(1);
    let ask = file.map(|file| {
        gateway.spawn_beside(file.watch(gateway.reloader().clone(), asked));
        ask
    });
    let certificates = gateway.certificates().cloned();
    gateway.run(async {
        tokio::select! {
            () = stop_signal() => {}
            () = reload_on_hangup(certificates, ask) => {}
        }
    });
    Ok(Exit::Success)
}

/// Logs as configured; without the access log, all but the line per request.
pub fn start_logging(settings: &Telemetry) -> anyhow::Result<LogGuard> {
    let mut log = settings.log.clone();
    if !settings.access_log {
        log.filter = format!("{},{}=off", log.filter, telemetry::REQUEST_TARGET);
    }
    telemetry::init(&log).context("cannot start logging")
}

/// The first SIGTERM or SIGINT. A second one ends the process at once.
pub async fn stop_signal() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        warn!("cannot watch for signals; only SIGKILL ends this process");
        return std::future::pending().await;
    };
    either(&mut terminate, &mut interrupt).await;
    tokio::spawn(async move {
        either(&mut terminate, &mut interrupt).await;
        warn!("ended at once by a second signal");
        std::process::exit(EXIT_BY_SECOND_SIGNAL);
    });
}

/// Reads certificates and the configuration anew at each SIGHUP, without waiting for the files to be at rest. Those that come
/// while one is being read are one.
async fn reload_on_hangup(certificates: Option<Certificates>, ask: Option<mpsc::Sender<()>>) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else {
        warn!("cannot watch for SIGHUP; files are still read anew when they change");
        return std::future::pending().await;
    };
    while hangup.recv().await.is_some() {
        if let Some(certificates) = certificates.clone()
            && let Ok(reloaded) = tokio::task::spawn_blocking(move || certificates.reload()).await
        {
            report(&reloaded);
        }
        match &ask {
            // Full: one is about to be read.
            Some(ask) => drop(ask.try_send(())),
            None => info!("there is no configuration to read anew: it was given as flags"),
        }
    }
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}

const EXIT_BY_SECOND_SIGNAL: i32 = 130;
