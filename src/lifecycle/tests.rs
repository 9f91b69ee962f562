use std::convert::Infallible;
use std::os::unix::net::UnixDatagram as StdDatagram;
use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;
use tokio::net::UnixDatagram;
use tokio::sync::oneshot;

use super::*;

/// Longer than any of these tests should take.
const LONG_TIMEOUT: Duration = Duration::from_secs(20);

struct Manager {
    socket: UnixDatagram,
    folder: TempDir,
}

impl Manager {
    fn listen() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = StdDatagram::bind(folder.path().join("notify")).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self {
            socket: UnixDatagram::from_std(socket).unwrap(),
            folder,
        }
    }

    fn connect(&self, watchdog: Option<Duration>) -> ServiceManager {
        let path = self.folder.path().join("notify");
        ServiceManager::connect(path.as_os_str(), watchdog).unwrap()
    }

    async fn receive(&self) -> String {
        let mut buffer = [0; 4096];
        let length = time::timeout(LONG_TIMEOUT, self.socket.recv(&mut buffer));
        let length = length.await.expect("no notification").unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }
}

fn lifecycle() -> Lifecycle {
    Lifecycle::new(ServiceManager::default(), LONG_TIMEOUT)
}

async fn until_stopped(stopping: CancellationToken) -> Result<(), Infallible> {
    stopping.cancelled().await;
    Ok(())
}

async fn run_forever() -> Result<(), Infallible> {
    pending().await
}

async fn no_reload() -> Result<(), Fault> {
    Ok(())
}

/// Signals sent by hand; the sender must be kept.
fn signals() -> (mpsc::Sender<Signal>, Signals) {
    let (sender, signals) = mpsc::channel(8);
    (sender, Signals(signals))
}

