pub mod clock;
pub mod cookie;
pub mod identity;
pub mod secret;
pub mod session;
pub mod store;
