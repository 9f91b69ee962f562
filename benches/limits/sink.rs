//! A distant relay: accepts every mail, and answers each batch of commands after a delay.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Serves on 127.0.0.1 without end; `delay` is in milliseconds for each batch of replies.
pub async fn serve(port: u16, delay: u64) -> anyhow::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let mut sessions = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        sessions.spawn(session(stream, Duration::from_millis(delay)));
        while sessions.try_join_next().is_some() {}
    }
}

async fn session(mut stream: TcpStream, delay: Duration) -> std::io::Result<()> {
    stream.write_all(b"220 sink.example.com ESMTP\r\n").await?;
    let (mut input, mut in_text) = (Vec::new(), false);
    loop {
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
        let (mut replies, mut at) = (Vec::new(), 0);
        while let Some(end) = input[at..].windows(2).position(|two| two == b"\r\n") {
            let line = &input[at..at + end];
            at += end + 2;
            if in_text {
                if line == b"." {
                    in_text = false;
                    replies.extend_from_slice(b"250 2.0.0 taken\r\n");
                }
                continue;
            }
            replies.extend_from_slice(match line.get(..4) {
                Some(b"EHLO") => b"250-sink.example.com\r\n250 PIPELINING\r\n",
                Some(b"DATA") => b"354 go on\r\n",
                Some(b"QUIT") => b"221 bye\r\n",
                _ => b"250 2.1.0 fine\r\n",
            });
            in_text = line == b"DATA";
        }
        input.drain(..at);
        if !replies.is_empty() {
            tokio::time::sleep(delay).await;
            stream.write_all(&replies).await?;
        }
    }
}
