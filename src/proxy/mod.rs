pub mod tunnel;
pub mod websocket;
