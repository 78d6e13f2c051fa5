//! Sees when the configuration file changes, and when somebody asks for it to be read anew.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;

use super::reload::{Cause, Reloader};
use crate::config::Config;
use crate::file_stamp::FileStamp;

/// A configuration file that is watched.
pub struct ConfigFile {
    path: PathBuf,
    /// As it was when it was last read.
    read: Option<FileStamp>,
    /// As it was when it was last looked at.
    seen: Option<FileStamp>,
}

impl ConfigFile {
    /// To be called before the file is read for the first time, so that no change is missed.
    pub fn new(path: PathBuf) -> Self {
        let now = FileStamp::of(&path);
        Self {
            path,
            read: now,
            seen: now,
        }
    }

    /// Looks at the file for as long as the gateway runs, and reads it when it has changed and is the same at two looks in a row:
    /// editors write in pieces. Whatever comes through `asked` has it read at once. A file that is not there any more is no
    /// change: it is about to be written, or gone for good, and neither is a reason to say anything.
    pub async fn watch(mut self, reloader: Reloader, mut asked: mpsc::Receiver<()>) {
        loop {
            let cause = tokio::select! {
                Some(()) = asked.recv() => Cause::Asked,
                () = tokio::time::sleep(INTERVAL) => Cause::FileChanged,
            };
            let now = FileStamp::of(&self.path);
            let at_rest = now == self.seen;
            self.seen = now;
            if cause == Cause::FileChanged && (!at_rest || now == self.read || now.is_none()) {
                continue;
            }
            self.read = now;
            let path = self.path.clone();
            let read =
                tokio::task::spawn_blocking(move || Config::load(&path, std::env::vars_os()));
            // Only a runtime that ends loses a task.
            let Ok(read) = read.await else { return };
            reloader.take(read, cause).await;
        }
    }
}

/// A `stat` call; people wait for a second or two.
const INTERVAL: Duration = Duration::from_secs(1);
