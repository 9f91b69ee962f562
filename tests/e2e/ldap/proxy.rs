//! A TCP proxy that counts connections and can cut them.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// Its threads end with the connections.
pub struct CuttableProxy {
    /// On 127.0.0.1.
    pub port: u16,
    connections: Arc<Mutex<Vec<[TcpStream; 2]>>>,
}

impl CuttableProxy {
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Self {
            port: listener.local_addr().unwrap().port(),
            connections: Arc::default(),
        };
        let connections = Arc::clone(&proxy.connections);
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(("127.0.0.1", port)) else {
                    return;
                };
                let copy = |stream: &TcpStream| stream.try_clone().unwrap();
                connections.lock().unwrap().push([copy(&near), copy(&far)]);
                let (near_end, far_end) = (copy(&near), copy(&far));
                thread::spawn(move || forward(near_end, far_end));
                thread::spawn(move || forward(far, near));
            }
        });
        proxy
    }

    /// The number of connections so far.
    pub fn count(&self) -> usize {
        self.connections.lock().unwrap().len()
    }

    /// Closes all connections.
    pub fn cut(&self) {
        for stream in self.connections.lock().unwrap().iter().flatten() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream) {
    let mut bytes = [0; 4096];
    let mut step = || -> io::Result<usize> {
        let count = from.read(&mut bytes)?;
        to.write_all(&bytes[..count])?;
        Ok(count)
    };
    while step().is_ok_and(|count| count > 0) {}
    let _ = to.shutdown(Shutdown::Both);
}
