//! A panic in a stage is an answer, and the end of that request alone.
//!
//! Nothing that a client sends may panic, and no test has made it so. Should it happen all the same, the request is answered
//! with 500 and has not passed: a stage that unwinds has given nothing to the next one.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::Poll;

/// A stage has panicked; the panic's own log line says where.
#[derive(Debug, PartialEq, Eq)]
pub struct Panicked;

/// What the stages come to. They are not asked again after a panic, and what they held is dropped with them.
pub async fn caught<F: Future>(mut stages: Pin<&mut F>) -> Result<F::Output, Panicked> {
    poll_fn(
        |cx| match catch_unwind(AssertUnwindSafe(|| stages.as_mut().poll(cx))) {
            Ok(polled) => polled.map(Ok),
            Err(_) => Poll::Ready(Err(Panicked)),
        },
    )
    .await
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::pin::pin;

    use super::{Panicked, caught};

    #[tokio::test]
    async fn a_stage_that_panics_is_followed_by_no_other() {
        for waits in [0, 1, 5] {
            let forwarded = Cell::new(false);
            let stages = async {
                for _ in 0..waits {
                    tokio::task::yield_now().await;
                }
                let user: Option<&str> = std::hint::black_box(None);
                let user = user.expect("a stage that panics");
                forwarded.set(true);
                user
            };
            assert_eq!(caught(pin!(stages)).await, Err(Panicked));
            assert!(!forwarded.get());
        }
    }

    #[tokio::test]
    async fn stages_that_do_not_panic_are_left_alone() {
        let stages = async {
            tokio::task::yield_now().await;
            7
        };
        assert_eq!(caught(pin!(stages)).await, Ok(7));
    }
}
