//! The private listener as configured: where it is, and who may use its API.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::listeners::PublicListener;
use super::reader::Section;
use super::values::{self, Reason};

/// The private listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    pub listen: AdminAddress,
    /// Holds what callers of the API show; `None`: there is no API.
    pub token_file: Option<PathBuf>,
    /// Under which the listener may be called, besides `localhost` and addresses; without port.
    pub host_names: Vec<String>,
}

/// Where the private listener is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminAddress {
    Tcp(SocketAddr),
    /// A socket file, which only its owner can open.
    Unix(PathBuf),
}

impl AdminAddress {
    /// `None` is the wish for no listener.
    fn parse(text: &str, base: &Path) -> Result<Option<Self>, Reason> {
        if text == "off" {
            return Ok(None);
        }
        if let Some(path) = text.strip_prefix("unix:") {
            // sockaddr_un(7): longer paths cannot be bound.
            let path = values::file(path, base)
                .ok()
                .filter(|path| path.as_os_str().len() < 108);
            return path
                .map(|path| Some(Self::Unix(path)))
                .ok_or_else(|| r#"a path of at most 107 bytes after "unix:""#.into());
        }
        let address = values::socket_address(text)
            .map_err(|allowed| format!("{allowed}, \"unix:\" and a path, or \"off\""))?;
        Ok(Some(Self::Tcp(address)))
    }

    /// Whether nobody but this machine can connect.
    fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

pub(super) fn read_admin(
    section: &mut Section<'_>,
    public: &[PublicListener],
    base: &Path,
) -> Option<Admin> {
    // What it shows without a token is no secret, but it is nobody else's business.
    let listen = section.text("listen", "127.0.0.1:9901", |text| {
        AdminAddress::parse(text, base)
    });
    let token_file = section.optional_text("token_file", |text| values::file(text, base));
    let host_names = section.texts("host_names", &[], host_name);
    if let Some(AdminAddress::Tcp(address)) = listen
        && address.port() != 0
        && public
            .iter()
            .filter_map(PublicListener::tcp)
            .any(|public| shares_port(&public, &address))
    {
        section.conflict(
            "listen",
            "server.listen has this address too: the admin listener is never public",
        );
    }
    let listen = listen?;
    if token_file.is_some() && !listen.is_local() {
        section.conflict(
            "token_file",
            "the admin API is for this machine: let admin.listen be a loopback address or a unix socket, or leave token_file out",
        );
    }
    Some(Admin {
        listen,
        token_file,
        host_names,
    })
}

fn shares_port(public: &SocketAddr, admin: &SocketAddr) -> bool {
    let one_is_any = public.ip().is_unspecified() || admin.ip().is_unspecified();
    public.port() == admin.port() && (one_is_any || public.ip() == admin.ip())
}

/// A page can come under any name that resolves to this machine, so a name is taken in full and as it is.
fn host_name(text: &str) -> Result<String, Reason> {
    match values::domain(text) {
        Ok(name) if !text.starts_with('.') => Ok(name),
        _ => Err(r#"host names without port, such as "gateway.internal""#.into()),
    }
}
