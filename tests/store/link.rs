//! A link to a database server that can be frozen and cut.

use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// Takes connections, and passes nothing on.
    Frozen,
    /// Ends connections, old and new.
    Cut,
}

pub struct Link {
    pub port: u16,
    state: Arc<watch::Sender<State>>,
    task: JoinHandle<()>,
}

impl Link {
    pub async fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(watch::Sender::new(State::Open));
        let task = tokio::spawn({
            let state = Arc::clone(&state);
            async move {
                loop {
                    let (client, _) = listener.accept().await.unwrap();
                    tokio::spawn(carry(client, server.clone(), state.subscribe()));
                }
            }
        });
        Self { port, state, task }
    }

    /// From now on nothing gets through, and nobody is told.
    pub fn freeze(&self) {
        self.state.send_replace(State::Frozen);
    }

    pub fn cut(&self) {
        self.state.send_replace(State::Cut);
    }

    /// For new connections, and those that were frozen.
    pub fn mend(&self) {
        self.state.send_replace(State::Open);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(mut client: TcpStream, server: String, mut state: watch::Receiver<State>) {
    let Ok(mut server) = TcpStream::connect(server).await else {
        return;
    };
    loop {
        let now = *state.borrow_and_update();
        match now {
            State::Cut => return,
            State::Frozen => {
                if state.changed().await.is_err() {
                    return;
                }
            }
            State::Open => tokio::select! {
                _ = copy_bidirectional(&mut client, &mut server) => return,
                changed = state.changed() => if changed.is_err() { return },
            },
        }
    }
}
