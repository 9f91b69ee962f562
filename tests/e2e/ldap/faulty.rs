//! A stand-in for an LDAP server that breaks: as much of RFC 4511 as a listing needs.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// What happens from a page on.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// The first page is sent again.
    Repeats,
    Cut,
    /// An empty message, on which the library panics.
    Empty,
    /// A result code instead of success.
    Code(u8),
}

#[derive(Debug, Clone, Copy)]
struct Script {
    people: usize,
    bind_code: u8,
    fault: Option<(usize, Fault)>,
    binds: usize,
}

/// Its threads end with the connections.
pub struct FaultyLdap {
    /// On 127.0.0.1.
    pub port: u16,
    script: Arc<Mutex<Script>>,
}

impl FaultyLdap {
    pub const PAGE_SIZE: usize = 20;

    pub fn start(people: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let script = Script {
            people,
            bind_code: 0,
            fault: None,
            binds: 0,
        };
        let script = Arc::new(Mutex::new(script));
        let shared = Arc::clone(&script);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let script = Arc::clone(&shared);
                thread::spawn(move || serve(stream, &script));
            }
        });
        Self { port, script }
    }

    /// The `nth` page and those after it go wrong, or no page does.
    pub fn break_page(&self, nth: usize, fault: Option<Fault>) {
        self.script.lock().unwrap().fault = fault.map(|fault| (nth, fault));
    }

    pub fn answer_binds(&self, code: u8) {
        self.script.lock().unwrap().bind_code = code;
    }

    pub fn count_binds(&self) -> usize {
        self.script.lock().unwrap().binds
    }
}

const BIND: u8 = 0x60;
const SEARCH: u8 = 0x63;

fn serve(mut stream: TcpStream, script: &Mutex<Script>) {
    let mut page = 0;
    while let Some(message) = read_value(&mut stream) {
        let mut message = &message[..];
        let id = read_value(&mut message).unwrap();
        let operation = message[0];
        let request = read_value(&mut message).unwrap();
        let base = read_value(&mut &request[..]).unwrap_or_default();
        let mut now = script.lock().unwrap();
        now.binds += usize::from(operation == BIND);
        let now = *now;
        let answers = match operation {
            BIND => vec![result(0x61, now.bind_code, "")],
            SEARCH if base.is_empty() => vec![
                entry("", &[("objectClass", "OpenLDAProotDSE")]),
                result(0x65, 0, ""),
            ],
            SEARCH => {
                page += 1;
                match now.fault.filter(|(nth, _)| page >= *nth) {
                    Some((_, Fault::Cut)) => return,
                    Some((_, Fault::Empty)) => {
                        let _ = stream.write_all(&[0x30, 0]);
                        return;
                    }
                    Some((_, Fault::Code(code))) => vec![result(0x65, code, "")],
                    Some((_, Fault::Repeats)) => people_page(1, now.people),
                    None => people_page(page, now.people),
                }
            }
            _ => return,
        };
        for answer in answers {
            let message = value(0x30, &[value(2, std::slice::from_ref(&id)), answer]);
            if stream.write_all(&message).is_err() {
                return;
            }
        }
    }
}

fn people_page(page: usize, people: usize) -> Vec<Vec<u8>> {
    let (size, end) = (FaultyLdap::PAGE_SIZE, page * FaultyLdap::PAGE_SIZE);
    let person = |number: usize| {
        let (dn, mail) = (
            format!("uid=user{number}"),
            format!("user{number}@example.org"),
        );
        let id = format!("id-{number}");
        entry(&dn, &[("entryUUID", &id), ("mail", &mail), ("cn", "Ada")])
    };
    let entries = (end - size + 1..=end.min(people)).map(person);
    let cookie = if end < people { "next" } else { "" };
    entries.chain([result(0x65, 0, cookie)]).collect()
}

/// A result, and the control that continues a listing (RFC 2696).
fn result(operation: u8, code: u8, cookie: &str) -> Vec<u8> {
    let result = [value(10, &[vec![code]]), text(""), text("")].concat();
    let more = value(0x30, &[value(2, &[vec![0]]), text(cookie)]);
    let control = [text("1.2.840.113556.1.4.319"), value(4, &[more])];
    let controls = value(0xa0, &[value(0x30, &control)]);
    [value(operation, &[result]), controls].concat()
}

fn entry(dn: &str, attributes: &[(&str, &str)]) -> Vec<u8> {
    let attribute =
        |(name, content): &(&str, &str)| value(0x30, &[text(name), value(0x31, &[text(content)])]);
    let attributes: Vec<_> = attributes.iter().map(attribute).collect();
    value(0x64, &[text(dn), value(0x30, &attributes)])
}

fn text(text: &str) -> Vec<u8> {
    value(4, &[text.as_bytes().to_vec()])
}

/// In the basic encoding rules (X.690), with two bytes of length.
fn value(tag: u8, parts: &[Vec<u8>]) -> Vec<u8> {
    let content = parts.concat();
    let [high, low] = u16::try_from(content.len()).unwrap().to_be_bytes();
    [vec![tag, 0x82, high, low], content].concat()
}

/// The content of the next value.
fn read_value(from: &mut impl Read) -> Option<Vec<u8>> {
    let mut head = [0; 2];
    from.read_exact(&mut head).ok()?;
    let mut length = usize::from(head[1]);
    if length > 0x80 {
        let mut bytes = vec![0; length - 0x80];
        from.read_exact(&mut bytes).ok()?;
        length = bytes
            .iter()
            .fold(0, |length, byte| length << 8 | usize::from(*byte));
    }
    let mut content = vec![0; length];
    from.read_exact(&mut content).ok()?;
    Some(content)
}
