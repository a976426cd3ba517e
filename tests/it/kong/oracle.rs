//! A portcullis that answers what a test tells it to, byte for byte, and keeps what it was asked.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Mutex;
use tokio_rustls::TlsAcceptor;

use crate::support::ANY_PORT;

/// A question as it came: the head of the call in lower case, and its body.
#[derive(Clone, Debug)]
pub struct Asked {
    pub head: String,
    pub body: Value,
}

/// What to do about a question.
pub enum Reply {
    /// Status 200 and this as JSON.
    Json(Value),
    /// These bytes, and the connection stays open.
    Raw(Vec<u8>),
    /// These bytes, and the connection is closed.
    Last(Vec<u8>),
    /// These bytes one by one, with a pause before each.
    Slowly(Vec<u8>, std::time::Duration),
}

pub struct Oracle {
    pub url: String,
    pub asked: Arc<Mutex<Vec<Asked>>>,
    connections: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

type Says = Arc<dyn Fn(&Value, usize) -> Reply + Send + Sync>;

impl Oracle {
    pub async fn saying(says: impl Fn(&Value, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(ANY_PORT).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (asked, connections) = (Arc::default(), Arc::default());
        let (says, kept, count): (Says, _, _) = (Arc::new(says), Arc::clone(&asked), Arc::clone(&connections));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                AtomicUsize::fetch_add(&count, 1, Ordering::Relaxed);
                tokio::spawn(converse(stream, Arc::clone(&says), Arc::clone(&kept)));
            }
        });
        Self { url, asked, connections, task }
    }

    /// Over TLS; the URL names `localhost`.
    pub async fn over_tls(
        acceptor: TlsAcceptor,
        says: impl Fn(&Value, usize) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(ANY_PORT).await.unwrap();
        let url = format!("https://127.0.0.1:{}", listener.local_addr().unwrap().port());
        let (asked, connections): (Arc<Mutex<Vec<Asked>>>, _) = (Arc::default(), Arc::default());
        let (says, kept): (Says, _) = (Arc::new(says), Arc::clone(&asked));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(stream) = acceptor.accept(stream).await else { continue };
                tokio::spawn(converse(stream, Arc::clone(&says), Arc::clone(&kept)));
            }
        });
        Self { url, asked, connections, task }
    }

    /// Over a unix socket.
    pub fn over_unix(path: &Path, says: impl Fn(&Value, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let (asked, connections): (Arc<Mutex<Vec<Asked>>>, _) = (Arc::default(), Arc::default());
        let (says, kept): (Says, _) = (Arc::new(says), Arc::clone(&asked));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, Arc::clone(&says), Arc::clone(&kept)));
            }
        });
        Self { url: format!("unix:{}", path.display()), asked, connections, task }
    }

    /// How many connections were made to it.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// How many questions it was asked.
    pub async fn count(&self) -> usize {
        self.asked.lock().await.len()
    }

    /// The last question.
    pub async fn last(&self) -> Asked {
        self.asked.lock().await.last().unwrap().clone()
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn converse(mut stream: impl AsyncRead + AsyncWrite + Unpin, says: Says, kept: Arc<Mutex<Vec<Asked>>>) {
    while let Some(asked) = question(&mut stream).await {
        let number = {
            let mut kept = kept.lock().await;
            kept.push(asked.clone());
            kept.len()
        };
        let sent = match says(&asked.body, number) {
            Reply::Json(value) => stream.write_all(&whole(200, &value)).await,
            Reply::Raw(bytes) => stream.write_all(&bytes).await,
            Reply::Last(bytes) => {
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
                return;
            }
            Reply::Slowly(bytes, pause) => {
                let mut sent = Ok(());
                for byte in bytes {
                    tokio::time::sleep(pause).await;
                    sent = stream.write_all(&[byte]).await;
                    if sent.is_err() || stream.flush().await.is_err() {
                        break;
                    }
                }
                sent
            }
        };
        if sent.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

async fn question(stream: &mut (impl AsyncRead + Unpin)) -> Option<Asked> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_ascii_lowercase();
            let length: usize = head.split("content-length: ").nth(1)?.split("\r\n").next()?.parse().ok()?;
            if bytes.len() >= end + 4 + length {
                assert_eq!(bytes.len(), end + 4 + length, "more than one question at a time");
                let body = serde_json::from_slice(&bytes[end + 4..]).unwrap_or(Value::Null);
                return Some(Asked { head, body });
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

/// A whole answer of portcullis.
pub fn whole(status: u16, value: &Value) -> Vec<u8> {
    let body = value.to_string();
    format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

/// An allow that sets these headers and nothing else.
pub fn allow(set: Value) -> Value {
    json!({"verdict": "allow", "decision": "d1", "headers": {"set": set, "remove": []}, "query": {"set": {}, "remove": []},
           "response": {"headers": {}}, "metadata": {}, "caller": null, "cache": {"for": 0, "vary": []}})
}

/// A denial with this status.
pub fn deny(status: u16) -> Value {
    json!({"verdict": "deny", "decision": "d1", "status": status, "cache": {"for": 0, "vary": []},
           "response": {"headers": {"content-type": "application/problem+json", "cache-control": "no-store"}, "body": "{\"a\":1}"}})
}
