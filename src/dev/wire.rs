//! An HTTP/1.1 connection that sends exactly the bytes it is given: for Envoy's admin port, and for requests that no well-behaved client sends.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

/// No answer that these callers want is larger.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// A response, its body whole and without chunk framing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Field lines in the order received: lower-case name, trimmed value.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of the first field line of this lower-case name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The body as text, with U+FFFD where it is not UTF-8.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidData`] where it is not JSON.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body).map_err(|_| malformed("the body is not JSON"))
    }

    fn length(&self) -> Result<Option<u64>> {
        let parse = |text: &str| text.parse().map_err(|_| malformed("content-length is not a number"));
        self.header("content-length").map(parse).transpose()
    }

    fn is_chunked(&self) -> bool {
        self.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"))
    }
}

/// A connection, TCP unless said otherwise, on which requests are written as raw bytes and answers are read one by one.
#[derive(Debug)]
pub struct Connection<S = TcpStream> {
    stream: BufReader<S>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// What the system says.
    pub async fn open(to: SocketAddr) -> Result<Self> {
        Ok(Self::over(TcpStream::connect(to).await?))
    }
}

impl<S: AsyncWrite + AsyncRead + Unpin> Connection<S> {
    /// Writes these bytes and nothing else.
    ///
    /// # Errors
    /// What the system says.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.get_mut().write_all(bytes).await
    }
}

impl<S: AsyncRead + Unpin> Connection<S> {
    /// What is read from this stream, which may be half of one.
    pub fn over(stream: S) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    /// Reads the next final answer; interim ones (100 to 199, but for 101) are skipped. `to_head`: it answers a HEAD request, so no body follows.
    ///
    /// # Errors
    /// [`ErrorKind::UnexpectedEof`] where the peer closes first, [`ErrorKind::InvalidData`] where it is not HTTP/1.
    pub async fn answer(&mut self, to_head: bool) -> Result<Answer> {
        loop {
            let mut answer = self.head().await?;
            if (100..200).contains(&answer.status) && answer.status != 101 {
                continue;
            }
            if !(to_head || matches!(answer.status, 101 | 204 | 304)) {
                answer.body = self.body(&answer).await?;
            }
            return Ok(answer);
        }
    }

    async fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        let read = (&mut self.stream).take(MAX_BYTES).read_until(b'\n', &mut line).await?;
        if read == 0 {
            return Err(Error::new(ErrorKind::UnexpectedEof, "the connection was closed"));
        }
        // One char a byte: a value that is not UTF-8 stays distinct.
        Ok(line.iter().map(|&byte| char::from(byte)).collect::<String>().trim_end_matches(['\r', '\n']).to_owned())
    }

    async fn head(&mut self) -> Result<Answer> {
        let first = self.line().await?;
        let status = first.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1));
        let status = status.and_then(|text| text.parse().ok()).ok_or_else(|| malformed("no status line"))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Ok(Answer { status, headers, body: Vec::new() });
            }
            let (name, value) = line.split_once(':').ok_or_else(|| malformed("a field line without a colon"))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    async fn body(&mut self, head: &Answer) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        if head.is_chunked() {
            loop {
                let line = self.line().await?;
                let size = line.split(';').next().unwrap_or_default().trim();
                let size = u64::from_str_radix(size, 16).map_err(|_| malformed("no chunk size"))?;
                self.exactly(size, &mut body).await?;
                let end = self.line().await?;
                if size == 0 && end.is_empty() {
                    return Ok(body);
                }
            }
        }
        match head.length()? {
            Some(length) => self.exactly(length, &mut body).await?,
            None => _ = (&mut self.stream).take(MAX_BYTES).read_to_end(&mut body).await?,
        }
        Ok(body)
    }

    async fn exactly(&mut self, size: u64, body: &mut Vec<u8>) -> Result<()> {
        if size > MAX_BYTES {
            return Err(malformed("too large"));
        }
        let read = (&mut self.stream).take(size).read_to_end(body).await?;
        if u64::try_from(read).is_ok_and(|read| read == size) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::UnexpectedEof, "the body was cut short"))
    }
}

/// One request on a connection of its own, its answer within `deadline`.
///
/// # Errors
/// [`ErrorKind::TimedOut`], and those of [`Connection::answer`].
pub async fn exchange(to: SocketAddr, request: &[u8], deadline: Duration) -> Result<Answer> {
    let answered = async {
        let mut connection = Connection::open(to).await?;
        connection.send(request).await?;
        connection.answer(request.starts_with(b"HEAD ")).await
    };
    tokio::time::timeout(deadline, answered).await.map_err(|_| Error::from(ErrorKind::TimedOut))?
}

fn malformed(why: &'static str) -> Error {
    Error::new(ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    async fn answer_to(request: &'static [u8], reply: &'static [u8]) -> Result<Answer> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let peer = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut got = vec![0; request.len()];
            stream.read_exact(&mut got).await.unwrap();
            stream.write_all(reply).await.unwrap();
            got
        });
        let answer = exchange(address, request, Duration::from_secs(5)).await;
        assert_eq!(peer.await.unwrap(), request);
        answer
    }

    #[tokio::test]
    async fn the_bytes_arrive_as_given_and_a_sized_body_is_read() {
        let reply = b"HTTP/1.1 403 No\r\nX-A: 1 \r\nx-a: 2\r\nContent-Length: 2\r\n\r\nhi";
        let answer = answer_to(b"GET /a/../\xff HTTP/1.1\r\nHost : x\n\r\n", reply).await.unwrap();
        assert_eq!((answer.status, answer.header("x-a"), answer.text().as_str()), (403, Some("1"), "hi"));
        assert_eq!(answer.headers.len(), 3);
    }

    #[tokio::test]
    async fn a_chunked_body_loses_its_framing() {
        let reply =
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n";
        assert_eq!(answer_to(b"G", reply).await.unwrap().text(), "abc0123456789");
    }

    #[tokio::test]
    async fn an_unsized_body_ends_with_the_connection() {
        assert_eq!(answer_to(b"G", b"HTTP/1.0 200 OK\r\n\r\nall of it").await.unwrap().text(), "all of it");
    }

    #[tokio::test]
    async fn interim_answers_are_skipped_and_a_head_has_no_body() {
        let reply = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n";
        assert_eq!(answer_to(b"HEAD / HTTP/1.1\r\n\r\n", reply).await.unwrap().body, b"");
    }

    #[tokio::test]
    async fn what_is_cut_short_or_no_http_is_an_error() {
        let cut = answer_to(b"G", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc").await.unwrap_err();
        assert_eq!(cut.kind(), ErrorKind::UnexpectedEof);
        assert_eq!(answer_to(b"G", b"").await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
        assert_eq!(answer_to(b"G", b"SSH-2.0\r\n").await.unwrap_err().kind(), ErrorKind::InvalidData);
    }
}
