//! `portcullis sessions`: the same store as the gateway's, while it runs.
//!
//! A revocation made here goes by the same protocol as one made by a replica: it is written, and then waited for until every
//! replica has confirmed it.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde_json::json;

use super::{Exit, refuse};
use crate::clock::Clock;
use crate::config::{Config, ConfigErrors, QuickFlags, StoreLocation};
use crate::cookie::SessionCookies;
use crate::gateway::{assemble, master_key, open_store};
use crate::identity::UserId;
use crate::issuer::{Issuer, NewSession, SessionClaims, SessionData};
use crate::revocation::Revocations;
use crate::session::{Device, Session, SessionHandle};
use crate::store::{Revocation, RevocationReason, SessionStore, StoreError};

#[derive(Debug, Args)]
pub struct SessionsArgs {
    /// The configuration file of the gateway.
    #[arg(long, global = true)]
    config: Option<PathBuf>,
    /// The gateway's store, if it runs without a file [default: sqlite:portcullis.db].
    #[arg(long, global = true, conflicts_with = "config")]
    store: Option<String>,
    /// Print JSON, one session per line.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: SessionsCommand,
}

#[derive(Debug, Subcommand)]
enum SessionsCommand {
    /// List sessions, newest use last.
    List {
        /// Only those of this user.
        #[arg(long)]
        user: Option<String>,
    },
    /// Show one session.
    Show { handle: SessionHandle },
    /// End sessions; returns when no replica accepts them any more.
    Revoke {
        #[arg(required = true)]
        handles: Vec<SessionHandle>,
    },
    /// End all sessions of a user; returns when no replica accepts them any more.
    RevokeUser { user: String },
    /// Open a session and print its cookies.
    Open {
        #[arg(long)]
        user: String,
        /// JSON object that goes into the access token.
        #[arg(long)]
        claims: Option<String>,
        /// JSON that stays in the store.
        #[arg(long)]
        data: Option<String>,
    },
}

