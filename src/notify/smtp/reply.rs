//! Reads the replies of a server within limits.

use tokio::io::{self, AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _};

/// Four times what RFC 5321 §4.5.3.1.5 allows.
const MAX_REPLY_LINE_OCTETS: u64 = 2_048;
const MAX_REPLY_LINES: usize = 100;

/// A server's reply (RFC 5321 §4.2), read line by line within limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub code: u16,
    pub lines: Vec<String>,
}

impl Reply {
    /// Fails with [`io::ErrorKind::UnexpectedEof`] if the connection ends before the reply.
    pub async fn read(wire: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Self> {
        let mut reply = Self {
            code: 0,
            lines: Vec::with_capacity(1),
        };
        let mut line = Vec::with_capacity(80);
        while reply.lines.len() < MAX_REPLY_LINES {
            line.clear();
            (&mut *wire)
                .take(MAX_REPLY_LINE_OCTETS)
                .read_until(b'\n', &mut line)
                .await?;
            if line.is_empty() {
                let text = "the server closed the connection";
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
            }
            let parsed = match ReplyLine::parse(&line) {
                Some(parsed) if reply.lines.is_empty() || parsed.code == reply.code => parsed,
                _ => return Err(not_smtp(&line)),
            };
            reply.code = parsed.code;
            reply.lines.push(parsed.text);
            if parsed.is_last {
                return Ok(reply);
            }
        }
        let text = "the server's reply does not end";
        Err(io::Error::new(io::ErrorKind::InvalidData, text))
    }

    pub fn is_positive(&self) -> bool {
        matches!(self.code, 200..=299)
    }

    /// All lines as one; a status code that every line repeats is kept once.
    pub fn text(&self) -> String {
        let (status, _) = self.lines[0].split_once(' ').unwrap_or_default();
        let is_status = status.split('.').count() == 3;
        let mut text = self.lines[0].clone();
        for line in &self.lines[1..] {
            text.push(' ');
            text.push_str(match line.strip_prefix(status) {
                Some(rest) if is_status => rest.trim_start(),
                _ => line,
            });
        }
        text
    }
}

struct ReplyLine {
    code: u16,
    is_last: bool,
    text: String,
}

impl ReplyLine {
    fn parse(line: &[u8]) -> Option<Self> {
        let line = line.strip_suffix(b"\n")?;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let (code, rest) = line.split_at_checked(3)?;
        let code: u16 = std::str::from_utf8(code).ok()?.parse().ok()?;
        let (is_last, text) = match rest {
            [] => (true, rest),
            [b' ', text @ ..] => (true, text),
            [b'-', text @ ..] => (false, text),
            _ => return None,
        };
        let text = String::from_utf8_lossy(text).trim().to_owned();
        (200..=599).contains(&code).then_some(Self {
            code,
            is_last,
            text,
        })
    }
}

fn not_smtp(line: &[u8]) -> io::Error {
    let shown: String = String::from_utf8_lossy(line).chars().take(60).collect();
    let text = format!("the server's reply is not SMTP: {shown:?}");
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[tokio::test]
    async fn the_lines_of_a_reply_are_joined() {
        let mut wire: &[u8] =
            b"550-5.1.1 no such\r\n550-5.1.1 user\n550 5.1.1 here\r\n250 next\r\n";
        let reply = Reply::read(&mut wire).await.unwrap();
        assert_eq!(reply.code, 550);
        assert_eq!(reply.text(), "5.1.1 no such user here");
        assert_eq!(Reply::read(&mut wire).await.unwrap().text(), "next");
    }

    #[rstest]
    #[case(b"250\r\n", 250, "")]
    #[case(b"250 \r\n", 250, "")]
    #[case(b"250 \xff\r\n", 250, "\u{fffd}")]
    #[tokio::test]
    async fn a_reply_can_have_little_text(
        #[case] mut wire: &[u8],
        #[case] code: u16,
        #[case] text: &str,
    ) {
        let reply = Reply::read(&mut wire).await.unwrap();
        assert_eq!((reply.code, reply.text().as_str()), (code, text));
    }

    #[rstest]
    #[case(b"")]
    #[case(b"25")]
    #[case(b"250 no end")]
    #[case(b"hello\r\n")]
    #[case(b"999 x\r\n")]
    #[case(b"250-a\r\n251 b\r\n")]
    #[case(b"\xe2\x82\xac 1\r\n")]
    #[tokio::test]
    async fn a_malformed_reply_is_an_error(#[case] mut wire: &[u8]) {
        assert!(Reply::read(&mut wire).await.is_err());
    }

    #[tokio::test]
    async fn an_endless_reply_is_an_error() {
        let lines = "250-x\r\n".repeat(10_000);
        assert!(Reply::read(&mut lines.as_bytes()).await.is_err());
        let line = "250 ".to_owned() + &"x".repeat(10_000_000);
        assert!(Reply::read(&mut line.as_bytes()).await.is_err());
    }
}
