//! How many connections are open.

use std::cell::Cell;
use std::rc::Rc;

use super::super::Proxy;

/// A connection's place among those that are open.
pub(super) struct Place {
    proxy: Rc<Proxy>,
    open: Rc<Cell<usize>>,
}

impl Place {
    pub(super) fn take(proxy: &Rc<Proxy>, open: &Rc<Cell<usize>>) -> Self {
        open.set(open.get() + 1);
        proxy.worker.connection_opened();
        Self {
            proxy: Rc::clone(proxy),
            open: Rc::clone(open),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.set(self.open.get() - 1);
        self.proxy.worker.connection_closed();
    }
}
