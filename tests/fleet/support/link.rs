//! The way from one replica to its database, over TCP, which a test can make slow, silent or short.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Listens on a port of its own and hands everything on.
pub struct Link {
    pub address: SocketAddr,
    control: Arc<Control>,
}

struct Control {
    delay_ms: AtomicU64,
    mode: watch::Sender<Mode>,
    half_closed: watch::Sender<u64>,
}

#[derive(Clone, Debug)]
enum Mode {
    /// All connections end with the token.
    Open(CancellationToken),
    /// Nothing gets through, and nobody is told: a pulled plug.
    Frozen(CancellationToken),
    /// Connections are closed as they come.
    Cut,
}

impl Link {
    pub fn to(database: SocketAddr, runtime: &Handle) -> Self {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let control = Arc::new(Control {
            delay_ms: AtomicU64::new(0),
            mode: watch::Sender::new(Mode::Open(CancellationToken::new())),
            half_closed: watch::Sender::new(0),
        });
        let accepting = Arc::clone(&control);
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((near, _)) = listener.accept().await {
                let mode = accepting.mode.borrow().clone();
                if let Mode::Open(cut) | Mode::Frozen(cut) = mode {
                    let control = Arc::clone(&accepting);
                    tokio::spawn(async move {
                        tokio::select! {
                            () = cut.cancelled() => {}
                            () = carry(near, database, &control) => {}
                        }
                    });
                }
            }
        });
        Self { address, control }
    }

    /// Everything takes this much longer, in each direction.
    pub fn delay(&self, by: Duration) {
        let millis = u64::try_from(by.as_millis()).unwrap();
        self.control.delay_ms.store(millis, Ordering::Relaxed);
    }

    /// Nothing gets through until [`Self::heal`], and then everything does.
    pub fn freeze(&self) {
        self.control.mode.send_modify(|mode| {
            if let Mode::Open(cut) = mode {
                *mode = Mode::Frozen(cut.clone());
            }
        });
    }

    /// All connections end, and no other is made until [`Self::heal`].
    pub fn cut(&self) {
        self.control.mode.send_modify(|mode| {
            if let Mode::Open(cut) | Mode::Frozen(cut) = mode {
                cut.cancel();
            }
            *mode = Mode::Cut;
        });
    }

    /// One direction of each connection ends; the other stays open, and new connections are whole.
    pub fn half_close(&self) {
        self.control.half_closed.send_modify(|count| *count += 1);
    }

    pub fn heal(&self) {
        self.delay(Duration::ZERO);
        self.control.mode.send_modify(|mode| {
            *mode = Mode::Open(match mode {
                Mode::Open(cut) | Mode::Frozen(cut) => cut.clone(),
                Mode::Cut => CancellationToken::new(),
            });
        });
    }
}

async fn carry(near: TcpStream, database: SocketAddr, control: &Control) {
    let Ok(far) = TcpStream::connect(database).await else {
        return;
    };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let (from_near, to_near) = near.into_split();
    let (from_far, to_far) = far.into_split();
    let half_closed = control.half_closed.subscribe();
    let down = pump(from_far, to_near, control, None);
    let up = pump(from_near, to_far, control, Some(half_closed));
    tokio::join!(down, up);
}

/// Until the sender closes, the receiver is gone, or this direction is closed.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    control: &Control,
    mut half_closed: Option<watch::Receiver<u64>>,
) {
    let mut buffer = vec![0; 16 * 1024];
    let mut mode = control.mode.subscribe();
    loop {
        let closed = async {
            match &mut half_closed {
                Some(half_closed) => drop(half_closed.changed().await),
                None => std::future::pending().await,
            }
        };
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            () = closed => break,
        };
        let Some(count) = read.ok().filter(|count| *count > 0) else {
            break;
        };
        sleep(Duration::from_millis(
            control.delay_ms.load(Ordering::Relaxed),
        ))
        .await;
        if mode
            .wait_for(|mode| !matches!(mode, Mode::Frozen(_)))
            .await
            .is_err()
            || to.write_all(&buffer[..count]).await.is_err()
        {
            break;
        }
    }
    // The other side may be gone.
    let _ = to.shutdown().await;
}