pub fn run(args: SessionsArgs) -> anyhow::Result<Exit> {
    let config = match load(args.config, args.store) {
        Ok(config) => config,
        Err(errors) => return Ok(refuse(&errors)),
    };
    let StoreLocation::Sqlite(path) = &config.store.location;
    if !path.exists() {
        bail!(
            "there is no session store at {}: name the gateway's with --config or --store",
            path.display()
        );
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    runtime.block_on(async {
        let store = open_store(&config).await?;
        let desk = Desk {
            config,
            store,
            clock: Clock::system(),
            json: args.json,
        };
        let exit = desk.serve(args.command).await;
        desk.store.close().await;
        exit
    })
}

fn load(config: Option<PathBuf>, store: Option<String>) -> Result<Config, ConfigErrors> {
    match config {
        Some(path) => Config::load(&path, std::env::vars_os()),
        None => {
            // No request is forwarded from here: the upstream is a formality.
            let flags = QuickFlags {
                upstream: Some("http://127.0.0.1:1".into()),
                store,
                ..QuickFlags::default()
            };
            Config::from_flags(&flags, std::env::vars_os())
        }
    }
}

/// Serves one command.
struct Desk {
    config: Config,
    store: SessionStore,
    clock: Clock,
    json: bool,
}

impl Desk {
    async fn serve(&self, command: SessionsCommand) -> anyhow::Result<Exit> {
        match command {
            SessionsCommand::List { user } => self.list(user.as_deref()).await,
            SessionsCommand::Show { handle } => self.show(handle).await,
            SessionsCommand::Revoke { handles } => {
                let revocations = self.revocations();
                let revoke = revocations.revoke(&handles, RevocationReason::Admin);
                let revocation = self.acknowledged(&revocations, revoke).await?;
                self.tell_ended(&revocation, handles.len())
            }
            SessionsCommand::RevokeUser { user } => {
                let user = UserId::parse(&user)?;
                let revocations = self.revocations();
                let revoke = revocations.revoke_user(&user, &[], RevocationReason::Admin);
                let revocation = self.acknowledged(&revocations, revoke).await?;
                self.tell_ended(&revocation, revocation.ended.len())
            }
            SessionsCommand::Open { user, claims, data } => self.open(&user, claims, data).await,
        }
    }

    async fn list(&self, user: Option<&str>) -> anyhow::Result<Exit> {
        let user = user.map(UserId::parse).transpose()?;
        let mut out = io::stdout().lock();
        if !self.json {
            writeln!(
                out,
                "{:22}  {:20}  {:20}  {:15}  user",
                "handle", "created", "last seen", "address"
            )?;
        }
        let mut after = None;
        loop {
            let page = match &user {
                Some(user) => self.store.sessions_of_user(user, after, PAGE).await?,
                None => self.store.all_sessions(after, PAGE).await?,
            };
            for session in page
                .iter()
                .filter(|session| session.lineage.over(self.clock.now()).is_none())
            {
                self.print_line(&mut out, session)?;
            }
            after = page.last().map(|session| session.handle);
            if after.is_none() {
                return Ok(Exit::Success);
            }
        }
    }

    fn print_line(&self, out: &mut impl Write, session: &Session) -> io::Result<()> {
        if self.json {
            return writeln!(out, "{}", as_json(session));
        }
        let Session {
            handle,
            created_at,
            last_seen_at,
            device,
            user,
            ..
        } = session;
        writeln!(
            out,
            "{handle:22}  {created_at:20}  {last_seen_at:20}  {:15}  {user}",
            device.address
        )
    }

    async fn show(&self, handle: SessionHandle) -> anyhow::Result<Exit> {
        let Some(session) = self.store.session(handle).await? else {
            bail!("there is no session {handle}: it has ended, or never was");
        };
        let mut out = io::stdout().lock();
        if self.json {
            writeln!(out, "{}", as_json(&session))?;
            return Ok(Exit::Success);
        }
        writeln!(out, "handle      {}", session.handle)?;
        writeln!(out, "user        {}", session.user)?;
        writeln!(out, "created     {}", session.created_at)?;
        writeln!(out, "last seen   {}", session.last_seen_at)?;
        writeln!(out, "idle until  {}", session.lineage.idle_expires_at)?;
        writeln!(out, "ends        {}", session.lineage.expires_at)?;
        writeln!(out, "rotations   {}", session.lineage.generation)?;
        writeln!(out, "address     {}", session.device.address)?;
        writeln!(
            out,
            "user agent  {}",
            session.device.user_agent.escape_debug()
        )?;
        writeln!(out, "claims      {}", session.claims)?;
        writeln!(out, "data        {}", session.data)?;
        Ok(Exit::Success)
    }

    async fn open(
        &self,
        user: &str,
        claims: Option<String>,
        data: Option<String>,
    ) -> anyhow::Result<Exit> {
        let master = master_key::obtain(&self.config.store.master_key, &self.store).await?;
        let issuer = Issuer::load(
            assemble::issuer(&self.config),
            &master,
            self.store.clone(),
            self.clock.clone(),
        )
        .await?;
        let claims = claims
            .map(|claims| SessionClaims::parse(claims.as_bytes()))
            .transpose()
            .context("--claims")?;
        let data = data
            .map(|data| SessionData::parse(data.as_bytes()))
            .transpose()
            .context("--data")?;
        let new = NewSession {
            user: UserId::parse(user)?,
            claims: claims.unwrap_or_else(SessionClaims::empty),
            data: data.unwrap_or_else(SessionData::empty),
            device: Device {
                address: "command line".into(),
                user_agent: String::new(),
            },
            known: self.store.head().await?,
            replaces: None,
        };
        let issued = issuer.open(new).await?.issued;
        let cookies = SessionCookies::new(self.config.cookies.clone());
        let set = cookies.set(&issued.access, &issued.refresh, issued.session_expires_at);
        let set: Vec<&str> = set
            .iter()
            .filter_map(|cookie| cookie.to_str().ok())
            .collect();
        let pairs: Vec<&str> = set
            .iter()
            .filter_map(|cookie| cookie.split(';').next())
            .collect();
        let mut out = io::stdout().lock();
        if self.json {
            let opened = json!({ "handle": issued.handle.to_string(), "cookie": pairs.join("; "), "set_cookie": set });
            writeln!(out, "{opened}")?;
            return Ok(Exit::Success);
        }
        writeln!(out, "handle: {}", issued.handle)?;
        writeln!(out, "Cookie: {}", pairs.join("; "))?;
        for cookie in set {
            writeln!(out, "Set-Cookie: {cookie}")?;
        }
        Ok(Exit::Success)
    }

    fn revocations(&self) -> Revocations {
        Revocations::new(
            self.config.revocation,
            self.clock.clone(),
            self.store.clone(),
        )
    }

    /// This process is no replica: nobody but itself serves its wait.
    async fn acknowledged(
        &self,
        revocations: &Revocations,
        revoke: impl Future<Output = Result<Revocation, StoreError>>,
    ) -> anyhow::Result<Revocation> {
        tokio::select! {
            revocation = revoke => revocation.context("nothing was ended; try again"),
            () = revocations.serve_waits() => bail!("the wait for the replicas ended by itself"),
        }
    }

    /// Ending what had ended already is no failure: a second try is free.
    fn tell_ended(&self, revocation: &Revocation, asked: usize) -> anyhow::Result<Exit> {
        let mut out = io::stdout().lock();
        let ended = revocation.ended.len();
        if self.json {
            let handles: Vec<String> = revocation
                .ended
                .iter()
                .map(|ended| ended.handle.to_string())
                .collect();
            writeln!(
                out,
                "{}",
                json!({ "ended": handles, "sequence": revocation.sequence.as_u64() })
            )?;
        } else {
            for ended in &revocation.ended {
                writeln!(out, "ended {}", ended.handle)?;
            }
            writeln!(
                out,
                "{ended} ended, {} had ended before; no replica accepts them",
                asked.saturating_sub(ended)
            )?;
        }
        Ok(Exit::Success)
    }
}

fn as_json(session: &Session) -> serde_json::Value {
    let parsed = |json: &str| serde_json::from_str(json).unwrap_or(serde_json::Value::Null);
    json!({
        "handle": session.handle.to_string(),
        "user": session.user.as_str(),
        "created_at": session.created_at.to_string(),
        "last_seen_at": session.last_seen_at.to_string(),
        "idle_expires_at": session.lineage.idle_expires_at.to_string(),
        "expires_at": session.lineage.expires_at.to_string(),
        "rotations": session.lineage.generation,
        "address": session.device.address,
        "user_agent": session.device.user_agent,
        "claims": parsed(&session.claims),
        "data": parsed(&session.data),
    })
}

/// Sessions that are read at once.
const PAGE: u32 = 500;
