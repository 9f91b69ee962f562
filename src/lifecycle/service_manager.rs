//! Notifications to systemd or a compatible manager: `sd_notify(3)`.
//!
//! The messages come from the `sd-notify` crate. The socket is our own: that crate supports neither
//! abstract sockets, which systemd uses for containers, nor any address but that of the environment.

use std::ffi::OsStr;
use std::fmt::Write;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;

use crate::text;

/// How long a full socket may block us; after that the message is lost.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// `NOTIFY_SOCKET` is not a valid address.
#[derive(Debug, thiserror::Error)]
#[error("cannot reach the service manager at NOTIFY_SOCKET={address}")]
pub struct Error {
    address: String,
    source: io::Error,
}

/// The service manager, if one started us. Clones share the socket.
#[derive(Debug, Clone, Default)]
pub struct ServiceManager {
    socket: Option<Arc<Socket>>,
    watchdog: Option<Duration>,
}

#[derive(Debug)]
struct Socket {
    socket: UnixDatagram,
    manager: SocketAddr,
}

impl ServiceManager {
    /// The manager named by the environment (`NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`). Without
    /// one, notifications are dropped.
    pub fn from_env() -> Result<Self, Error> {
        match std::env::var_os("NOTIFY_SOCKET") {
            Some(address) => Self::connect(&address, sd_notify::watchdog_enabled()),
            None => Ok(Self::default()),
        }
    }

    /// The manager that listens at `address`, a path or `@` and an abstract name. It kills us after
    /// `watchdog` without a notification.
    pub fn connect(address: &OsStr, watchdog: Option<Duration>) -> Result<Self, Error> {
        let socket = Socket::new(address).map_err(|source| Error {
            address: address.to_string_lossy().into_owned(),
            source,
        })?;
        Ok(Self {
            socket: Some(Arc::new(socket)),
            watchdog: watchdog.filter(|timeout| !timeout.is_zero()),
        })
    }

    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// One line about the daemon, as shown by `systemctl status`.
    pub fn notify_status(&self, status: &str) {
        self.notify(&[NotifyState::Status(&text::clean(status))]);
    }

    pub(super) fn notify_ready(&self, status: &str) {
        // A line break would start another assignment.
        let status = text::clean(status);
        self.notify(&[NotifyState::Ready, NotifyState::Status(&status)]);
    }

    /// `Type=notify-reload` requires the monotonic time at which the reload began.
    pub(super) fn notify_reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.notify(&[NotifyState::Reloading, now]),
            Err(_) => self.notify(&[NotifyState::Reloading]),
        }
    }

    pub(super) fn notify_stopping(&self) {
        self.notify(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
    }

    pub(super) fn notify_alive(&self) {
        self.notify(&[NotifyState::Watchdog]);
    }

    /// A failure is only logged: the next notification follows soon.
    fn notify(&self, states: &[NotifyState<'_>]) {
        let Some(socket) = &self.socket else { return };
        let mut message = String::new();
        for state in states {
            // Writing into a string cannot fail.
            let _ = writeln!(message, "{state}");
        }
        if let Err(error) = socket.send(&message) {
            tracing::warn!(%error, "cannot notify the service manager: {}", message.trim_end());
        }
    }
}

impl Socket {
    fn new(address: &OsStr) -> io::Result<Self> {
        let manager = match address.as_bytes() {
            [b'@', name @ ..] => abstract_address(name)?,
            [b'/', ..] => SocketAddr::from_pathname(address)?,
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(SEND_TIMEOUT))?;
        Ok(Self { socket, manager })
    }

    fn send(&self, message: &str) -> io::Result<()> {
        // A datagram is sent completely or not at all.
        self.socket
            .send_to_addr(message.as_bytes(), &self.manager)
            .map(drop)
    }
}

#[cfg(target_os = "linux")]
fn abstract_address(name: &[u8]) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt;
    SocketAddr::from_abstract_name(name)
}

#[cfg(not(target_os = "linux"))]
fn abstract_address(_: &[u8]) -> io::Result<SocketAddr> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn receive(listener: &UnixDatagram) -> String {
        let mut buffer = [0; 4096];
        let length = listener.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    fn listen(address: &SocketAddr) -> UnixDatagram {
        let listener = UnixDatagram::bind_addr(address).unwrap();
        listener
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        listener
    }

    #[test]
    fn a_manager_at_a_path_is_notified() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let listener = listen(&SocketAddr::from_pathname(&path).unwrap());
        let manager = ServiceManager::connect(path.as_os_str(), None).unwrap();
        manager.notify_ready("watching 3 tokens");
        assert_eq!(receive(&listener), "READY=1\nSTATUS=watching 3 tokens\n");
        manager.notify_status("one\nREADY=1");
        assert_eq!(receive(&listener), "STATUS=one READY=1\n");
        manager.notify_reloading();
        let reloading = receive(&listener);
        let usec = reloading
            .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
            .unwrap();
        assert!(usec.trim_end().parse::<u64>().unwrap() > 0);
        manager.notify_alive();
        assert_eq!(receive(&listener), "WATCHDOG=1\n");
        manager.notify_stopping();
        assert_eq!(receive(&listener), "STOPPING=1\nSTATUS=stopping\n");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_manager_at_an_abstract_name_is_notified() {
        use std::os::linux::net::SocketAddrExt;
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("lapsed-test-{}-{number}", std::process::id());
        let listener = listen(&SocketAddr::from_abstract_name(&name).unwrap());
        let address = format!("@{name}");
        ServiceManager::connect(OsStr::new(&address), None)
            .unwrap()
            .notify_alive();
        assert_eq!(receive(&listener), "WATCHDOG=1\n");
    }

    #[test]
    fn a_missing_manager_does_not_stop_the_daemon() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing");
        ServiceManager::connect(path.as_os_str(), None)
            .unwrap()
            .notify_alive();
    }

    #[test]
    fn an_invalid_address_is_refused_and_named() {
        for address in ["", "notify", "vsock:2:1234"] {
            let error = ServiceManager::connect(OsStr::new(address), None).unwrap_err();
            assert!(
                error
                    .to_string()
                    .contains(&format!("NOTIFY_SOCKET={address}"))
            );
        }
    }
}
