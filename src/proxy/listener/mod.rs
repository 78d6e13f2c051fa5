//! The public listeners of one worker: connections in, each served by the worker's [`Proxy`].
//!
//! | file | what it has |
//! |---|---|
//! | this | accepting, up to the end |
//! | `socket`, `stream` | where a worker listens; what a connection's bytes go through |
//! | `introduction`, `proxy_protocol` | what comes before HTTP: a PROXY header, a TLS handshake, the choice of the version |
//! | `connection` | what is known of a connection |
//! | `http1` | HTTP/1.1 on it, in bursts with rests between them |
//! | `http2`, `frames`, `farewell`, `activity` | HTTP/2 on it, what is bounded there and how it ends for it, and when it is at rest |
//! | `gathered` | what is written there goes out together |
//! | `slow_reader`, `stalled` | what becomes of clients that do not read: the whole connection, one stream of it |
//! | `dealing` | which worker serves a connection |
//! | `places`, `turned_away` | how many connections are open; what is said to those beyond |

mod activity;
mod connection;
mod dealing;
mod farewell;
mod frames;
mod gathered;
mod http1;
mod http2;
mod introduction;
mod places;
pub mod proxy_protocol;
mod slow_reader;
mod socket;
mod stalled;
mod stream;
mod turned_away;

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

pub use activity::Running;
pub use connection::{ConnectionInfo, Purpose};
pub use dealing::{Hand, hands};
pub use introduction::{Balancers, Entrance, Security};
pub use places::{ConnectionsByAddress, block_of};
pub use socket::Bound;
pub use stalled::Progress;

use super::Proxy;
use crate::causes::Causes;
use dealing::{Dealt, Seat};
use http1::serve_http1;
use http2::serve_http2;
use introduction::{Introduced, NotIntroduced, Patience};
use places::Place;
use socket::{Listener, Peer};
use stream::Socket;
use turned_away::TurnedAway;

/// Settings of this module.
#[derive(Clone, Debug)]
pub struct ListenerSettings {
    /// Open client connections of one worker.
    pub connections: usize,
    /// From one address, over all workers; `None`: as many as from all.
    pub by_address: Option<ConnectionsByAddress>,
    /// TLS handshakes of one worker that are under way.
    pub handshakes: usize,
    /// For a PROXY header and the TLS handshake, together.
    pub handshake_timeout: Duration,
    /// Requests at the same time on one HTTP/2 connection.
    pub streams: u32,
    /// A request head can have so many bytes.
    pub header_bytes: usize,
    /// A request head can have so many header lines.
    pub header_count: usize,
    /// From the first byte of a request head to its last.
    pub head_timeout: Duration,
    /// How long a write may wait for a client that does not read.
    pub write_timeout: Duration,
    /// From the end of an answer, or the beginning of a connection, to the end of the next head.
    pub keep_alive_timeout: Duration,
}

/// A listener, and what is spoken there.
#[derive(Debug)]
pub struct PublicSocket {
    pub bound: Bound,
    pub entrance: Entrance,
}

/// What a worker goes by: replaced as a whole.
pub struct Served {
    pub proxy: Proxy,
    /// Of connections that begin.
    pub settings: Rc<ListenerSettings>,
}

/// What a worker goes by now. Asked by each request when it begins, so that no connection, however long it lasts, keeps rules
/// alive that the operator has replaced; what has begun goes on as it began.
pub struct Current {
    served: RefCell<Rc<Served>>,
    /// No connection gets another request.
    ends: Cell<bool>,
}

impl Current {
    pub fn new(served: Served) -> Self {
        Self {
            served: RefCell::new(Rc::new(served)),
            ends: Cell::new(false),
        }
    }

    pub fn get(&self) -> Rc<Served> {
        Rc::clone(&self.served.borrow())
    }

    pub fn replace(&self, served: Served) {
        self.served.replace(Rc::new(served));
    }
}

/// Accepts until `stop`, then ends each connection after the answers that it is giving. Returns when all have ended.
pub async fn serve(
    current: Rc<Current>,
    sockets: Vec<PublicSocket>,
    hand: Hand,
    stop: CancellationToken,
) -> io::Result<()> {
    let worker = Rc::new(Worker {
        current: Rc::clone(&current),
        stop: CancellationToken::new(),
        connections: TaskTracker::new(),
        seat: hand.seat,
        handshakes: Cell::new(0),
        turned_away: TurnedAway::default(),
    });
    let mut listeners = Vec::with_capacity(sockets.len());
    let mut entrances = Vec::with_capacity(sockets.len());
    for PublicSocket { bound, entrance } in sockets {
        listeners.push(bound.start()?);
        entrances.push(Rc::new(entrance));
    }
    for (number, (listener, entrance)) in listeners.into_iter().zip(&entrances).enumerate() {
        let (accepting, entrance) = (Rc::clone(&worker), Rc::clone(entrance));
        worker
            .connections
            .spawn_local(async move { accepting.accept(listener, number, entrance).await });
    }
    let taking = Rc::clone(&worker);
    worker
        .connections
        .spawn_local(async move { taking.take_dealt(hand.dealt, &entrances).await });
    stop.cancelled().await;
    current.ends.set(true);
    worker.stop.cancel();
    worker.connections.close();
    worker.connections.wait().await;
    current.get().proxy.tunnels_ended().await;
    Ok(())
}

struct Worker {
    current: Rc<Current>,
    /// Of this worker alone, so that its connections share no lock with others; comes after [`Current::ends`].
    stop: CancellationToken,
    connections: TaskTracker,
    seat: Seat,
    /// TLS handshakes that are under way.
    handshakes: Cell<usize>,
    turned_away: TurnedAway,
}

