//! The sample app behind the demo's gateway: a web application as anybody could have written it, without any code for
//! sessions.
//!
//! It knows two headers: it answers its login with `portcullis-login: <user id>`, and it reads `x-user-id`. It never sets
//! nor reads a cookie, knows of no logout (the gateway answers those paths itself), and closes no WebSocket when a session
//! ends. Everything else that a visitor of the demo sees is the gateway's doing.

mod answer;
mod clock_socket;
mod login;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::answer::Answer;
use crate::clock::Clock;
use crate::identity::UserId;

/// Connections at one time, WebSockets included; more wait to be accepted.
const MAX_CONNECTIONS: usize = 256;
/// How long requests may go on once the app is told to stop.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);
/// Rest after a failed accept, which is mostly a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The sample app, listening.
pub struct SampleApp {
    listener: TcpListener,
    address: SocketAddr,
    clock: Clock,
}

impl SampleApp {
    /// Takes a free port of the loopback interface: the gateway is to be the only way in. Belongs inside a Tokio runtime.
    pub fn bind() -> io::Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        Ok(Self {
            address: listener.local_addr()?,
            listener,
            clock: Clock::system(),
        })
    }

    /// Where the gateway finds the app.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown`, then ends WebSockets and lets requests finish for a moment. If the returned future is dropped,
    /// the same happens unattended.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let stop = CancellationToken::new();
        let _stop_when_dropped = stop.clone().drop_guard();
        let tasks = TaskTracker::new();
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let accept_all = async {
            loop {
                let Ok(place) = places.clone().acquire_owned().await else {
                    return;
                };
                match self.listener.accept().await {
                    Ok((stream, _)) => {
                        let connection = Connection {
                            clock: self.clock.clone(),
                            stop: stop.clone(),
                            tasks: tasks.clone(),
                            place: Arc::new(place),
                        };
                        tasks.spawn(connection.serve(stream));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the sample app cannot accept a connection");
                        sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        };
        tokio::select! {
            () = shutdown => {}
            () = accept_all => {}
        }
        stop.cancel();
        tasks.close();
        tasks.wait().await;
    }
}

/// What serving one connection needs.
#[derive(Clone)]
struct Connection {
    clock: Clock,
    stop: CancellationToken,
    tasks: TaskTracker,
    /// Held as long as the connection lives, be it as a WebSocket.
    place: Arc<OwnedSemaphorePermit>,
}

impl Connection {
    async fn serve(self, stream: TcpStream) {
        let stop = self.stop.clone();
        let service = service_fn(move |request| {
            let connection = self.clone();
            async move { Ok::<_, Infallible>(connection.answer(request).await) }
        });
        // No timer is set, so an idle connection stays open: the gateway's pool decides when to close it.
        let connection = http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        tokio::pin!(connection);
        let served = tokio::select! {
            served = &mut connection => served,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                timeout(SHUTDOWN_GRACE, connection).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = served {
            tracing::debug!(%error, "a connection to the sample app ended early");
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let Some(endpoint) = Endpoint::of(request.uri().path()) else {
            return answer::not_found();
        };
        if !endpoint.methods().contains(request.method()) {
            return answer::method_not_allowed(endpoint.methods());
        }
        match endpoint {
            Endpoint::Asset(asset) => asset.to_answer(),
            Endpoint::Login if request.method() == Method::POST => login::answer(request).await,
            Endpoint::Login => answer::see_other("/"),
            Endpoint::Me => with_user(&request, |user| answer::me(user, request.headers())),
            Endpoint::Account => with_user(&request, answer::account),
            Endpoint::Clock => self.answer_clock(request),
        }
    }

    fn answer_clock(&self, mut request: Request<Incoming>) -> Answer {
        if user_of(&request).is_none() {
            return answer::no_user();
        }
        let connection = self.clone();
        clock_socket::answer(&mut request, move |upgrade| {
            connection.tasks.clone().spawn(async move {
                clock_socket::tell_time(upgrade, &connection.clock, &connection.stop).await;
                drop(connection.place);
            });
        })
    }
}

/// What the app has at its paths.
#[derive(Clone, Copy)]
enum Endpoint {
    /// A file that is the same for everybody.
    Asset(answer::Asset),
    Login,
    /// Who the gateway says is calling, and the request as it arrived.
    Me,
    /// The same as a page, for browsers without scripts.
    Account,
    /// A WebSocket that tells the time.
    Clock,
}

impl Endpoint {
    fn of(path: &str) -> Option<Self> {
        Some(match path {
            "/" => Self::Asset(answer::PAGE),
            "/app.js" => Self::Asset(answer::SCRIPT),
            "/style.css" => Self::Asset(answer::STYLE),
            "/favicon.svg" => Self::Asset(answer::ICON),
            "/login" => Self::Login,
            "/me" => Self::Me,
            "/account" => Self::Account,
            "/clock" => Self::Clock,
            _ => return None,
        })
    }

    fn methods(self) -> &'static [Method] {
        match self {
            Self::Login => &[Method::GET, Method::HEAD, Method::POST],
            Self::Clock => &[Method::GET],
            Self::Asset(_) | Self::Me | Self::Account => &[Method::GET, Method::HEAD],
        }
    }
}

/// The caller, if the gateway names one. Without a gateway in front anybody could be anybody: hence the loopback address.
fn user_of(request: &Request<Incoming>) -> Option<UserId> {
    UserId::from_header_value(request.headers().get("x-user-id")?).ok()
}

fn with_user(request: &Request<Incoming>, answer: impl FnOnce(&UserId) -> Answer) -> Answer {
    user_of(request).map_or_else(answer::no_user, |user| answer(&user))
}
