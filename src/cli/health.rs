//! `portcullis health`: asks the admin listener, so that a container without a shell can be checked.

use std::time::Duration;

use anyhow::Context;

use super::Exit;
use crate::admin;

pub fn run(url: &str) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    runtime
        .block_on(admin::health::check(url, LIMIT))
        .with_context(|| format!("{url} says that the gateway is not well"))?;
    Ok(Exit::Success)
}

const LIMIT: Duration = Duration::from_secs(3);