impl Worker {
    async fn accept(self: Rc<Self>, listener: Listener, number: usize, entrance: Rc<Entrance>) {
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, peer)) => self.met_or_dealt(socket, peer, number, &entrance),
                Err(error) => {
                    // Out of file descriptors, or a client that was gone before it was met: neither ends the listener.
                    warn!(
                        error = %Causes(&error),
                        "cannot accept a connection"
                    );
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        if listener.hear_no_more() {
            let handshakes = async {
                while let Ok((socket, peer)) = listener.accept().await {
                    self.met(socket, peer, &entrance);
                }
            };
            // Over when the time is.
            let _ = tokio::time::timeout(ROUND_TRIP, handshakes).await;
        }
        for (socket, peer) in listener.into_queue() {
            self.met(socket, peer, &entrance);
        }
    }

    /// Takes what other workers give, and at the end what they gave before they knew of it.
    async fn take_dealt(
        self: Rc<Self>,
        mut dealt: mpsc::UnboundedReceiver<Dealt>,
        entrances: &[Rc<Entrance>],
    ) {
        loop {
            let next = tokio::select! {
                () = self.stop.cancelled() => break,
                next = dealt.recv() => next,
            };
            let Some(next) = next else { break };
            self.dealt(next, entrances);
        }
        dealt.close();
        while let Ok(next) = dealt.try_recv() {
            self.dealt(next, entrances);
        }
    }

    fn dealt(self: &Rc<Self>, dealt: Dealt, entrances: &[Rc<Entrance>]) {
        let place = Place::counted(self.current.get().proxy.worker.clone(), &self.seat);
        let (peer, entrance) = (dealt.peer, entrances.get(dealt.listener));
        match (dealt.socket(), entrance) {
            (Ok(socket), Some(entrance)) => self.begin(socket, peer, entrance, place),
            (Err(error), _) => debug!(error = %Causes(&error), "a connection got lost"),
            (Ok(_), None) => {}
        }
    }

    fn met_or_dealt(
        self: &Rc<Self>,
        socket: Socket,
        peer: Peer,
        number: usize,
        entrance: &Rc<Entrance>,
    ) {
        match self.seat.deal(socket, peer, number) {
            Ok(None) => {}
            Ok(Some(socket)) => self.met(socket, peer, entrance),
            Err(error) => debug!(error = %Causes(&error), "a connection got lost"),
        }
    }

    fn met(self: &Rc<Self>, socket: Socket, peer: Peer, entrance: &Rc<Entrance>) {
        let served = self.current.get();
        if self.seat.open() >= served.settings.connections {
            served.proxy.metrics.connection_refused("connections");
            debug!("refused a connection: as many are open as server.limits.connections allows");
            if !entrance.speaks_tls() {
                self.turn_away(socket);
            }
            return;
        }
        let place = Place::take(served.proxy.worker.clone(), &self.seat);
        self.begin(socket, peer, entrance, place);
    }

    fn begin(self: &Rc<Self>, socket: Socket, peer: Peer, entrance: &Rc<Entrance>, place: Place) {
        let (worker, entrance) = (Rc::clone(self), Rc::clone(entrance));
        self.connections.spawn_local(async move {
            let _place = place;
            worker.serve(socket, peer, &entrance).await;
        });
    }

    async fn serve(&self, socket: Socket, peer: Peer, entrance: &Entrance) {
        let settings = Rc::clone(&self.current.get().settings);
        let patience = Patience {
            by_address: settings.by_address.as_ref(),
            handshake_timeout: settings.handshake_timeout,
            keep_alive_timeout: settings.keep_alive_timeout,
            head_timeout: settings.head_timeout,
            handshakes: settings.handshakes,
            under_way: &self.handshakes,
        };
        let introduced = match entrance.is_bare(peer) {
            true => entrance.introduce_bare(socket, peer, &patience),
            // In a box, so that bare connections do not make room for it.
            false => tokio::select! {
                introduced = Box::pin(entrance.introduce(socket, peer, &patience)) => introduced,
                () = self.long_gone() => return,
            },
        };
        let Introduced {
            stream,
            info,
            http2,
            place,
        } = match introduced {
            Ok(introduced) => introduced,
            Err(error) => {
                let served = self.current.get();
                served.proxy.metrics.connection_refused(error.reason());
                debug!(
                    error = %Causes(&error),
                    "a connection came to nothing"
                );
                if let NotIntroduced::TooManyFromAddress(Some(socket)) = error {
                    self.turn_away(*socket);
                }
                return;
            }
        };
        let (current, info) = (Rc::clone(&self.current), Rc::new(info));
        match http2 {
            false => serve_http1(current, stream, info, &settings, &self.stop).await,
            true => Box::pin(serve_http2(current, stream, info, &settings, &self.stop)).await,
        }
        drop(place);
    }

    fn turn_away(&self, socket: Socket) {
        if let Some(telling) = self.turned_away.tell(socket) {
            self.connections.spawn_local(telling);
        }
    }

    /// The end, and time for handshakes that are under way.
    async fn long_gone(&self) {
        self.stop.cancelled().await;
        tokio::time::sleep(LAST_HANDSHAKES).await;
    }
}

/// Longer than it takes to most clients and back: what completes a TCP handshake.
const ROUND_TRIP: Duration = Duration::from_millis(300);

/// Longer than the round trips of a TLS handshake take.
const LAST_HANDSHAKES: Duration = Duration::from_secs(2);

/// After a failure to accept, which seldom passes at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
