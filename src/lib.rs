pub mod clock;
pub mod identity;
pub mod secret;
pub mod session;
