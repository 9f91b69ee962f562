//! A server's reply (RFC 5321 §4.2): read line by line, within limits.

use tokio::io::{self, AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

/// The longest line, in octets: four times what RFC 5321 §4.5.3.1.5 allows.
const LONGEST_LINE: u64 = 2_048;
/// The most lines of one reply.
const MOST_LINES: usize = 100;

/// A whole reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub code: u16,
    /// The text of each line.
    pub lines: Vec<String>,
}

impl Reply {
    /// Reads one; a connection that ends before is [`io::ErrorKind::UnexpectedEof`].
    pub async fn read(wire: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Self> {
        let mut reply = Self {
            code: 0,
            lines: Vec::with_capacity(1),
        };
        let mut line = Vec::with_capacity(80);
        while reply.lines.len() < MOST_LINES {
            line.clear();
            (&mut *wire)
                .take(LONGEST_LINE)
                .read_until(b'\n', &mut line)
                .await?;
            if line.is_empty() {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the server closed the connection",
                ));
            }
            let Some((code, is_last, text)) = parse(&line) else {
                return Err(wrong(&line));
            };
            if !reply.lines.is_empty() && code != reply.code {
                return Err(wrong(&line));
            }
            reply.code = code;
            reply.lines.push(text);
            if is_last {
                return Ok(reply);
            }
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the server's reply does not end",
        ))
    }

    /// 2xx.
    pub fn is_positive(&self) -> bool {
        matches!(self.code, 200..=299)
    }

    /// All lines as one; a status code that each line repeats stands in it once.
    pub fn text(&self) -> String {
        let (status, _) = self.lines[0].split_once(' ').unwrap_or_default();
        let is_status = status.split('.').count() == 3;
        let rest = self.lines[1..]
            .iter()
            .map(|line| match line.strip_prefix(status) {
                Some(rest) if is_status => rest.trim_start(),
                _ => line,
            });
        std::iter::once(self.lines[0].as_str())
            .chain(rest)
            .collect::<Vec<_>>()
            .join(" ")
    }
}

fn parse(line: &[u8]) -> Option<(u16, bool, String)> {
    let line = line.strip_suffix(b"\n")?;
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let (code, rest) = line.split_at_checked(3)?;
    let code: u16 = std::str::from_utf8(code).ok()?.parse().ok()?;
    if !(200..=599).contains(&code) {
        return None;
    }
    let (is_last, text) = match rest.split_first() {
        None => (true, rest),
        Some((b' ', text)) => (true, text),
        Some((b'-', text)) => (false, text),
        Some(_) => return None,
    };
    Some((
        code,
        is_last,
        String::from_utf8_lossy(text).trim().to_owned(),
    ))
}

fn wrong(line: &[u8]) -> io::Error {
    let shown: String = String::from_utf8_lossy(line).chars().take(60).collect();
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the server's reply is not SMTP: {shown:?}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[tokio::test]
    async fn a_reply_of_many_lines_is_one() {
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
    async fn a_reply_may_say_little(
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
    async fn what_is_no_reply_is_an_error(#[case] mut wire: &[u8]) {
        assert!(Reply::read(&mut wire).await.is_err());
    }

    #[tokio::test]
    async fn a_reply_without_end_is_cut_off() {
        let lines = "250-x\r\n".repeat(10_000);
        assert!(Reply::read(&mut lines.as_bytes()).await.is_err());
        let line = "250 ".to_owned() + &"x".repeat(10_000_000);
        assert!(Reply::read(&mut line.as_bytes()).await.is_err());
    }
}
