//! `portcullis sessions`: the sessions in the gateway's store, while it runs.

use std::io::{self, Write};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde_json::json;

use super::Exit;
use super::desk::{Desk, DeskArgs};
use super::moving::{self, MoveArgs};
use crate::cookie::SessionCookies;
use crate::identity::UserId;
use crate::issuer::{NewSession, SessionClaims, SessionData};
use crate::session::{Device, Session, SessionHandle};
use crate::store::{Revocation, RevocationReason};

#[derive(Debug, Args)]
pub struct SessionsArgs {
    #[command(flatten)]
    desk: DeskArgs,
    #[command(subcommand)]
    command: SessionsCommand,
}

#[derive(Debug, Subcommand)]
enum SessionsCommand {
    #[command(flatten)]
    AtDesk(DeskCommand),
    /// Copy all sessions, revocations and keys to another store, without logging anybody out.
    Move(MoveArgs),
}

#[derive(Debug, Subcommand)]
enum DeskCommand {
    /// List sessions.
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
    let command = match args.command {
        SessionsCommand::AtDesk(command) => command,
        SessionsCommand::Move(stores) => return moving::run(&stores, args.desk.json),
    };
    args.desk.serve(async |desk| match command {
        DeskCommand::List { user } => list(desk, user.as_deref()).await,
        DeskCommand::Show { handle } => show(desk, handle).await,
        DeskCommand::Revoke { handles } => {
            let revocations = desk.revocations();
            let revoke = revocations.revoke(&handles, RevocationReason::Admin);
            let revocation = desk.acknowledged(&revocations, revoke).await?;
            tell_ended(desk, &revocation.context(NOTHING_ENDED)?, handles.len())
        }
        DeskCommand::RevokeUser { user } => {
            let user = UserId::parse(&user)?;
            let revocations = desk.revocations();
            let revoke = revocations.revoke_user(&user, &[], RevocationReason::Admin);
            let revocation = desk.acknowledged(&revocations, revoke).await?;
            let revocation = revocation.context(NOTHING_ENDED)?;
            tell_ended(desk, &revocation, revocation.ended.len())
        }
        DeskCommand::Open { user, claims, data } => open(desk, &user, claims, data).await,
    })
}

const NOTHING_ENDED: &str = "nothing was ended; try again";

async fn list(desk: &Desk, user: Option<&str>) -> anyhow::Result<Exit> {
    let user = user.map(UserId::parse).transpose()?;
    let mut out = io::stdout().lock();
    if !desk.json {
        writeln!(
            out,
            "{:22}  {:20}  {:20}  {:15}  user",
            "handle", "created", "last seen", "address"
        )?;
    }
    let mut after = None;
    loop {
        let page = match &user {
            Some(user) => desk.store.sessions_of_user(user, after, PAGE).await?,
            None => desk.store.all_sessions(after, PAGE).await?,
        };
        for session in page
            .iter()
            .filter(|session| session.lineage.over(desk.clock.now()).is_none())
        {
            print_line(desk, &mut out, session)?;
        }
        after = page.last().map(|session| session.handle);
        if after.is_none() {
            return Ok(Exit::Success);
        }
    }
}

fn print_line(desk: &Desk, out: &mut impl Write, session: &Session) -> io::Result<()> {
    if desk.json {
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

async fn show(desk: &Desk, handle: SessionHandle) -> anyhow::Result<Exit> {
    let Some(session) = desk.store.session(handle).await? else {
        bail!("there is no session {handle}: it has ended, or never was");
    };
    let mut out = io::stdout().lock();
    if desk.json {
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
    desk: &Desk,
    user: &str,
    claims: Option<String>,
    data: Option<String>,
) -> anyhow::Result<Exit> {
    let issuer = desk.issuer().await?;
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
        known: desk.store.head().await?,
        replaces: None,
    };
    let issued = issuer.open(new).await?.issued;
    let cookies = SessionCookies::new(desk.config.cookies.clone());
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
    if desk.json {
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

/// Ending what had ended already is no failure: a second try is free.
fn tell_ended(desk: &Desk, revocation: &Revocation, asked: usize) -> anyhow::Result<Exit> {
    let mut out = io::stdout().lock();
    let ended = revocation.ended.len();
    if desk.json {
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
