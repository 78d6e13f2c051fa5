//! Makes access tokens for `benches/peers/run`, signed with the keys of a gateway's own store: valid ones, one that has
//! expired, one of a revoked session, and the handles of as many revoked sessions as were asked for.
//!
//! A valid token needs no session in the store, since the gateway under measurement decides from its revocation set.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow};
use portcullis::clock::{Clock, Timestamp};
use portcullis::config::{Config, MasterKeySource};
use portcullis::gateway::{assemble, open_store};
use portcullis::identity::UserId;
use portcullis::keys::{SigningKeys, SigningKeysSettings};
use portcullis::session::{AccessClaims, MasterKey, SessionHandle};

/// `mint CONFIG VALID REVOKED FOLDER`; without arguments, as `cargo bench` starts it, there is nothing to do.
fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [config, valid, revoked, folder] = arguments.as_slice() else {
        return Ok(());
    };
    let environment: [(String, String); 0] = [];
    let config = Config::load(Path::new(config), environment)
        .map_err(|errors| anyhow!("the configuration cannot be used: {errors}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let keys = runtime.block_on(keys_of(&config))?;
    let mint = Mint {
        keys,
        issuer: assemble::issuer(&config).issuer,
    };
    let folder = Path::new(folder);
    mint.write_tokens(valid.parse()?, &folder.join("tokens"))?;
    mint.write_special(revoked.parse()?, folder)
}

async fn keys_of(config: &Config) -> anyhow::Result<SigningKeys> {
    let store = open_store(config).await?;
    let MasterKeySource::File(path) = &config.store.master_key else {
        return Err(anyhow!("the configuration has to name a master key file"));
    };
    let text = std::fs::read_to_string(path).context("cannot read the master key")?;
    let master = MasterKey::parse(&text).context("not a master key")?;
    let settings = SigningKeysSettings {
        algorithm: config.session.signing_algorithm,
        verify_for: LIFETIME,
    };
    Ok(SigningKeys::load(settings, &master, store, Clock::system()).await?)
}

/// Signs as the gateway would.
struct Mint {
    keys: SigningKeys,
    issuer: String,
}

impl Mint {
    /// One per line; the user of the first is `user-0`.
    fn write_tokens(&self, count: usize, path: &Path) -> anyhow::Result<()> {
        let now = Clock::system().now();
        let mut file = BufWriter::new(File::create(path)?);
        for number in 0..count {
            let token = self.sign(number, SessionHandle::random(), now)?;
            writeln!(file, "{token}")?;
        }
        Ok(file.flush()?)
    }

    fn write_special(&self, revoked: usize, folder: &Path) -> anyhow::Result<()> {
        let now = Clock::system().now();
        let handles: Vec<SessionHandle> = (0..revoked).map(|_| SessionHandle::random()).collect();
        let mut file = BufWriter::new(File::create(folder.join("revoked-handles"))?);
        for handle in &handles {
            writeln!(file, "{handle}")?;
        }
        file.flush()?;
        if let Some(handle) = handles.first() {
            let token = self.sign(0, *handle, now)?;
            std::fs::write(folder.join("revoked-token"), token)?;
        }
        let long_ago = Timestamp::from_secs(now.as_secs() - 2 * LIFETIME.as_secs().cast_signed());
        let expired = self.sign(0, SessionHandle::random(), long_ago)?;
        Ok(std::fs::write(folder.join("expired-token"), expired)?)
    }

    fn sign(
        &self,
        number: usize,
        handle: SessionHandle,
        issued_at: Timestamp,
    ) -> anyhow::Result<String> {
        let user = UserId::parse(&format!("user-{number}"))?;
        let claims = AccessClaims {
            issuer: &self.issuer,
            user: &user,
            handle,
            generation: 0,
            issued_at,
            expires_at: issued_at + LIFETIME,
            claims_version: 0,
            session_claims: CLAIMS,
        };
        let token = claims.sign(&self.keys.loaded().ring)?;
        Ok(token.expose().to_owned())
    }
}

const LIFETIME: Duration = Duration::from_secs(3600);

/// Makes tokens of about 500 bytes.
const CLAIMS: &str =
    r#"{"role":"member","email":"somebody@example.com","tenant":"north","scope":"read write"}"#;
