pub mod clock;
pub mod cookie;
pub mod identity;
pub mod route;
pub mod secret;
pub mod session;
pub mod store;
