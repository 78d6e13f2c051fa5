//! `portcullis demo`: the whole promise in one process, to be tried with two browsers.

pub mod app;
mod websocket;
