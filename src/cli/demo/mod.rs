//! `portcullis demo`: the whole promise in one process, to be tried with two browsers.

pub mod app;
mod websocket;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use super::serve::{start_logging, stop_signal};
use super::{Exit, refuse};
use crate::clock::Clock;
use crate::config::Config;
use crate::gateway::Gateway;
use app::SampleApp;

#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: String,
    /// Folder for the SQLite file and the master key; made if it is not there.
    #[arg(long, default_value = "portcullis-demo")]
    data: PathBuf,
}

pub fn run(args: &DemoArgs) -> anyhow::Result<Exit> {
    fs::create_dir_all(&args.data)
        .with_context(|| format!("cannot make the folder {}", args.data.display()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    let app = runtime
        .block_on(async { SampleApp::bind() })
        .context("cannot start the sample app")?;
    let text = configuration(&args.listen, &app.local_addr().to_string());
    let config = match Config::parse(&text, "demo", &args.data, std::env::vars_os()) {
        Ok(config) => config,
        Err(errors) => return Ok(refuse(&errors)),
    };
    let _log = start_logging(&config.telemetry)?;
    let gateway = Gateway::start(&config, Clock::system())?;
    runtime.spawn(app.run(std::future::pending()));
    introduce(&gateway, &args.data);
    gateway.run(stop_signal());
    Ok(Exit::Success)
}

/// What an operator would write for the sample app.
fn configuration(listen: &str, app: &str) -> String {
    format!(
        r#"
[server]
listen = {listen:?}
upstream = "http://{app}"

[admin]
listen = "off"

[telemetry]
log = "warn"

[[login]]
path = "/login"

[[logout]]
path = "/logout"

[[logout]]
path = "/logout-all"
scope = "user"

[[route]]
path = "/"
methods = ["GET", "HEAD"]
auth = "none"

[[route]]
path = "/app.js"
methods = ["GET", "HEAD"]
auth = "none"

[[route]]
path = "/style.css"
methods = ["GET", "HEAD"]
auth = "none"

[[route]]
path = "/favicon.svg"
methods = ["GET", "HEAD"]
auth = "none"
"#
    )
}

#[expect(
    clippy::print_stdout,
    reason = "what a person who tries the demo has to know"
)]
fn introduce(gateway: &Gateway, data: &Path) {
    let Some(address) = gateway.addresses().first() else {
        return;
    };
    // As it was called: it may not be on the PATH.
    let program = std::env::args()
        .next()
        .unwrap_or_else(|| "portcullis".to_owned());
    println!("Portcullis demo: a sample app behind the gateway.

  open     http://{address}/
  try      log in; open a second browser and log in there as the same user;
           press \"Log out all my devices\" and watch both end
  look     {program} sessions list --store sqlite:{data}/portcullis.db
  data     {data}/portcullis.db (sessions), {data}/portcullis.key (the master key, for its owner alone)
  stop     Ctrl-C
", data = data.display());
}
