//! Clients for whom there is no place: told so, where that costs little.
//!
//! Who speaks without TLS gets an answer before it is read what it asks (RFC 9110 section 15.6.4). The connection is then closed
//! for writing alone and read for a moment: closed at once, what the client sent meanwhile would reset it, and the answer with it.
//! That is granted to a few at a time; the others are closed, and so are clients of TLS, for whom a handshake would have to be made
//! first.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::stream::Socket;

/// Those of one worker who are being told.
#[derive(Debug, Default)]
pub(super) struct TurnedAway(Rc<Cell<usize>>);

impl TurnedAway {
    /// Tells the client if there is room for that. What is given runs until the connection can be closed.
    pub(super) fn tell(&self, socket: Socket) -> Option<impl Future<Output = ()> + 'static> {
        if self.0.get() >= MOST {
            return None;
        }
        let place = Place::take(&self.0);
        Some(async move {
            let _place = place;
            // Whoever is gone already is told nothing.
            let _ = timeout(PATIENCE, goodbye(socket)).await;
        })
    }
}

async fn goodbye(mut socket: Socket) -> std::io::Result<()> {
    socket.write_all(ANSWER).await?;
    socket.shutdown().await?;
    let mut ignored = [0; 1024];
    for _ in 0..MOST_READS {
        if socket.read(&mut ignored).await? == 0 {
            break;
        }
    }
    Ok(())
}

struct Place(Rc<Cell<usize>>);

impl Place {
    fn take(taken: &Rc<Cell<usize>>) -> Self {
        taken.set(taken.get() + 1);
        Self(Rc::clone(taken))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// The same whoever asks for what.
const ANSWER: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    content-type: application/json\r\n\
    content-length: 34\r\n\
    cache-control: no-store\r\n\
    retry-after: 1\r\n\
    connection: close\r\n\
    \r\n\
    {\"message\":\"too many connections\"}";

/// At the same time, of one worker.
const MOST: usize = 64;

/// Until a client has read its answer and closes.
const PATIENCE: Duration = Duration::from_secs(1);

/// Of what it may send meanwhile: a request's head comes in one or two.
const MOST_READS: usize = 32;