#[tokio::test]
async fn the_manager_is_notified_of_start_reload_and_stop() {
    let manager = Manager::listen();
    let lifecycle = Lifecycle::new(manager.connect(None), LONG_TIMEOUT);
    lifecycle
        .tasks()
        .spawn("sweep", until_stopped(lifecycle.stopping()));
    lifecycle.notify_ready("watching 2 tokens");
    let (signal, signals) = signals();
    let run = tokio::spawn(lifecycle.run(signals, no_reload));
    assert_eq!(
        manager.receive().await,
        "READY=1\nSTATUS=watching 2 tokens\n"
    );
    signal.send(Signal::Reload).await.unwrap();
    assert!(
        manager
            .receive()
            .await
            .starts_with("RELOADING=1\nMONOTONIC_USEC=")
    );
    assert_eq!(manager.receive().await, "READY=1\nSTATUS=reloaded\n");
    signal.send(Signal::Stop).await.unwrap();
    assert_eq!(manager.receive().await, "STOPPING=1\nSTATUS=stopping\n");
    run.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_failed_reload_leaves_the_daemon_running() {
    let manager = Manager::listen();
    let lifecycle = Lifecycle::new(manager.connect(None), LONG_TIMEOUT);
    let (signal, signals) = signals();
    let tries = AtomicUsize::new(0);
    let reload = || async {
        match tries.fetch_add(1, Ordering::SeqCst) {
            0 => Err("template digest: line 3".into()),
            _ => Ok(()),
        }
    };
    let drive = async {
        signal.send(Signal::Reload).await.unwrap();
        assert!(manager.receive().await.starts_with("RELOADING=1\n"));
        let after = manager.receive().await;
        assert!(
            after.starts_with("READY=1\nSTATUS=the last reload failed"),
            "{after}"
        );
        signal.send(Signal::Reload).await.unwrap();
        assert!(manager.receive().await.starts_with("RELOADING=1\n"));
        assert_eq!(manager.receive().await, "READY=1\nSTATUS=reloaded\n");
        signal.send(Signal::Stop).await.unwrap();
    };
    let (ended, ()) = tokio::join!(lifecycle.run(signals, reload), drive);
    ended.unwrap();
}

#[tokio::test]
async fn work_in_progress_is_finished_before_the_stop() {
    let lifecycle = lifecycle();
    let (finish, finished) = oneshot::channel::<()>();
    let stopping = lifecycle.stopping();
    let done = std::sync::Arc::new(AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&done);
    lifecycle.tasks().spawn("deliver", async move {
        stopping.cancelled().await;
        finished.await?;
        count.fetch_add(1, Ordering::SeqCst);
        Ok::<_, oneshot::error::RecvError>(())
    });
    let stopping = lifecycle.stopping();
    let (signal, signals) = signals();
    let run = tokio::spawn(lifecycle.run(signals, no_reload));
    signal.send(Signal::Stop).await.unwrap();
    stopping.cancelled().await;
    assert!(!run.is_finished());
    finish.send(()).unwrap();
    run.await.unwrap().unwrap();
    assert_eq!(done.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_second_signal_forces_the_stop_and_names_running_tasks() {
    let lifecycle = lifecycle();
    lifecycle.tasks().spawn("deliver", run_forever());
    lifecycle
        .tasks()
        .spawn("http", until_stopped(lifecycle.stopping()));
    let (signal, signals) = signals();
    signal.send(Signal::Stop).await.unwrap();
    signal.send(Signal::Reload).await.unwrap();
    signal.send(Signal::Stop).await.unwrap();
    let error = lifecycle.run(signals, no_reload).await.unwrap_err();
    assert!(
        matches!(&error, Error::Forced { running } if running.contains("deliver")),
        "{error}"
    );
}

#[tokio::test]
async fn a_stop_that_takes_too_long_is_forced() {
    let lifecycle = Lifecycle::new(ServiceManager::default(), Duration::from_millis(20));
    lifecycle.tasks().spawn("deliver", run_forever());
    lifecycle
        .tasks()
        .spawn("http", until_stopped(lifecycle.stopping()));
    let (signal, signals) = signals();
    signal.send(Signal::Stop).await.unwrap();
    let error = lifecycle.run(signals, no_reload).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "forced to stop after 20ms: deliver had not ended"
    );
}

#[tokio::test]
async fn a_panicking_task_stops_the_daemon_in_order_and_is_named() {
    let lifecycle = lifecycle();
    let (stopped, was_stopped) = oneshot::channel();
    let stopping = lifecycle.stopping();
    lifecycle.tasks().spawn(
        "http",
        async move {
            stopping.cancelled().await;
            stopped.send(())
        }
        .map(|sent| sent.map_err(|()| "no receiver")),
    );
    lifecycle.tasks().spawn("sweep", async {
        assert!(std::process::id() == 0, "the ledger is lost");
        Ok::<_, Infallible>(())
    });
    let (_signal, signals) = signals();
    let error = lifecycle.run(signals, no_reload).await.unwrap_err();
    assert_eq!(error.to_string(), "sweep panicked: the ledger is lost");
    was_stopped.await.expect("the others are stopped in order");
}

#[tokio::test]
async fn a_task_that_fails_or_ends_early_stops_the_daemon() {
    let failing = lifecycle();
    failing
        .tasks()
        .spawn("ticker", async { Err::<(), _>("no tick") });
    let (_signal, quiet) = signals();
    let error = failing.run(quiet, no_reload).await.unwrap_err();
    assert_eq!(error.to_string(), "ticker failed");
    assert_eq!(error.source().unwrap().to_string(), "no tick");

    let ending = lifecycle();
    ending
        .tasks()
        .spawn("ticker", async { Ok::<_, Infallible>(()) });
    let (_signal, quiet) = signals();
    let error = ending.run(quiet, no_reload).await.unwrap_err();
    assert_eq!(error.to_string(), "ticker ended unexpectedly");
}

#[tokio::test]
async fn a_failure_while_stopping_is_returned() {
    let lifecycle = lifecycle();
    let stopping = lifecycle.stopping();
    lifecycle.tasks().spawn("deliver", async move {
        stopping.cancelled().await;
        Err::<(), _>("cannot release the lease")
    });
    let (signal, signals) = signals();
    signal.send(Signal::Stop).await.unwrap();
    let error = lifecycle.run(signals, no_reload).await.unwrap_err();
    assert_eq!(error.to_string(), "deliver failed");
}

#[tokio::test]
async fn the_watchdog_is_answered_while_the_heartbeat_continues() {
    let manager = Manager::listen();
    let watchdog = Duration::from_millis(20);
    let lifecycle = Lifecycle::new(manager.connect(Some(watchdog)), LONG_TIMEOUT);
    lifecycle.spawn_watchdog(vec![Heartbeat::new("the sweep", LONG_TIMEOUT)]);
    for _ in 0..3 {
        assert_eq!(manager.receive().await, "WATCHDOG=1\n");
    }
}

#[tokio::test]
async fn the_watchdog_is_not_answered_after_the_heartbeat_stops() {
    let manager = Manager::listen();
    let connected = manager.connect(Some(Duration::from_millis(20)));
    let lifecycle = Lifecycle::new(connected.clone(), LONG_TIMEOUT);
    let heartbeat = Heartbeat::new("the sweep", Duration::from_millis(40));
    lifecycle.spawn_watchdog(vec![heartbeat.clone()]);
    assert_eq!(manager.receive().await, "WATCHDOG=1\n");
    let timed_out = async {
        while !heartbeat.has_timed_out(Instant::now()) {
            tokio::task::yield_now().await;
        }
    };
    time::timeout(LONG_TIMEOUT, timed_out).await.unwrap();
    // Skip what was sent before the time-out, up to a marker.
    connected.notify_status("marker");
    while manager.receive().await == "WATCHDOG=1\n" {}
    let more = time::timeout(Duration::from_millis(100), manager.receive()).await;
    assert!(more.is_err(), "{more:?}");
    heartbeat.beat();
    assert_eq!(manager.receive().await, "WATCHDOG=1\n");
}

#[tokio::test]
async fn the_watchdog_sees_one_kind_of_work_hang_beside_another() {
    let manager = Manager::listen();
    let connected = manager.connect(Some(Duration::from_millis(20)));
    let lifecycle = Lifecycle::new(connected.clone(), LONG_TIMEOUT);
    let sweeping = Heartbeat::new("the sweep", LONG_TIMEOUT);
    let delivering = Heartbeat::new("the delivery", Duration::ZERO);
    delivering.rest();
    lifecycle.spawn_watchdog(vec![sweeping.clone(), delivering.clone()]);
    for _ in 0..3 {
        assert_eq!(manager.receive().await, "WATCHDOG=1\n");
    }
    delivering.beat();
    sweeping.beat();
    // Skip what was sent before the time-out, up to a marker.
    connected.notify_status("marker");
    while manager.receive().await == "WATCHDOG=1\n" {}
    let more = time::timeout(Duration::from_millis(100), manager.receive()).await;
    assert!(more.is_err(), "{more:?}");
    delivering.rest();
    assert_eq!(manager.receive().await, "WATCHDOG=1\n");
}

#[tokio::test]
async fn a_slow_stop_does_not_trigger_the_watchdog() {
    let manager = Manager::listen();
    let connected = manager.connect(Some(Duration::from_millis(20)));
    let lifecycle = Lifecycle::new(connected, LONG_TIMEOUT);
    lifecycle.spawn_watchdog(vec![Heartbeat::new("the sweep", Duration::ZERO)]);
    lifecycle.tasks().spawn("deliver", run_forever());
    let (signal, signals) = signals();
    signal.send(Signal::Stop).await.unwrap();
    let run = tokio::spawn(lifecycle.run(signals, no_reload));
    while manager.receive().await != "STOPPING=1\nSTATUS=stopping\n" {}
    for _ in 0..3 {
        assert_eq!(manager.receive().await, "WATCHDOG=1\n");
    }
    signal.send(Signal::Stop).await.unwrap();
    assert!(matches!(run.await.unwrap(), Err(Error::Forced { .. })));
}

#[tokio::test]
async fn without_a_watchdog_no_task_is_spawned() {
    let lifecycle = lifecycle();
    lifecycle.spawn_watchdog(vec![Heartbeat::new("the sweep", LONG_TIMEOUT)]);
    assert_eq!(lifecycle.tasks().running(), "");
}

#[tokio::test]
async fn term_and_int_stop_and_hup_reloads() {
    let mut signals = Signals::listen().unwrap();
    let pid = std::process::id().to_string();
    for (name, request) in [
        ("-HUP", Signal::Reload),
        ("-TERM", Signal::Stop),
        ("-INT", Signal::Stop),
    ] {
        let sent = std::process::Command::new("kill")
            .args([name, &pid])
            .status()
            .unwrap();
        assert!(sent.success());
        assert_eq!(signals.next().await, request, "{name}");
    }
}
