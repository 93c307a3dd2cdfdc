//! What arrives over a connection: a greeting, then frames with messages in them. Whatever the
//! bytes are, reading ends, keeps no more than a frame, and what was read can be written and read.
#![no_main]

use entracte_host::wire::frame::{self, FRAME_BYTES_MAX};
use entracte_host::wire::{Ask, Frame, Greeting, Tell};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = Greeting::read(&mut &bytes[..]);
    let mut from = bytes;
    while let Ok(Some(read)) = frame::read(&mut from) {
        let (Frame::Message(content) | Frame::Data(content)) = &read;
        assert!(content.len() <= FRAME_BYTES_MAX);
        if let Ok(ask) = frame::message::<Ask>(&read) {
            assert_eq!(again(&ask), ask);
        }
        if let Ok(tell) = frame::message::<Tell>(&read) {
            // Its numbers may have a fraction, whose last bit is not kept.
            again(&tell);
        }
    }
});

fn again<T: serde::Serialize + serde::de::DeserializeOwned>(message: &T) -> T {
    let mut bytes = Vec::new();
    frame::write(&mut bytes, message).expect("it was read from a frame");
    let frame = frame::read(&mut &bytes[..]).expect("it was just written").expect("a frame");
    frame::message(&frame).expect("it was just written")
}
