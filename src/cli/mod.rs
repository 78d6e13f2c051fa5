//! The commands of the `portcullis` binary: arguments in, an exit code out.

mod check;
pub mod demo;
mod desk;
mod fleet;
mod health;
mod keys;
mod migrate;
mod moving;
mod serve;
mod sessions;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand};

use crate::config::{Config, ConfigErrors, QuickFlags};
use crate::session::SessionHandle;

/// The gateway whose logout means logout.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, about, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway in front of an application.
    Serve(ServeArgs),
    /// Run the gateway with a sample app, to try it in a browser.
    Demo(demo::DemoArgs),
    /// Say everything that is wrong with a configuration file.
    Check {
        /// The configuration file.
        #[arg(long)]
        config: PathBuf,
    },
    /// Bring the tables of the store up to date, as the gateway does when it starts.
    Migrate(migrate::MigrateArgs),
    /// Look at sessions, end them, open one.
    Sessions(sessions::SessionsArgs),
    /// Look at signing keys, replace them, revoke one.
    Keys(keys::KeysArgs),
    /// Look at the replicas: how far each has followed the revocation log, and whether it renews its lease.
    Fleet(fleet::FleetArgs),
    /// Ask a running gateway whether it is well (for a container's health check).
    Health {
        #[arg(long, default_value = "http://127.0.0.1:9901/readyz")]
        url: String,
    },
}

/// Where the configuration comes from.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("application").required(true).args(["config", "upstream"])))]
struct ServeArgs {
    /// The configuration file.
    #[arg(long, conflicts_with_all = ["listen", "upstream", "login", "logout", "store", "public_url"])]
    config: Option<PathBuf>,
    /// Address to listen on [default: 127.0.0.1:8080].
    #[arg(long)]
    listen: Option<String>,
    /// The application, such as http://127.0.0.1:3000.
    #[arg(long)]
    upstream: Option<String>,
    /// Path of the application's login (POST); may be repeated.
    #[arg(long)]
    login: Vec<String>,
    /// Path that logs out (POST); may be repeated.
    #[arg(long)]
    logout: Vec<String>,
    /// Where sessions are kept [default: sqlite:portcullis.db].
    #[arg(long)]
    store: Option<String>,
    /// Scheme and host that browsers see.
    #[arg(long)]
    public_url: Option<String>,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Success,
    Failure,
    /// The configuration was refused; nothing was opened. `EX_CONFIG` of sysexits.h.
    Configuration,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Success => 0,
            Exit::Failure => 1,
            Exit::Configuration => 78,
        })
    }
}

impl Cli {
    /// The arguments of the process. Ends it with a text for the person if they make no command.
    pub fn from_arguments() -> Self {
        Self::parse_from(handles_last(std::env::args_os().collect()))
    }

    /// Runs the command. `Err` is a failure that is still to be told.
    pub fn run(self) -> anyhow::Result<Exit> {
        match self.command {
            Command::Serve(args) => serve::run(args),
            Command::Demo(args) => demo::run(&args),
            Command::Check { config } => Ok(check::run(&config)),
            Command::Migrate(args) => migrate::run(args),
            Command::Sessions(args) => sessions::run(args),
            Command::Keys(args) => keys::run(args),
            Command::Fleet(args) => fleet::run(args),
            Command::Health { url } => health::run(&url),
        }
    }
}

impl ServeArgs {
    fn load(self) -> Result<Config, ConfigErrors> {
        let environment = std::env::vars_os();
        match self.config {
            Some(path) => Config::load(&path, environment),
            None => {
                let flags = QuickFlags {
                    listen: self.listen,
                    upstream: self.upstream,
                    login: self.login,
                    logout: self.logout,
                    store: self.store,
                    public_url: self.public_url,
                };
                Config::from_flags(&flags, environment)
            }
        }
    }
}

/// Tells what is wrong with a configuration.
#[expect(
    clippy::print_stderr,
    reason = "the answer of a command, for the person who ran it"
)]
fn refuse(errors: &ConfigErrors) -> Exit {
    eprintln!("{errors}");
    let count = errors.as_slice().len();
    eprintln!(
        "configuration refused: {count} {}",
        if count == 1 { "error" } else { "errors" }
    );
    Exit::Configuration
}

/// One session handle in 64 begins with a hyphen; behind `--` it is not taken for an option.
fn handles_last(arguments: Vec<OsString>) -> Vec<OsString> {
    let is_hyphened_handle = |argument: &OsString| {
        let text = argument.to_str().filter(|text| text.starts_with('-'));
        text.is_some_and(|text| text.parse::<SessionHandle>().is_ok())
    };
    let (handles, mut others): (Vec<_>, Vec<_>) =
        arguments.into_iter().partition(is_hyphened_handle);
    if !handles.is_empty() && !others.iter().any(|other| other == "--") {
        others.push("--".into());
    }
    others.extend(handles);
    others
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::{Cli, handles_last};

    #[test]
    fn the_commands_are_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_handle_may_begin_with_a_hyphen() {
        let handle = "-AEBAQEBAQEBAQEBAQEBAQ";
        for line in [
            vec!["portcullis", "sessions", "show", handle],
            vec![
                "portcullis",
                "sessions",
                "revoke",
                handle,
                "AQEBAQEBAQEBAQEBAQEBAQ",
                "--json",
            ],
            vec!["portcullis", "sessions", "revoke", "--json", "--", handle],
        ] {
            let arguments = handles_last(line.iter().map(Into::into).collect());
            assert!(Cli::try_parse_from(&arguments).is_ok(), "{arguments:?}");
        }
        let unknown = handles_last(vec![
            "portcullis".into(),
            "sessions".into(),
            "--jsno".into(),
            "list".into(),
        ]);
        assert!(Cli::try_parse_from(&unknown).is_err());
    }
}
