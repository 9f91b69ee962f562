//! What systemd, or another manager that speaks its protocol, is told: `sd_notify(3)`.
//!
//! The words come from the `sd-notify` crate. The socket is our own: that crate knows neither
//! abstract sockets, which systemd uses for containers, nor any address but that of the
//! environment.

use std::{
    ffi::OsStr,
    fmt::Write,
    io,
    os::unix::{
        ffi::OsStrExt,
        net::{SocketAddr, UnixDatagram},
    },
    sync::Arc,
    time::Duration,
};

use sd_notify::NotifyState;

use super::Error;

/// How long a full socket may hold us up. A message that does not get through in that time is lost.
const SENT_WITHIN: Duration = Duration::from_secs(1);

/// The service manager, if one started us. Clones speak through the same socket.
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
    /// The one that the environment names (`NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`);
    /// without one, nobody is told anything.
    ///
    /// # Errors
    /// When the environment names an address that is none.
    pub fn from_env() -> Result<Self, Error> {
        match std::env::var_os("NOTIFY_SOCKET") {
            Some(address) => Self::at(&address, sd_notify::watchdog_enabled()),
            None => Ok(Self::default()),
        }
    }

    /// The one that listens at `address`, a path or `@` and an abstract name, and kills us when it
    /// hears nothing for as long as `watchdog`.
    ///
    /// # Errors
    /// When that is no address of a Unix socket.
    pub fn at(address: &OsStr, watchdog: Option<Duration>) -> Result<Self, Error> {
        let socket = Socket::to(address).map_err(|source| Error::NotifySocket {
            address: address.to_string_lossy().into_owned(),
            source,
        })?;
        Ok(Self {
            socket: Some(Arc::new(socket)),
            watchdog: watchdog.filter(|within| !within.is_zero()),
        })
    }

    /// How long it waits for a sign of life before it kills us.
    #[must_use]
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// One line about what the daemon does, as `systemctl status` shows it.
    pub fn status(&self, status: &str) {
        self.tell(&[NotifyState::Status(&single_line(status))]);
    }

    pub(super) fn ready(&self, status: &str) {
        let status = single_line(status);
        self.tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
    }

    /// `Type=notify-reload` wants to know when the reload began, by the clock that cannot jump.
    pub(super) fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[NotifyState::Reloading, now]),
            Err(_) => self.tell(&[NotifyState::Reloading]),
        }
    }

    pub(super) fn stopping(&self) {
        self.tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
    }

    pub(super) fn alive(&self) {
        self.tell(&[NotifyState::Watchdog]);
    }

    /// A manager that does not listen is no reason to end: it is told again soon enough.
    fn tell(&self, states: &[NotifyState<'_>]) {
        let Some(socket) = &self.socket else { return };
        let mut message = String::new();
        for state in states {
            // Writing into a string cannot fail.
            let _ = writeln!(message, "{state}");
        }
        if let Err(error) = socket.send(&message) {
            tracing::warn!(%error, "cannot tell the service manager {}", message.trim_end());
        }
    }
}

impl Socket {
    fn to(address: &OsStr) -> io::Result<Self> {
        let manager = match address.as_bytes() {
            [b'@', name @ ..] => abstract_address(name)?,
            [b'/', ..] => SocketAddr::from_pathname(address)?,
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(SENT_WITHIN))?;
        Ok(Self { socket, manager })
    }

    fn send(&self, message: &str) -> io::Result<()> {
        // A datagram goes whole or not at all.
        self.socket
            .send_to_addr(message.as_bytes(), &self.manager)
            .map(|_| ())
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

/// A line break would end the status and start another assignment.
fn single_line(status: &str) -> String {
    status.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn heard(listener: &UnixDatagram) -> String {
        let mut buffer = [0; 4096];
        let length = listener.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    fn listening(address: &SocketAddr) -> UnixDatagram {
        let listener = UnixDatagram::bind_addr(address).unwrap();
        listener
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        listener
    }

    #[test]
    fn a_manager_at_a_path_hears_every_word() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let listener = listening(&SocketAddr::from_pathname(&path).unwrap());
        let manager = ServiceManager::at(path.as_os_str(), None).unwrap();
        manager.ready("watching 3 tokens");
        assert_eq!(heard(&listener), "READY=1\nSTATUS=watching 3 tokens\n");
        manager.status("one\nREADY=1");
        assert_eq!(heard(&listener), "STATUS=one READY=1\n");
        manager.reloading();
        let reloading = heard(&listener);
        let usec = reloading
            .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
            .unwrap();
        assert!(usec.trim_end().parse::<u64>().unwrap() > 0);
        manager.alive();
        assert_eq!(heard(&listener), "WATCHDOG=1\n");
        manager.stopping();
        assert_eq!(heard(&listener), "STOPPING=1\nSTATUS=stopping\n");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_manager_at_an_abstract_name_hears_us() {
        use std::os::linux::net::SocketAddrExt;
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("lapsed-test-{}-{number}", std::process::id());
        let listener = listening(&SocketAddr::from_abstract_name(&name).unwrap());
        let address = format!("@{name}");
        ServiceManager::at(OsStr::new(&address), None)
            .unwrap()
            .alive();
        assert_eq!(heard(&listener), "WATCHDOG=1\n");
    }

    #[test]
    fn a_manager_that_is_gone_does_not_stop_the_daemon() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nobody");
        ServiceManager::at(path.as_os_str(), None).unwrap().alive();
    }

    #[test]
    fn an_address_that_is_none_is_refused_with_its_name() {
        for address in ["", "notify", "vsock:2:1234"] {
            let error = ServiceManager::at(OsStr::new(address), None).unwrap_err();
            assert!(
                error
                    .to_string()
                    .contains(&format!("NOTIFY_SOCKET={address}"))
            );
        }
    }
}
