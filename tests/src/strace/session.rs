//! Finds in the trace of a Star what it sent to the coordinator, and when: parses the bytes that it wrote to the
//! session, first as HTTP/2 frames, then as gRPC messages.

use std::collections::BTreeMap;

use orbit_proto::v1;
use orbit_proto::v1::connect_request::Message;
use prost::Message as _;

use super::Call;

/// The first bytes of an HTTP/2 client.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEADER_BYTES: usize = 9;
const DATA: u8 = 0;
/// Length of gRPC's header of a message: a flag and the length.
const MESSAGE_HEADER_BYTES: usize = 5;

/// Every report that was sent to the coordinator at `address`, with the line at which its last byte began to be written.
pub fn reports_sent(calls: &[Call], address: &str) -> Vec<(usize, v1::SessionReport)> {
    let mut connections: BTreeMap<&str, Connection> = BTreeMap::new();
    let mut found = Vec::new();
    let end = format!("->{address}]");
    for call in calls {
        let Some((descriptor, _)) = call.arguments.split_once(">,") else { continue };
        let is_written = matches!(call.name.as_str(), "write" | "writev" | "sendto" | "sendmsg");
        let (true, true, Some(length)) = (is_written, descriptor.ends_with(&end), call.result) else {
            continue;
        };
        let mut bytes = call.strings().concat();
        bytes.truncate(usize::try_from(length).expect("a length"));
        let connection = connections.entry(descriptor).or_default();
        for message in connection.take(&bytes) {
            if let Some(Message::Report(report)) = message.message {
                found.push((call.begun, report));
            }
        }
    }
    found
}

/// Bytes of one connection that were not parsed yet.
#[derive(Default)]
struct Connection {
    has_begun: bool,
    bytes: Vec<u8>,
    streams: BTreeMap<[u8; 4], Vec<u8>>,
}

impl Connection {
    fn take(&mut self, bytes: &[u8]) -> Vec<v1::ConnectRequest> {
        self.bytes.extend_from_slice(bytes);
        let mut found = Vec::new();
        if !self.has_begun {
            if self.bytes.len() < PREFACE.len() {
                return found;
            }
            assert!(self.bytes.starts_with(PREFACE), "a Star speaks HTTP/2 to its coordinator");
            self.bytes.drain(..PREFACE.len());
            self.has_begun = true;
        }
        while let Some(length) = self.bytes.get(..3) {
            let length = u32::from_be_bytes([0, length[0], length[1], length[2]]) as usize;
            if self.bytes.len() < FRAME_HEADER_BYTES + length {
                break;
            }
            let frame: Vec<u8> = self.bytes.drain(..FRAME_HEADER_BYTES + length).collect();
            if frame[3] == DATA {
                let number = [frame[5], frame[6], frame[7], frame[8]];
                let stream = self.streams.entry(number).or_default();
                stream.extend_from_slice(&frame[FRAME_HEADER_BYTES..]);
                take_messages(stream, &mut found);
            }
        }
        found
    }
}

fn take_messages(stream: &mut Vec<u8>, found: &mut Vec<v1::ConnectRequest>) {
    while let Some(header) = stream.get(..MESSAGE_HEADER_BYTES) {
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
        let end = MESSAGE_HEADER_BYTES + length;
        if stream.len() < end {
            return;
        }
        let message = v1::ConnectRequest::decode(&stream[MESSAGE_HEADER_BYTES..end]);
        found.push(message.expect("a Star sends what its protocol has"));
        stream.drain(..end);
    }
}
