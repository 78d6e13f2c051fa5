//! Which worker serves a connection.
//!
//! The kernel deals connections out by a hash of their addresses, or to whoever is first at a common queue. Among many that is even
//! enough; of two or four, which is what a balancer that speaks HTTP/2 opens, all can come to one worker. So a worker that
//! has accepted a connection gives it to the one that has the fewest, if that has clearly fewer. What it costs is paid per
//! connection that moves, and by no request.

use std::io;
use std::net;
use std::os::unix;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;

use super::socket::Peer;
use super::stream::Socket;

/// A worker's place at the table.
pub struct Hand {
    pub(super) seat: Seat,
    pub(super) dealt: mpsc::UnboundedReceiver<Dealt>,
}

/// Which of the workers this one is; cheap to clone.
#[derive(Clone)]
pub(super) struct Seat {
    own: usize,
    table: Arc<[Player]>,
}

struct Player {
    /// Connections that it has, or is about to get.
    open: AtomicUsize,
    /// Bounded by the connections that a worker may have.
    give: mpsc::UnboundedSender<Dealt>,
}

/// A connection on its way to another worker; it is counted there already.
pub(super) struct Dealt {
    socket: Unwatched,
    pub peer: Peer,
    /// The listener's number, the same for all workers.
    pub listener: usize,
}

/// A socket that no runtime waits on.
enum Unwatched {
    Tcp(net::TcpStream),
    Unix(unix::net::UnixStream),
}

/// One for each worker.
pub fn hands(workers: usize) -> Vec<Hand> {
    let (players, inboxes): (Vec<_>, Vec<_>) = (0..workers)
        .map(|_| {
            let (give, dealt) = mpsc::unbounded_channel();
            let open = AtomicUsize::new(0);
            (Player { open, give }, dealt)
        })
        .unzip();
    let table: Arc<[Player]> = players.into();
    let hand = |(own, dealt)| {
        let table = Arc::clone(&table);
        Hand {
            seat: Seat { own, table },
            dealt,
        }
    };
    inboxes.into_iter().enumerate().map(hand).collect()
}

impl Seat {
    pub fn open(&self) -> usize {
        self.table[self.own].open.load(Ordering::Relaxed)
    }

    pub fn count(&self) {
        self.table[self.own].open.fetch_add(1, Ordering::Relaxed);
    }

    pub fn discount(&self) {
        self.table[self.own].open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Gives the connection to who has clearly fewer; gives it back if nobody has, or who has is about to end.
    pub fn deal(&self, socket: Socket, peer: Peer, listener: usize) -> io::Result<Option<Socket>> {
        let Some(other) = self.lightest() else {
            return Ok(Some(socket));
        };
        let socket = Unwatched::try_from(socket)?;
        other.open.fetch_add(1, Ordering::Relaxed);
        let dealt = Dealt {
            socket,
            peer,
            listener,
        };
        match other.give.send(dealt) {
            Ok(()) => Ok(None),
            Err(refused) => {
                other.open.fetch_sub(1, Ordering::Relaxed);
                refused.0.socket().map(Some)
            }
        }
    }

    fn lightest(&self) -> Option<&Player> {
        let own = self.open();
        if own == 0 {
            return None;
        }
        let open = |player: &Player| player.open.load(Ordering::Relaxed);
        let least = self.table.iter().min_by_key(|player| open(player))?;
        is_clearly_fewer(open(least), own).then_some(least)
    }
}

/// One, of few; an eighth, of many, so that not every other connection moves.
fn is_clearly_fewer(other: usize, own: usize) -> bool {
    own > other + own / 8
}

impl Dealt {
    /// To be waited on by this worker.
    pub fn socket(self) -> io::Result<Socket> {
        match self.socket {
            Unwatched::Tcp(socket) => TcpStream::from_std(socket).map(Socket::Tcp),
            Unwatched::Unix(socket) => UnixStream::from_std(socket).map(Socket::Unix),
        }
    }
}

impl TryFrom<Socket> for Unwatched {
    type Error = io::Error;

    fn try_from(socket: Socket) -> io::Result<Self> {
        match socket {
            Socket::Tcp(socket) => socket.into_std().map(Self::Tcp),
            Socket::Unix(socket) => socket.into_std().map(Self::Unix),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_clearly_fewer;

    #[test]
    fn few_are_even_and_many_nearly() {
        for (own, other, moves) in [
            (0, 0, false),
            (1, 1, false),
            (1, 0, true),
            (4, 3, true),
            (7, 6, true),
            (8, 7, false),
            (8, 6, true),
            (80, 70, false),
            (80, 69, true),
            (3, 9, false),
        ] {
            assert_eq!(is_clearly_fewer(other, own), moves, "{own} and {other}");
        }
    }
}
